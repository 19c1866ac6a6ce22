"""Measures why few features of a dictionary, or many, turn the answer to prompts of indirect objects.

Dictionaries of the grammar's subject, trained for the study's 800 steps or for 3,200, against PCA, on two kinds of
counterfactual prompts: the other person gives (the study's; one order of features for each pair of names), or a third
name stands for the indirect object's (Cunningham et al. 2023, by their code; one order for prompts of many names).

    python tests/benchmarks/patching.py [RECIPE ...]
"""

import sys
from collections.abc import Iterator, Sequence
from random import Random

import torch
from torch import Tensor

from sae.baselines.registry import BASELINES
from sae.common.progress import Silent
from sae.common.seeds import torch_generator
from sae.common.settings import cache_folder
from sae.dictionary import Dictionary
from sae.interventions import patching
from sae.interventions.patching import Pairs, patch, search
from sae.measuring.metrics import reconstruction
from sae.models.subject import Subject, batches, boot
from sae.tasks.accuracy import Prompts, in_tokens
from sae.tasks.grammar import Prompt, indirect_objects, sides
from sae.tasks.subject import CONTEXT, blocks, grammar_subject, recipe
from sae.tasks.words import FEMALE, MALE
from sae.training.architectures.recipe import Recipe
from sae.training.architectures.tied import Tied
from sae.training.architectures.topk import TopK
from sae.training.loop import finished, learn

HOOK_POINT, BATCH, COUNTS = "blocks.1.hook_resid_post", 512, (0, 1, 2, 4, 8, 16, 32, 64)
RECIPES: dict[str, tuple[Recipe, int]] = {
    "L1 0.003": (Tied(name="l1", expansion=4, l1=0.003, lr=2e-3, decay=0.4), 800),
    "L1 0.003, 3200 steps": (Tied(name="l1", expansion=4, l1=0.003, lr=2e-3, decay=0.4), 3_200),
    "L1 0.01, 3200 steps": (Tied(name="l1", expansion=4, l1=0.01, lr=2e-3, decay=0.4), 3_200),
    "alpha 0": (Tied(name="l1", expansion=4, l1=0.0, lr=2e-3, decay=0.4), 800),
    "TopK 8": (TopK(name="topk", expansion=4, k=8, lr=2e-3, decay=0.4), 800),
}


def third_names(n: int) -> list[Prompt]:
    """Return held-out prompts in whose counterfactuals a third name stands for the indirect object's."""
    rng, (_, unseen), prompts = Random(0), sides(0), []
    for one in indirect_objects(unseen.pairs, unseen.templates, n, 5):
        answer, giver = one.answer.strip(), one.other.strip()
        third = rng.choice([name for name in (*FEMALE, *MALE) if name not in (answer, giver)])
        prompts.append(Prompt(one.text, one.answer, one.text.replace(answer, third), f" {third}"))
    return prompts


def vectors(subject: Subject, n: int, seed: int = 0) -> Tensor:
    ids_NC = torch.from_numpy(blocks(seed, n).ids_NC).long()
    return torch.cat([subject.activations(part, HOOK_POINT).flatten(0, 1) for part in batches(ids_NC, 128)])


def stream(x_BD: Tensor) -> Iterator[Tensor]:
    generator = torch_generator(0, "order")
    while True:
        for rows in torch.randperm(len(x_BD), generator=generator).split(BATCH):
            if len(rows) == BATCH:
                yield x_BD[rows]


def curve(subject: Subject, dictionary: Dictionary, searched: Prompts, measured: Prompts) -> list[float]:
    """Return the mean KL for each number of features, and last of all for all of them."""
    order = search(Pairs(subject, dictionary, searched), COUNTS)
    done = patch(Pairs(subject, dictionary, measured), order, COUNTS)
    return [*done.kl_KP.mean(1).tolist(), float(done.whole_1P.mean())]


def main(names: Sequence[str]) -> None:
    torch.set_grad_enabled(False)
    patching.CANDIDATES = 96
    subject = boot(str(grammar_subject(cache_folder("autointerp"), recipe(0), Silent)), "cpu", False)
    x_BD, (_, unseen) = vectors(subject, -(-800 * BATCH // (2 * CONTEXT))), sides(0)
    pairs = [in_tokens(subject, indirect_objects([pair], unseen.templates, 24, row))
             for row, pair in enumerate(unseen.pairs[:2])]  # fmt: skip
    many = in_tokens(subject, third_names(32))
    for name in (*names, "PCA"):
        if name == "PCA":
            dictionary = BASELINES.get("pca").fit(x_BD[:8192], 0).at(HOOK_POINT)
        else:
            one, steps = RECIPES[name]
            (learner,) = learn([one], steps, stream(x_BD), "cpu", Silent)
            dictionary = finished(learner).dictionary(HOOK_POINT, subject.name, {})
        quality = reconstruction(dictionary, vectors(subject, 160, 9)[:4096])
        giver = torch.tensor([curve(subject, dictionary, p.take(slice(8)), p.take(slice(8, None))) for p in pairs])
        print(f"{name}: L0 {quality.l0:.1f}, FVU {quality.fvu:.3f}")
        for what, values in (
            ("giver", giver.mean(0).tolist()),
            ("third name, searched prompts", curve(subject, dictionary, many.take(slice(12)), many.take(slice(12)))),
            ("third name, other prompts", curve(subject, dictionary, many.take(slice(12)), many.take(slice(12, None)))),
        ):
            print(f"  {what}: " + " ".join(f"{value:.2f}" for value in values), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or list(RECIPES))
