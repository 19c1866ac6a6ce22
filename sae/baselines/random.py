"""Random unit directions."""

import torch
from torch import Tensor

from sae.baselines.directions import signed_halves
from sae.common.seeds import torch_generator
from sae.dictionary import Dictionary


def random_directions(x_BD: Tensor, seed: int) -> Dictionary:
    """Unit vectors drawn uniformly, as many as there are dimensions, decoded by themselves (Cunningham et al. 2023)."""
    generator = torch_generator(seed, "random directions")
    drawn_KD = torch.randn((x_BD.shape[1],) * 2, generator=generator, dtype=torch.float64)
    unit_KD = drawn_KD / drawn_KD.norm(dim=1, keepdim=True)
    return signed_halves("random", "random", unit_KD, unit_KD, x_BD.mean(0))
