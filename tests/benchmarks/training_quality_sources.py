"""What `training_quality.py` trains on: stored activation vectors in one order, the same for every library.

    mlp            the toy's MLP after its ReLU, d = 512, 2,048 features
    residual       the toy's residual stream after its block, d = 128, 1,024 features
    superposition  sums of a few of 128 known directions in 32 dimensions, 256 features

All are divided by one number, so that the mean squared norm is d: no library normalises them again, and one rate and
one coefficient mean the same for all.

Shape suffixes: N vectors, B those of a batch, D their width, T true directions, C tokens of context, K drawn ones.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sae.common.progress import Progress
from sae.common.seeds import torch_generator
from sae.measuring.metrics import Ablations, ablations
from sae.models.subject import boot

TRAIN, HELD_OUT, CE_BLOCKS = 307_200, 32_768, 64
HOOK_POINTS = {"mlp": "blocks.0.mlp.hook_post", "residual": "blocks.0.hook_resid_post"}
TRUE, WIDTH, ACTIVE = 128, 32, 4
"""The superposition: directions, dimensions, and how many directions are active in the mean."""


@dataclass(frozen=True)
class Task:
    """Sets what is learnt from a source, and how strongly sparsity is asked for (coefficients of summed errors)."""

    source: str
    features: int
    steps: int
    l1: float
    l0: float
    k: int
    batch: int = 1024

    @property
    def vectors(self) -> int:
        """How many are trained on; the stored ones start over when they are used up."""
        return self.steps * self.batch


TASKS = {
    "mlp": Task("mlp", 2048, 300, l1=2.0, l0=1.0, k=32),
    "residual": Task("residual", 1024, 300, l1=1.0, l0=0.25, k=16),
    "superposition": Task("superposition", 256, 400, l1=2.0, l0=2.0, k=4),
}


@dataclass(frozen=True)
class Source:
    """Holds the vectors of a task: trained on, held out, and the true directions where they are known."""

    train_ND: NDArray[np.float16]
    held_out_ND: Tensor
    true_TD: Tensor | None
    folder: Path

    @property
    def d(self) -> int:
        return self.train_ND.shape[1]

    def batches(self, task: Task, steps: int | None = None) -> Iterator[Tensor]:
        """Yield the task's batches [B, D] in their one order."""
        for step in range(steps or task.steps):
            rows_B = np.arange(step * task.batch, (step + 1) * task.batch) % len(self.train_ND)
            yield torch.from_numpy(self.train_ND[rows_B]).float()

    def facts(self) -> dict[str, str]:
        """Return the folder of the language model and the hook point; empty without a language model."""
        about = self.folder / "subject.json"
        facts: dict[str, str] = json.loads(about.read_text("utf-8")) if about.is_file() else {}
        return facts

    def ablations(self) -> Ablations | None:
        """Return what the cross-entropy with a dictionary is compared with; None without a language model."""
        if not (facts := self.facts()):
            return None
        ids_NC = torch.from_numpy(np.load(self.folder / "ids.npy")).long()
        return ablations(boot(facts["subject"], "cpu"), facts["hook_point"], ids_NC)

    def scale(self) -> float:
        """What the stored vectors were divided by."""
        return float(np.load(self.folder / "scale.npy"))


def source(name: str, folder: Path, subject: str | None = None) -> Source:
    """Read a source; make it first if it is not there. `subject`: a folder to boot instead of training the toy."""
    folder = folder / name
    if not (folder / "scale.npy").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        _superposition(folder) if name == "superposition" else _activations(HOOK_POINTS[name], folder, subject)
    true = folder / "true.npy"
    true_TD = torch.from_numpy(np.load(true)) if true.is_file() else None
    held_ND = torch.from_numpy(np.load(folder / "held_out.npy")).float()
    return Source(np.load(folder / "train.npy", mmap_mode="r"), held_ND, true_TD, folder)


def _activations(hook_point: str, folder: Path, subject: str | None) -> None:
    """Store what the training stream gives, and vectors and blocks of the text that it holds out."""
    from sae.training import config
    from sae.training.inputs import prepare
    from sae.training.ranks import Ranks

    changes = {"subject.hook_point": hook_point} | ({"subject.model": os.path.abspath(subject)} if subject else {})
    inputs = prepare(config.load("toy", changes), folder, "cpu", torch.float32, Ranks(), Progress)
    train_ND = inputs.stream.sample(TRAIN)
    ids_NC = torch.from_numpy(inputs.held_out.full().ids_NC[: HELD_OUT // inputs.held_out.ids_NC.shape[1]]).long()
    parts = [inputs.subject.activations(part_NC, hook_point).flatten(0, 1) for part_NC in ids_NC.split(32)]
    np.save(folder / "ids.npy", ids_NC[:CE_BLOCKS].numpy())
    (folder / "subject.json").write_text(json.dumps({"subject": inputs.subject.name, "hook_point": hook_point}))
    _store(folder, train_ND, torch.cat(parts))


def _superposition(folder: Path) -> None:
    """Store sums of directions: each active with one small probability, its strength uniform in [0.5, 1.5]."""
    generator = torch_generator(0, "superposition of the training benchmark")
    true_TD = torch.randn(TRUE, WIDTH, generator=generator)
    true_TD /= true_TD.norm(dim=1, keepdim=True)
    parts = [_sums(true_TD, generator) for _ in range((TRAIN + HELD_OUT) // 1024)]
    np.save(folder / "true.npy", true_TD.numpy())
    x_ND = torch.cat(parts)
    _store(folder, x_ND[:TRAIN], x_ND[TRAIN:])


def _sums(true_TD: Tensor, generator: torch.Generator) -> Tensor:
    shape = (1024, TRUE)
    active_BT = torch.rand(shape, generator=generator) < ACTIVE / TRUE
    return (active_BT * (0.5 + torch.rand(shape, generator=generator))) @ true_TD


def _store(folder: Path, train_ND: Tensor, held_out_ND: Tensor) -> None:
    scale = float(train_ND.double().square().mean().sqrt())
    np.save(folder / "train.npy", (train_ND / scale).half().numpy())
    np.save(folder / "held_out.npy", (held_out_ND / scale).half().numpy())
    np.save(folder / "scale.npy", scale)  # last: it says that all is there
