"""Trains matrices with Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon) in the precision they have.

`torch.optim.Muon` orthogonalises in bfloat16, which processors without it emulate: there, on this project's toy, that
took a third of each step; in float32 it takes a twentieth.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic whose repetition moves singular values to about 1 in the fewest steps (same source)."""
STEPS = 5
MOMENTUM = 0.95


class Muon(torch.optim.Optimizer):
    """Moves each matrix along its Nesterov momentum with all singular values made about 1; no weight decay."""

    def __init__(self, params: Iterable[Tensor], lr: float) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # nobody evaluates the loss again
        """Take one step; a matrix that is taller than wide moves further, as in the source."""
        for group in self.param_groups:
            for weight_AB in group["params"]:
                state = self.state[weight_AB]
                momentum_AB = state.setdefault("momentum", torch.zeros_like(weight_AB))
                momentum_AB.lerp_(weight_AB.grad, 1 - MOMENTUM)
                update_AB = orthogonalised(weight_AB.grad.lerp(momentum_AB, MOMENTUM))
                weight_AB.add_(update_AB, alpha=-group["lr"] * math.sqrt(max(1.0, len(weight_AB) / weight_AB.shape[1])))


def orthogonalised(matrix_AB: Tensor) -> Tensor:
    """Return a matrix of the same singular vectors with singular values of about 1 (0.7 to 1.2), [A, B].

    Tiny ones stay smaller.
    """
    is_tall = matrix_AB.shape[0] > matrix_AB.shape[1]
    x = matrix_AB.T if is_tall else matrix_AB
    x = x / x.norm().clamp(min=1e-7)
    first, third, fifth = COEFFICIENTS
    for _ in range(STEPS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=third, alpha=fifth), x, beta=first)
    return x.T if is_tall else x
