"""Approximates vectors greedily by few rows of a matrix: matching pursuit (Mallat and Zhang 1993), all vectors at once.

Shape suffixes: B vectors, D their width, F rows, S selected rows, R vectors that are not done yet.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor


@dataclass(frozen=True)
class MatchingPursuit:
    """Adds decoder rows one after another: each by its inner product with what the rows before it leave of the vector.

    An activation function that takes the centred vectors [B, D] themselves. As in SAELens, a step adds the row with
    the largest inner product if that is positive, and does not divide by the row's norm, which training keeps at 1.
    """

    W_FD: Tensor
    """The decoder rows, which are the encoder's directions too."""
    max_steps: int
    residual_threshold: float
    """A vector is done when what is left of it is shorter; 0: never for that reason."""
    stop_on_repeat: bool
    """A vector is done after a step that adds no new row."""
    name: ClassVar[str] = "matching_pursuit"

    @property
    def options(self) -> dict[str, Any]:
        """Return everything but the rows; ready for JSON."""
        return {name: value for name, value in vars(self).items() if name != "W_FD"}

    def __call__(self, x_BD: Tensor) -> Tensor:
        weights_BF, residual_BD = x_BD.new_zeros(len(x_BD), len(self.W_FD)), x_BD.clone()
        rows_R = torch.arange(len(x_BD), device=x_BD.device)
        for _ in range(self.max_steps):
            if not len(rows_R):
                break
            product_R, feature_R = (residual_BD[rows_R] @ self.W_FD.T).max(1)
            product_R = product_R.relu()
            is_new_R = (weights_BF[rows_R, feature_R] == 0) & (product_R > 0)
            weights_BF[rows_R, feature_R] += product_R
            residual_BD[rows_R] -= product_R[:, None] * self.W_FD[feature_R]
            goes_on_R = residual_BD[rows_R].norm(dim=1) >= self.residual_threshold
            rows_R = rows_R[goes_on_R & is_new_R] if self.stop_on_repeat else rows_R[goes_on_R]
        return weights_BF

    def selected(self, x_BD: Tensor, features_S: Tensor) -> Tensor:
        """Return the selected columns [B, S] of `self(x_BD)`; all rows compete with each other."""
        return self(x_BD)[:, features_S]
