"""Registers random unit directions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sae.baselines.registry import BASELINES, Baseline
from sae.common.seeds import torch_generator

if TYPE_CHECKING:
    from torch import Tensor

    from sae.dictionary import Dictionary


def random_directions(x_BD: Tensor, seed: int) -> Dictionary:
    """Draw unit vectors uniformly, as many as there are dimensions, decoded by themselves (Cunningham et al. 2023)."""
    import torch

    from sae.baselines.directions import signed_halves

    generator = torch_generator(seed, "random directions")
    drawn_KD = torch.randn((x_BD.shape[1],) * 2, generator=generator, dtype=torch.float64)
    unit_KD = drawn_KD / drawn_KD.norm(dim=1, keepdim=True)
    return signed_halves("random", unit_KD, unit_KD, x_BD.mean(0).cpu())


BASELINES.register("random", Baseline("random", "#000000", random_directions, label="random directions"))
