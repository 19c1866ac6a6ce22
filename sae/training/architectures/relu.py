"""Trains ReLU autoencoders under an L1 penalty (Towards Monosemanticity).

Five products of 2 B D F operations each, where automatic differentiation makes six.

Shape suffixes: B activation vectors, D their width, F features.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from sae.common.field_types import Count, Positive
from sae.common.settings import Section
from sae.training.architectures.base import Autoencoder, Losses, rectified, rising, square_sum
from sae.training.architectures.recipe import L1
from sae.training.architectures.registry import ARCHITECTURES, Architecture

if TYPE_CHECKING:
    from torch import Tensor

    from sae.dictionary import Activation


class Resampling(Section):
    """Starts dead features over on badly reconstructed inputs (Towards Monosemanticity, appendix on resampling).

    The inputs are taken from the stream; dictionaries that are trained at the same time continue with later ones.
    """

    steps: tuple[Count, ...] = ()
    """Steps after which dead features are resampled."""
    silent_steps: Count = 12_500
    """A feature that was active in none of this many steps is resampled."""
    inputs: Count = 819_200
    """Number of activation vectors to draw the new directions from."""
    encoder_norm: Positive = 0.2
    """Norm of a new encoder row, divided by the mean norm of the other features' rows."""


class ReLU(L1):
    """Learns untied weights: unit decoder rows, decoder bias from a geometric median (Towards Monosemanticity)."""

    architecture: Literal["relu"] = "relu"
    resampling: Resampling = Resampling()
    """When and how dead features start over; by default never."""


class ReLUAutoencoder(Autoencoder):
    """Computes f = relu((x - b_dec) W_enc' + b_enc), x_hat = f W_dec + b_dec."""

    recipe: ReLU

    def gradients(self, x_BD: Tensor) -> Losses:
        import torch

        p = self.low
        z_BD, target_BE = self._ends(x_BD)
        f_BF = torch.addmm(p["b_enc"], z_BD, p["W_enc"].T, out=self._rows("f", x_BD, self.n_local)).relu_()
        error_BD = self._error(f_BF, target_BE)
        losses = self._losses(f_BF, error_BD)
        pre_grad_BF = self._backward(f_BF, error_BD)
        self._product(pre_grad_BF.T, z_BD, "W_enc")
        self.grads["b_enc"].copy_(pre_grad_BF.sum(0, dtype=self.master))
        self._decoder_bias(self.grads["b_enc"], error_BD, z_BD)
        return losses

    def activation(self, scale: float) -> Activation:
        from sae import dictionary

        return dictionary.ReLU()

    def _error(self, f_BF: Tensor, z_BD: Tensor) -> Tensor:
        """Return x_hat - x; the decoder bias is in both and cancels."""
        import torch

        made_BD = torch.mm(f_BF, self.low["W_dec"], out=self._rows("error", z_BD, z_BD.shape[1]))
        return self.workspace.ranks.sum_over_features(made_BD).sub_(z_BD)

    def _losses(self, f_BF: Tensor, error_BD: Tensor) -> Losses:
        import torch

        sum_F, b = f_BF.sum(0, dtype=self.master), len(f_BF)
        torch.gt(sum_F, 0, out=self.fired_F)
        squared = square_sum(error_BD, self.master)
        return Losses(self.error_weight * squared / b, self._l1() * sum_F.sum() / b, squared, f_BF)

    def _l1(self) -> Tensor:
        return self.recipe.l1 * rising(self.recipe.l1_warmup, self.progress)

    def _backward(self, f_BF: Tensor, error_BD: Tensor) -> Tensor:
        """Return the gradient at the pre-activations; on the way, `error_BD` becomes the gradient at x_hat."""
        import torch

        b = len(f_BF)
        error_BD.mul_(2 * self.error_weight / b)
        self._product(f_BF.T, error_BD, "W_dec")
        penalty = (self._l1() / b).to(f_BF.dtype)
        grad_BF = torch.mm(error_BD, self.low["W_dec"].T, out=self._rows("g", f_BF, self.n_local))
        return rectified(grad_BF, f_BF, penalty)


ARCHITECTURES.register("relu", Architecture("relu", "#2e86ab", ReLU, ReLUAutoencoder))
