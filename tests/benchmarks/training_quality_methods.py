"""How `training_quality.py` trains: ours, SAELens, dictionary_learning and sparsify, on the same batches.

Every library takes its own step with its own start, and everything that its users would have to adapt to so short a
training is given to it as shares of the steps, the same for all: warm-up, decay, and when a feature counts as dead
(their defaults, 10 million vectors or 1,000 steps, are longer than the whole training). Ours has its own defaults, of
which one differs from these: the TopK family has no warm-up. A trained autoencoder is saved by its library and read by
ours, so that one code measures all.

Shape suffixes: B vectors, D their width.
"""

import importlib
import json
import tempfile
from collections.abc import Callable, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch

import sae
from sae.dictionary import Dictionary
from sae.training.architectures.base import Workspace
from sae.training.flat import Scratch
from sae.training.ranks import Ranks
from sae.training.trainer import Trainer
from tests.benchmarks.training_peers import sae_of_lens, training_of_lens
from tests.benchmarks.training_quality_sources import Source, Task
from tests.sae.training import recipes

WARM_UP, DECAY, DEAD_AFTER = 0.05, 0.2, 1 / 6
"""Shares of the training: the rate rises, the rate falls to 0, a feature that was silent for so long is dead."""
PREFIXES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
Train = Callable[[Task, Source, float, int, Mapping[str, Any]], Dictionary]
"""From a task, its source, a rate, a seed and changed settings to a trained dictionary."""


def ours(family: str) -> Train:
    """Return how we train: the recipe's defaults but for rate and coefficients."""

    def train(task: Task, source: Source, rate: float, seed: int, changes: Mapping[str, Any]) -> Dictionary:
        recipe = recipe_of(family, task, source.d, {"lr": rate, "seed": seed} | changes)
        workspace = Workspace(source.d, "cpu", torch.float32, Scratch("cpu"), Ranks())
        trainer = Trainer(recipe, task.steps, next(source.batches(task)), workspace)
        with torch.no_grad():
            for x_BD in source.batches(task):
                trainer.step(x_BD)
        return trainer.dictionary("hook", "model", {})

    return train


def recipe_of(family: str, task: Task, d: int, changes: Mapping[str, Any]) -> recipes.Recipe:
    """Return our recipe of a family; coefficients of sparsity are for summed errors, TopK's loss is relative."""
    summed = {"squared_error": "sum"}
    kinds: dict[str, tuple[type[recipes.Recipe], dict[str, Any]]] = {
        "relu": (recipes.ReLU, summed | {"l1": task.l1}),
        "tied": (recipes.Tied, summed | {"l1": task.l1}),
        "gated": (recipes.Gated, summed | {"l1": task.l1}),
        "jumprelu": (recipes.JumpReLU, summed | {"l0": task.l0}),
        "topk": (recipes.TopK, {"k": task.k}),
        "batch_topk": (recipes.BatchTopK, {"k": task.k}),
        "matryoshka": (recipes.Matryoshka, {"k": task.k, "prefixes": PREFIXES}),
    }
    kind, settings = kinds[family]
    return kind(**{"expansion": task.features / d, "normalise": False} | settings | dict(changes))


def sae_lens(architecture: str, settings: Callable[[Task], dict[str, Any]]) -> Train:
    """Return how SAELens trains: `SAETrainer.step` with the counts that its `fit` keeps."""

    def train(task: Task, source: Source, rate: float, seed: int, changes: Mapping[str, Any]) -> Dictionary:
        torch.manual_seed(seed)
        autoencoder = sae_of_lens(source.d, task.features, architecture, "cpu", **settings(task), **changes)
        schedule = {
            "lr": rate,
            "lr_end": 1e-3 * rate,
            "lr_warm_up_steps": int(WARM_UP * task.steps),
            "lr_decay_steps": int(DECAY * task.steps),
            "dead_feature_window": int(DEAD_AFTER * task.steps),
        }
        trainer = training_of_lens(autoencoder, task.vectors, task.batch, "cpu", **schedule)
        for x_BD in source.batches(task):
            trainer.step(x_BD)
            trainer.n_training_steps += 1
        with tempfile.TemporaryDirectory() as folder:
            autoencoder.save_inference_model(folder)
            return sae.load(folder)

    return train


def dictionary_learning(kind: str, settings: Callable[[Task], dict[str, Any]], warm_sparsity: bool = False) -> Train:
    """Return how dictionary_learning trains: `update` from step 0 on, as `trainSAE` calls it."""

    def train(task: Task, source: Source, rate: float, seed: int, changes: Mapping[str, Any]) -> Dictionary:
        warm_up = int(WARM_UP * task.steps)
        about = {
            "steps": task.steps, "activation_dim": source.d, "dict_size": task.features, "layer": 0, "lm_name": "",
            "device": "cpu", "lr": rate, "seed": seed, "warmup_steps": warm_up,
            "decay_start": int((1 - DECAY) * task.steps),
        } | ({"sparsity_warmup_steps": warm_up} if warm_sparsity else {})  # fmt: skip
        module, name = kind.split(".")
        trainers = importlib.import_module(f"dictionary_learning.trainers.{module}")
        trainer = getattr(trainers, name)(**about | settings(task) | dict(changes))
        if hasattr(trainer, "dead_feature_threshold"):
            trainer.dead_feature_threshold = int(DEAD_AFTER * task.vectors)
        for step, x_BD in enumerate(source.batches(task)):
            trainer.update(step, x_BD)
        with tempfile.TemporaryDirectory() as folder:
            torch.save(trainer.ae.state_dict(), Path(folder) / "ae.pt")
            (Path(folder) / "config.json").write_text(json.dumps({"trainer": trainer.config}, default=str))
            return sae.load(folder)

    return train


def sparsify(task: Task, source: Source, rate: float, seed: int, changes: Mapping[str, Any]) -> Dictionary:
    """Train as sparsify does: what its `Trainer.fit` and hook do with a batch, with Adam, AuxK off (its default)."""
    from sparsify import SparseCoder, SparseCoderConfig
    from transformers import get_linear_schedule_with_warmup

    torch.manual_seed(seed)
    config = SparseCoderConfig(num_latents=task.features, k=task.k, **changes)
    coder = SparseCoder(source.d, config, "cpu", dtype=torch.float32)
    coder.b_dec.data = next(source.batches(task)).mean(0)
    adam = torch.optim.Adam(coder.parameters(), lr=rate)
    schedule = get_linear_schedule_with_warmup(adam, int(WARM_UP * task.steps), task.steps)
    for x_BD in source.batches(task):
        coder.set_decoder_norm_to_unit_norm()
        coder(x=x_BD, y=x_BD, dead_mask=None).fvu.backward()
        coder.remove_gradient_parallel_to_decoder_directions()
        adam.step()
        adam.zero_grad()
        schedule.step()
    with tempfile.TemporaryDirectory() as folder:
        coder.save_to_disk(Path(folder))
        return sae.load(folder)


def _widths(task: Task) -> list[int]:
    return [round(share * task.features) for share in PREFIXES]


def _groups(task: Task) -> dict[str, Any]:
    shares = [after - before for before, after in zip((0.0, *PREFIXES), PREFIXES, strict=False)]
    assert list(accumulate(shares))[-1] == 1
    return {"k": task.k, "group_fractions": shares}


METHODS: dict[str, dict[str, Train]] = {
    "relu": {
        "ours": ours("relu"),
        "SAELens": sae_lens("standard", lambda task: {"l1_coefficient": task.l1}),
        "dictionary_learning": dictionary_learning(
            "standard.StandardTrainer", lambda task: {"l1_penalty": task.l1}, True
        ),
    },
    "tied": {"ours": ours("tied")},
    "gated": {
        "ours": ours("gated"),
        "SAELens": sae_lens("gated", lambda task: {"l1_coefficient": task.l1}),
        "dictionary_learning": dictionary_learning("gdm.GatedSAETrainer", lambda task: {"l1_penalty": task.l1}, True),
    },
    "topk": {
        "ours": ours("topk"),
        "SAELens": sae_lens("topk", lambda task: {"k": task.k}),
        "dictionary_learning": dictionary_learning("top_k.TopKTrainer", lambda task: {"k": task.k}),
        "sparsify": sparsify,
    },
    "jumprelu": {
        "ours": ours("jumprelu"),
        "SAELens": sae_lens("jumprelu", lambda task: {"l0_coefficient": task.l0}),
    },
    "batch_topk": {
        "ours": ours("batch_topk"),
        "SAELens": sae_lens("batchtopk", lambda task: {"k": task.k}),
        "dictionary_learning": dictionary_learning("batch_top_k.BatchTopKTrainer", lambda task: {"k": task.k}),
    },
    "matryoshka": {
        "ours": ours("matryoshka"),
        "SAELens": sae_lens("matryoshka_batchtopk", lambda task: {"k": task.k, "matryoshka_widths": _widths(task)}),
        "dictionary_learning": dictionary_learning("matryoshka_batch_top_k.MatryoshkaBatchTopKTrainer", _groups),
    },
}
"""How each family is trained, by library; ours first."""
