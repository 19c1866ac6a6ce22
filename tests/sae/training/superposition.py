"""What the tests of training share: a toy model of superposition, a workspace to train in, a short way to train."""

from collections.abc import Iterator
from itertools import islice

import torch
from torch import Tensor

from sae.training.architectures.base import Workspace
from sae.training.architectures.recipe import Recipe
from sae.training.flat import Scratch
from sae.training.ranks import Ranks
from sae.training.trainer import Trainer

D, TRUE, ACTIVE = 24, 48, 2


def workspace(d_in: int = D, compute: torch.dtype = torch.float32) -> Workspace:
    """A CPU and one process."""
    return Workspace(d_in, "cpu", compute, Scratch("cpu"), Ranks())


def directions_FD() -> Tensor:
    """What is planted: 48 unit vectors in 24 dimensions."""
    drawn_FD = torch.randn(TRUE, D, generator=torch.Generator().manual_seed(7))
    return drawn_FD / drawn_FD.norm(dim=1, keepdim=True)


def batches(seed: int, size: int = 1024, constant: float = 0.5) -> Iterator[Tensor]:
    """Endless batches of sums of 2 of the directions, each 0.5 to 1.5 strong, plus a constant."""
    generator, true_FD = torch.Generator().manual_seed(seed), directions_FD()
    while True:
        kept_BK = torch.rand(size, TRUE, generator=generator).topk(ACTIVE).indices
        strength_BK = 0.5 + torch.rand(size, ACTIVE, generator=generator)
        yield (true_FD[kept_BK] * strength_BK[..., None]).sum(1) + constant


def trained(recipe: Recipe, steps: int, x: Iterator[Tensor], where: Workspace | None = None) -> Trainer:
    """A trainer after its steps; the first batch sets it up and is trained on too."""
    first_BD = next(x)
    trainer = Trainer(recipe, steps, first_BD, where or workspace(first_BD.shape[1]))
    with torch.no_grad():
        trainer.step(first_BD)
        for x_BD in islice(x, steps - 1):
            trainer.step(x_BD)
    return trainer


def recovered(rows_FD: Tensor) -> float:
    """Share of the planted directions with a row at cosine 0.9 or better."""
    unit_FD = rows_FD / rows_FD.norm(dim=1, keepdim=True).clamp_min(1e-12)
    return float(((directions_FD() @ unit_FD.T).amax(1) >= 0.9).double().mean())
