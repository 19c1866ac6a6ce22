"""Holds the functions that make features >= 0 of pre-activations, and what each computes of selected features alone.

Shape suffixes: B activation vectors, F features, K kept ones, S selected features.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sae import nnls
from sae.largest import TopK as TopK
from sae.pursuit import MatchingPursuit


@dataclass(frozen=True)
class ReLU:
    """Computes max(0, pre)."""

    name: ClassVar[str] = "relu"

    def __call__(self, pre_BF: Tensor) -> Tensor:
        return pre_BF.relu()

    def select(self, features_S: Tensor) -> "ReLU":
        """Return the activation function of the selected features alone."""
        return self


@dataclass(frozen=True)
class GroupMax:
    """Keeps the largest pre-activation of each of k contiguous groups, rectified (sparsify's `groupmax`)."""

    k: int
    name: ClassVar[str] = "groupmax"

    def __call__(self, pre_BF: Tensor) -> Tensor:
        grouped_BKG = pre_BF.unflatten(-1, (self.k, -1))
        values_BK1, index_BK1 = grouped_BKG.max(-1, keepdim=True)
        return torch.zeros_like(grouped_BKG).scatter_(-1, index_BK1, values_BK1.relu()).flatten(-2)

    def selected(self, pre_BF: Tensor, features_S: Tensor) -> Tensor:
        """Return the selected columns [B, S] of `self(pre_BF)`."""
        return self(pre_BF)[:, features_S]


@dataclass(frozen=True)
class JumpReLU:
    """Computes pre where pre > max(0, threshold), else 0 (Rajamanoharan et al. 2024); also BatchTopK at inference."""

    threshold_F: Tensor
    name: ClassVar[str] = "jumprelu"

    def __call__(self, pre_BF: Tensor) -> Tensor:
        ones_BF = torch.empty_like(pre_BF)  # where active, else zeros: multiplying by truth values takes longer
        return pre_BF.relu() * torch.gt(pre_BF.detach(), self.threshold_F.detach(), out=ones_BF)

    def select(self, features_S: Tensor) -> "JumpReLU":
        """Return the activation function of the selected features alone."""
        return JumpReLU(self.threshold_F[features_S])


@dataclass(frozen=True)
class Gated:
    """Computes a gate and a magnitude of the same direction: 1[u + b_gate > 0] * relu(exp(r_mag) u + b_mag)."""

    b_gate_F: Tensor
    r_mag_F: Tensor
    b_mag_F: Tensor
    name: ClassVar[str] = "gated"

    def __call__(self, pre_BF: Tensor) -> Tensor:
        magnitude_BF = (pre_BF * self.r_mag_F.exp() + self.b_mag_F).relu()
        return magnitude_BF * (pre_BF + self.b_gate_F > 0)

    def select(self, features_S: Tensor) -> "Gated":
        """Return the activation function of the selected features alone."""
        return Gated(self.b_gate_F[features_S], self.r_mag_F[features_S], self.b_mag_F[features_S])


@dataclass(frozen=True)
class NonNegative:
    """Computes the weights h >= 0 that minimise |x - h W|^2, where pre = x W' and gram = W W' (NMF's parts W)."""

    gram_FF: Tensor
    k: int | None = None
    """Only the k largest weights are kept, and not fitted again without the others; None: all."""
    name: ClassVar[str] = "non_negative"

    def __call__(self, pre_BF: Tensor) -> Tensor:
        weights_BF = nnls.solve(pre_BF, self.gram_FF)
        return weights_BF if self.k is None else TopK(self.k)(weights_BF)

    def selected(self, pre_BF: Tensor, features_S: Tensor) -> Tensor:
        """Return the selected columns [B, S] of `self(pre_BF)`; all weights are solved for together."""
        return self(pre_BF)[:, features_S]


Activation = ReLU | TopK | GroupMax | JumpReLU | Gated | NonNegative | MatchingPursuit
"""Maps pre-activations [B, F] to features [B, F] >= 0; those with `select` compute every feature by itself."""
