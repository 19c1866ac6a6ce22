"""Trains ReLU autoencoders whose decoder is the encoder's transpose (Cunningham et al. 2023).

Shape suffixes: B activation vectors, D their width, F features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from sae.training.architectures.base import Losses, Weights
from sae.training.architectures.recipe import L1
from sae.training.architectures.registry import ARCHITECTURES, Architecture
from sae.training.architectures.relu import ReLUAutoencoder

if TYPE_CHECKING:
    from torch import Tensor


class Tied(L1):
    """Encodes and decodes with the same unit rows, without a decoder bias (Cunningham et al. 2023)."""

    architecture: Literal["tied"] = "tied"
    one_matrix: ClassVar[bool] = True
    encoder_start: Annotated[float, Field(ge=1, le=1)] = 1.0
    """1: the encoder's rows are the decoder's."""


class TiedAutoencoder(ReLUAutoencoder):
    """Computes f = relu(x W' + b), x_hat = f W, with unit rows and no decoder bias."""

    recipe: Tied  # type: ignore[assignment]

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {"W_dec": (self.n_local, self.workspace.d_in), "b_enc": (self.n_local,)}

    def initialise(self, x_BD: Tensor, b_dec_D: Tensor) -> None:
        self.params["W_dec"].copy_(self._random_rows())
        self._set_error_weight(x_BD)

    def gradients(self, x_BD: Tensor) -> Losses:
        import torch

        p = self.low
        f_BF = torch.addmm(p["b_enc"], x_BD, p["W_dec"].T, out=self._rows("f", x_BD, self.n_local)).relu_()
        error_BD = self._error(f_BF, x_BD)
        losses = self._losses(f_BF, error_BD)
        pre_grad_BF = self._backward(f_BF, error_BD)
        self._product(pre_grad_BF.T, x_BD, "W_dec", add=True)
        self.grads["b_enc"].copy_(pre_grad_BF.sum(0, dtype=self.master))
        return losses

    def weights(self) -> Weights:
        W_FD = self.whole("W_dec")
        return Weights(W_FD, self.whole("b_enc"), W_FD, W_FD.new_zeros(W_FD.shape[1]))


ARCHITECTURES.register("tied", Architecture("tied", "#4f6d7a", Tied, TiedAutoencoder))
