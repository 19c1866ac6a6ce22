"""One process of a training that several share; `test_ranks.py` starts it as `torchrun` would, and calls it alone.

    python -m tests.sae.training.ranks_worker data|features FOLDER

writes FOLDER/RANK.safetensors: of every dictionary its weights, what training continues from, and what was measured.
"""

import os
import sys
from dataclasses import fields
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from sae.common.progress import Silent
from sae.dictionary import Dictionary
from sae.training import trainer
from sae.training.architectures.base import Workspace
from sae.training.flat import Scratch
from sae.training.loop import Learner, enrol, train
from sae.training.ranks import Ranks, join
from tests.sae.training.recipes import BatchTopK, Gated, JumpReLU, Recipe, ReLU, Resampling, Tied, TopK
from tests.sae.training.superposition import D, batches

STEPS, BATCH, EVERY, LOOK_EVERY = 24, 128, 6, 4
COMMON: dict[str, Any] = {"expansion": 4, "encoder_start": 1.0, "lr": 1e-2, "dead_after": 6 * BATCH}
RESAMPLING = Resampling(steps=(10, 18), silent_steps=4, inputs=5 * BATCH)
RECIPES: tuple[Recipe, ...] = (
    ReLU(name="relu", l1=0.05, l1_warmup=0.5, clip=0.1, resampling=RESAMPLING, **COMMON),
    Tied(name="tied", l1=0.05, clip=0.1, **COMMON),
    Gated(name="gated", l1=0.05, clip=1, **COMMON),
    JumpReLU(name="jumprelu", l0=0.01, bandwidth=0.1, threshold=0.1, **COMMON),
    TopK(name="topk", k=3, k_aux=4, aux=0.5, clip=1, **COMMON),
    TopK(name="topk_all_aux", k=3, k_aux=50, aux=0.5, **COMMON),
    TopK(name="topk_wide", k=60, **COMMON),
    BatchTopK(name="batch_topk", k=3, k_aux=4, aux=0.5, **COMMON),
    ReLU(name="relu_encoder", l1=0.05, clip=0.1, resampling=RESAMPLING, frozen="encoder", **COMMON),
    ReLU(name="relu_near", l1=0.05, clip=0.1, resampling=RESAMPLING, frozen="near_decoder", **COMMON),
    TopK(name="topk_decoder", k=3, k_aux=4, aux=0.5, clip=1, frozen="decoder", **COMMON),
)
SILENCED = (1, 5, 7, 30, 47, 60, 95)
"""Features, of 96, that are made to be silent at the start: five in the first half, two in the second."""
SILENCED_FIRST = (1, 5, 7, 30, 47)
SILENT_BIAS, FAINT = -50.0, 0.01
"""The TopK family's are faint instead: never among the k largest, but with something for AuxK to teach."""


def run(ranks: Ranks) -> dict[str, Tensor]:
    """Train every recipe on one stream; the batch is given whole to each process and shared here."""
    stream = batches(3, BATCH)
    first_BD = next(stream)
    learners = enrol(RECIPES, STEPS, first_BD, Workspace(D, "cpu", torch.float64, Scratch("cpu"), ranks))
    for learner in learners:
        _silence(learner, ranks)
    rows: list[dict[str, Any]] = []
    own = (x_BD.chunk(ranks.parts)[ranks.part] for x_BD in stream)
    train(learners, islice(own, 10 * STEPS), Silent, EVERY, rows.append)
    result: dict[str, Tensor] = {}
    for learner in learners:
        name, made = learner.name, learner.trainer
        assert learner.problem is None, learner.problem
        result |= {f"{name}/state/{key}": value.clone() for key, value in made.tensors().items()}
        result |= {f"{name}/made/{key}": value for key, value in _tensors(made.dictionary("h", "m", {})).items()}
        result[f"{name}/measured"] = _measured(name, rows)
        resampled = [row["features"] for row in rows if row["dictionary"] == name and row["status"] == "resampled"]
        result[f"{name}/resampled"] = torch.tensor(resampled)
    return result


def _silence(learner: Learner, ranks: Ranks) -> None:
    """Make some features silent; of BatchTopK's all in the first process."""
    autoencoder = learner.trainer.autoencoder
    whole_F = torch.zeros(autoencoder.n_features, dtype=torch.bool)
    whole_F[list(SILENCED_FIRST if learner.name == "batch_topk" else SILENCED)] = True
    own_F = ranks.own_features(whole_F)
    if "topk" in learner.name:
        autoencoder.params["W_enc"][own_F] *= FAINT
    else:
        autoencoder.params["b_gate" if learner.name == "gated" else "b_enc"][own_F] = SILENT_BIAS


def _tensors(dictionary: Dictionary) -> dict[str, Tensor]:
    """Weights and the activation's parameters."""
    activation = dictionary.activation
    named = {field.name: getattr(dictionary, field.name) for field in fields(dictionary)}
    named |= {field.name: getattr(activation, field.name) for field in fields(activation)}
    return {name: value.contiguous().clone() for name, value in named.items() if isinstance(value, Tensor)}


def _measured(name: str, rows: list[dict[str, Any]]) -> Tensor:
    own = [row for row in rows if row["dictionary"] == name and row["status"] == "ok"]
    return torch.tensor([[row[key] for key in ("loss", "l0", "fvu", "dead")] for row in own], dtype=torch.float64)


def main(folder: str, *ports: str) -> None:
    """Train by data, then by features, in the same processes: importing torch costs more than either."""
    trainer.LOOK_EVERY = LOOK_EVERY
    splits: tuple[Any, ...] = ("data", "features")
    for split, port in zip(splits, ports, strict=True):
        os.environ["MASTER_PORT"] = port
        ranks = join(split, "cpu")
        try:
            save_file(run(ranks), Path(folder) / f"{split}-{ranks.rank}.safetensors")
            ranks.barrier()
        finally:
            ranks.leave()


if __name__ == "__main__":
    main(*sys.argv[1:])
