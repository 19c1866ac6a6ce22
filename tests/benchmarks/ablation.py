"""Prints how many features are ablated a minute: `python tests/benchmarks/ablation.py SUBJECT`, a toy's directory.

Random TopK features (2,048, k = 16) of the MLP, each on ten blocks of random tokens, of which half is measured; the
work does not depend on what the weights are. One thread: set OMP_NUM_THREADS=1.
"""

import sys
import time

import torch

from sae.dictionary import Dictionary, TopK
from sae.interventions.effects import Passages, ablate
from sae.models.subject import boot

HOOK = "blocks.0.mlp.hook_post"
FEATURES, EACH, CONTEXT = 60, 10, 128


def main() -> None:
    subject = boot(sys.argv[1], prepend_bos=False)
    generator = torch.Generator().manual_seed(0)
    W_FD = torch.nn.functional.normalize(torch.randn(2048, subject.width(HOOK), generator=generator))
    bias_F, bias_D = torch.zeros(len(W_FD)), torch.zeros(W_FD.shape[1])
    dictionary = Dictionary("random", "sae", W_FD.T.contiguous(), bias_F, W_FD, bias_D, TopK(16)).at(HOOK)
    n = FEATURES * EACH
    ids_PC = torch.randint(0, subject.vocabulary, (n, CONTEXT), generator=generator)
    start_P = torch.randint(0, 2, (n,), generator=generator) * CONTEXT // 2
    feature_P = torch.arange(FEATURES).repeat_interleave(EACH)
    passages = Passages(ids_PC, torch.full((n,), CONTEXT), start_P, start_P + CONTEXT // 2, feature_P)
    wall, cpu = time.perf_counter(), time.process_time()
    ablate(subject, dictionary, torch.arange(FEATURES), passages)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{60 * FEATURES / wall:.0f} features a minute, {60 * FEATURES / cpu:.0f} a minute of CPU")


if __name__ == "__main__":
    main()
