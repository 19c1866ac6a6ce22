"""Selects the k largest pre-activations of each vector.

Shape suffixes: B activation vectors, F features, K kept per vector, C candidates, S selected features.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

GROUP = 8
"""Features per group of the two-stage selection; of 4, 8 and 16 the fastest at 4,096 features and k = 32."""


def top_k(pre_BF: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return values and indices [..., K] of each row's k largest, in no order; which of equal ones is undefined.

    In two stages: the k largest lie in the k groups with the largest maxima, so only those groups are searched.
    """
    n_features = pre_BF.shape[-1]
    if n_features % GROUP or 2 * k * GROUP > n_features:
        largest = pre_BF.topk(k, dim=-1, sorted=False)
        return largest.values, largest.indices
    stride = n_features // GROUP  # a group's members lie apart, so that the maxima are taken over whole cache lines
    groups_BK = pre_BF.unflatten(-1, (GROUP, stride)).amax(-2).topk(k, dim=-1, sorted=False).indices
    members_G = torch.arange(0, n_features, stride, device=pre_BF.device)
    candidates_BC = (groups_BK[..., None] + members_G).flatten(-2)
    values_BK, indices_BK = pre_BF.gather(-1, candidates_BC).topk(k, dim=-1, sorted=False)
    return values_BK, candidates_BC.gather(-1, indices_BK)


@dataclass(frozen=True)
class TopK:
    """Keeps the k largest pre-activations of each vector, rectified (Gao et al. 2024)."""

    k: int
    scale_F: Tensor | None = None
    """Multiplies the pre-activations first (SAELens' `rescale_acts_by_decoder_norm`)."""
    name: ClassVar[str] = "topk"

    def __call__(self, pre_BF: Tensor) -> Tensor:
        values_BK, features_BK = self.largest(pre_BF)
        return torch.zeros_like(pre_BF).scatter_(-1, features_BK, values_BK)

    def selected(self, pre_BF: Tensor, features_S: Tensor) -> Tensor:
        """Return the selected columns [B, S] of `self(pre_BF)` without memory for the others."""
        values_BK, features_BK = self.largest(pre_BF)
        n = len(features_S)
        column_F = torch.full((pre_BF.shape[-1],), n, device=pre_BF.device)
        column_F[features_S] = torch.arange(n, device=pre_BF.device)
        acts_BS = values_BK.new_zeros((*values_BK.shape[:-1], n + 1))  # the last column is for all other features
        return acts_BS.scatter_(-1, column_F[features_BK], values_BK)[..., :n]

    def largest(self, pre_BF: Tensor) -> tuple[Tensor, Tensor]:
        """Return the k largest pre-activations of each vector, rectified, and their features, [B, K] each."""
        scaled_BF = pre_BF if self.scale_F is None else pre_BF * self.scale_F
        values_BK, features_BK = top_k(scaled_BF, self.k)
        return values_BK.relu(), features_BK
