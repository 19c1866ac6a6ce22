"""Sampling records of every feature of a dictionary: ours, a pass written by hand (the floor), and delphi's.

    python tests/benchmarks/sampling.py --tokens 1048576
    python tests/benchmarks/sampling.py --methods floor ours delphi --delphi CHECKOUT --python PYTHON

Each runs in a process of its own, on one thread; CPU seconds (of all threads, without start and boot), their ratio to
the floor of the same call, and peak memory. The subject is the demo's toy with random weights (one layer, d_model 128,
512 neurons), small against the dictionary: a TopK of 2,048 features on the neurons, k = 32. The text is random tokens
with the frequencies of Zipf's law, in documents of eight blocks. By default 40 top records are drawn of each feature to
explain it, and 50 active and 50 silent ones to score it.

The floor keeps the numbers of each feature's top fragments and of two uniform draws of its active and silent ones, and
its activity count: no activations, no statistics, no sides, no records. Not a test: it asserts nothing.
"""

import argparse
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

HOOK = "blocks.0.mlp.hook_post"
CONTEXT, BLOCKS_OF_DOCUMENT = 128, 8


@dataclass(frozen=True)
class Size:
    """Describes what is sampled. `rare`: the share of features that are never active."""

    tokens: int = 131_072
    features: int = 2048
    sampled: int = 0
    """Features that are sampled of each dictionary; 0: all."""
    dictionaries: int = 1
    d_model: int = 128
    d_mlp: int = 512
    k: int = 32
    """0: a JumpReLU of the same density instead of a TopK."""
    rare: float = 0.0
    fragment: int = 32
    top: int = 40
    active: int = 50
    silent: int = 50


def ids(size: Size) -> Any:
    """Token ids [blocks, CONTEXT] with the frequencies of Zipf's law; none of the first 257, which are single bytes."""
    import numpy as np

    rng = np.random.default_rng(0)
    p = 1 / np.arange(1, 1748)
    return rng.choice(1747, (size.tokens // CONTEXT, CONTEXT), p=p / p.sum()).astype(np.int32) + 300


def make_model(folder: Path, size: Size) -> None:
    """Write a Hugging Face directory: the toy with random weights and a tokenizer."""
    import numpy as np
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    from sae.data.corpus import read_documents
    from sae.models.toy import save_toy, train_tokenizer
    from sae.models.toy_recipe import Toy

    torch.manual_seed(0)
    recipe = Toy(d_model=size.d_model, d_mlp=size.d_mlp)
    config = GPT2Config(
        vocab_size=2048, n_positions=CONTEXT, n_embd=size.d_model, n_inner=size.d_mlp, n_layer=1, n_head=4,
        activation_function="relu", initializer_range=0.3, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    texts = [document.text for document in read_documents("stdlib", 2_000_000)]
    model = GPT2LMHeadModel(config).eval()
    save_toy(folder, model, train_tokenizer(texts, 2048), recipe, {})
    with torch.no_grad():
        x_BD = _neurons(model, torch.from_numpy(ids(size)[:32]).long())
    np.save(folder / "mean.npy", x_BD.mean(0).numpy())


def weights(size: Size, folder: Path, seed: int = 0) -> tuple[Any, Any]:
    """Unit directions [features, d_mlp] and biases, as of a b_dec that is the neurons' mean: features are about equally
    often active. A JumpReLU's thresholds, which the biases hold too, leave two percent; a rare feature is never active.
    """
    import numpy as np
    import torch

    generator = torch.Generator().manual_seed(seed)
    w_FD = torch.nn.functional.normalize(torch.randn(size.features, size.d_mlp, generator=generator), dim=1)
    mean_D = torch.from_numpy(np.load(folder / "model" / "mean.npy"))
    is_rare_F = torch.rand(size.features, generator=generator) < size.rare
    return w_FD, torch.where(is_rare_F, -1e6, -(w_FD @ mean_D))


def _neurons(model: Any, ids_NC: Any) -> Any:
    """What the MLP's neurons hold on blocks of tokens, [tokens, d_mlp]; the model runs no further."""
    seen: list[Any] = []

    def hook(module: object, args: object, output: Any) -> None:
        seen.append(output.flatten(0, 1))
        raise StopIteration

    handle = model.transformer.h[0].mlp.act.register_forward_hook(hook)
    with contextlib.suppress(StopIteration):
        model.transformer(ids_NC)
    handle.remove()
    return seen[0]


def ours(size: Size, folder: Path) -> dict[str, float]:
    """CPU seconds of the two halves of `sample`, and of writing the records."""
    import numpy as np
    import torch

    from autointerp.config import build
    from autointerp.sampling.build import build as build_records
    from autointerp.sampling.dictionaries import Measured
    from autointerp.sampling.engines.local import LocalEngine
    from autointerp.sampling.prepare import Prepared
    from autointerp.sampling.select import select
    from autointerp.store import RunFolder
    from sae.common.progress import Silent
    from sae.data.blocks import Blocks
    from sae.dictionary import Dictionary, JumpReLU, TopK
    from sae.models.subject import boot

    ids_NC = ids(size)
    document_N = np.arange(len(ids_NC), dtype=np.int32) // BLOCKS_OF_DOCUMENT
    text = Blocks(ids_NC, np.full(len(ids_NC), CONTEXT, np.int32), document_N, document_N)
    measured = []
    for seed in range(size.dictionaries):
        w_FD, b_F = weights(size, folder, seed)
        kind = TopK(size.k) if size.k else JumpReLU(torch.full((size.features,), 3.5))
        one = Dictionary(f"d{seed}", "sae", w_FD.T.contiguous(), b_F, w_FD, torch.zeros(size.d_mlp), kind).at(HOOK)
        measured.append(Measured(one, dict.fromkeys(("l0", "fvu", "dead", "ce_recovered")), one.name))
    subject = boot(str(folder / "model"), "cpu", False)
    prepared = Prepared(subject, text, tuple(measured), {})
    sampling = {
        "features": size.sampled or size.features, "fragment": size.fragment, "population": 0,
        "explain": {"top": size.top}, "score": {"quantile": size.active, "inactive": size.silent},
    }  # fmt: skip
    config = build({"sampling": sampling}, {"corpus.context": CONTEXT}, "benchmark")
    start, begin = megabytes(), time.process_time()
    selection = select(prepared, config, LocalEngine(), Silent)
    selected = time.process_time()
    drawn = build_records(prepared, selection, config)
    sampled, peak = time.process_time(), megabytes()
    (folder / "run").mkdir(exist_ok=True)
    RunFolder(folder / "run").write_features(drawn.features)
    return {
        "seconds": sampled - begin, "select": selected - begin, "records": sampled - selected,
        "written": time.process_time() - sampled, "MB_before": start, "MB": peak, "MB_written": megabytes(),
        "features": len(drawn.features), "n": sum(len(f.explain) + len(f.score) for f in drawn.features),
    }  # fmt: skip


def floor(size: Size, folder: Path) -> dict[str, float]:
    """The model's forward pass by hand, encoder, top-k, fragment maxima, counts, and three streaming top lists."""
    import torch
    from transformers import GPT2LMHeadModel

    model = GPT2LMHeadModel.from_pretrained(folder / "model").eval()
    made = (weights(size, folder, seed) for seed in range(size.dictionaries))
    encoders = [(w_FD.T.contiguous(), b_F) for w_FD, b_F in made]
    ids_NC = torch.from_numpy(ids(size)).long()
    kept = [[_Top(size.features, n) for n in (size.top, size.active, size.silent)] for _ in encoders]
    counts = torch.zeros(size.dictionaries, size.features)
    start, begin = megabytes(), time.process_time()
    with torch.no_grad():
        for number, part_NC in enumerate(ids_NC.split(32)):
            x_BD = _neurons(model, part_NC)
            for (w_DF, b_F), (top, active, silent), count_F in zip(encoders, kept, counts, strict=True):
                pre_BF = torch.addmm(b_F, x_BD, w_DF)
                values_BK, index_BK = pre_BF.topk(size.k, dim=1, sorted=False)
                values_BK.relu_()
                count_F += torch.bincount(index_BK[values_BK > 0], minlength=size.features)
                acts_BF = pre_BF.zero_().scatter_(1, index_BK, values_BK)
                max_FM = acts_BF.unflatten(0, (-1, size.fragment)).amax(1).T.contiguous()
                uniform_FM, is_active_FM = torch.rand_like(max_FM), max_FM > 0
                first = number * max_FM.shape[1]
                top.add(max_FM, first)
                active.add(uniform_FM * is_active_FM, first)
                silent.add(uniform_FM * ~is_active_FM, first)
    return {"seconds": time.process_time() - begin, "MB_before": start, "MB": megabytes()}


class _Top:
    """The largest keys of each feature so far, and their fragments."""

    def __init__(self, n_features: int, keep: int) -> None:
        import torch

        self._key_FK, self._fragment_FK = torch.zeros(n_features, keep), torch.zeros(n_features, keep).long()

    def add(self, key_FM: Any, first: int) -> None:
        import torch

        number_FM = (first + torch.arange(key_FM.shape[1])).expand_as(key_FM)
        keep = self._key_FK.shape[1]
        self._key_FK, index_FK = torch.cat([self._key_FK, key_FM], 1).topk(keep, dim=1, sorted=False)
        self._fragment_FK = torch.cat([self._fragment_FK, number_FM], 1).gather(1, index_FK)


def delphi(size: Size, folder: Path) -> dict[str, float]:
    """delphi's cache, its splits on disk, its constructor and sampler for every latent, as it calls them."""
    import torch
    from delphi.config import CacheConfig, ConstructorConfig, SamplerConfig
    from delphi.latents import LatentCache, LatentDataset
    from transformers import AutoTokenizer, GPT2LMHeadModel

    hook_point, raw = "transformer.h.0.mlp.act", folder / "latents"
    model = GPT2LMHeadModel.from_pretrained(folder / "model").eval()
    w_FD, b_F = weights(size, folder)
    w_DF = w_FD.T.contiguous()

    def encode(x_NCD: Any) -> Any:
        pre_NCF = x_NCD @ w_DF + b_F
        values, index = pre_NCF.topk(size.k, dim=-1, sorted=False)
        return torch.zeros_like(pre_NCF).scatter_(-1, index, values.relu())

    tokens = torch.from_numpy(ids(size)).long()
    start, begin = megabytes(), time.process_time()
    cache = LatentCache(model, {hook_point: encode}, batch_size=32)
    cache.run(size.tokens, tokens)
    cache.save_splits(5, raw)
    cache.save_config(raw, CacheConfig(cache_ctx_len=CONTEXT), str(folder / "model"))
    cached = time.process_time()
    del cache
    sampler = SamplerConfig(n_examples_train=size.top, n_examples_test=size.active, train_type="top")
    constructor = ConstructorConfig(example_ctx_len=size.fragment, n_non_activating=size.silent)
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    latents = {hook_point: torch.arange(size.features)}
    records = LatentDataset(raw, sampler, constructor, tokenizer, [hook_point], latents)
    kept = [(one.latent, one.train, one.test, one.not_active) for one in records]
    end = time.process_time()
    return {
        "seconds": end - begin, "cache": cached - begin, "records": end - cached, "MB_before": start,
        "MB": megabytes(), "features": len(kept), "n": sum(sum(map(len, one[1:])) for one in kept),
    }  # fmt: skip


def megabytes() -> float:
    """Most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


METHODS: dict[str, Callable[[Size, Path], dict[str, float]]] = {"floor": floor, "ours": ours, "delphi": delphi}


def measured(method: str, size: Size, folder: Path, python: str, checkout: Path | None) -> dict[str, float]:
    """Run one method in a process of its own, on one thread; delphi with its own interpreter, from its checkout."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    if method == "delphi":
        environment["PYTHONPATH"] = str(checkout)
    command = [
        python if method == "delphi" else sys.executable,
        __file__,
        "--child",
        method,
        str(folder),
        json.dumps(asdict(size)),
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        method, folder, size = sys.argv[2:]
        print(json.dumps(METHODS[method](Size(**json.loads(size)), Path(folder))))
        return
    parser = argparse.ArgumentParser(description="Sampling: ours against a pass written by hand, and delphi's.")
    for name, default in asdict(Size()).items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    parser.add_argument("--methods", nargs="+", default=["floor", "ours"], choices=list(METHODS))
    parser.add_argument("--delphi", type=Path, help="delphi's checkout; needed for --methods delphi")
    parser.add_argument("--python", default=sys.executable, help="the Python that delphi's packages are installed for")
    arguments = vars(parser.parse_args())
    methods, checkout, python = (arguments.pop(name) for name in ("methods", "delphi", "python"))
    size = Size(**arguments)
    print(size)
    with tempfile.TemporaryDirectory() as name:
        make_model(Path(name) / "model", size)
        results = {method: measured(method, size, Path(name), python, checkout) for method in methods}
    base = results.get("floor", {"seconds": float("nan")})["seconds"]
    for method, result in results.items():
        rest = ", ".join(f"{key} {value:,.1f}" for key, value in result.items() if key not in ("seconds", "MB"))
        print(f"{method:6} {result['seconds']:8.1f} CPU s = {result['seconds'] / base:5.2f} x floor, "
              f"peak {result['MB']:6.0f} MB ({rest})")  # fmt: skip


if __name__ == "__main__":
    main()
