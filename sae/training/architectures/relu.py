"""ReLU autoencoders under an L1 penalty: untied (Towards Monosemanticity) and tied (Cunningham et al. 2023).

Five products of 2 B D F operations each, where automatic differentiation makes six.

Shape suffixes: B activation vectors, D their width, F features.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from sae.dictionary import Activation, ReLU
from sae.training import recipes
from sae.training.architectures.base import Architecture, Losses, Weights, rectified, rising, square_sum


class ReLUArchitecture(Architecture):
    """f = relu((x - b_dec) W_enc' + b_enc), x_hat = f W_dec + b_dec."""

    recipe: recipes.ReLU

    def gradients(self, x_BD: Tensor) -> Losses:
        p = self.low
        z_BD = torch.sub(x_BD, p["b_dec"], out=self._rows("z", x_BD, x_BD.shape[1]))
        f_BF = torch.addmm(p["b_enc"], z_BD, p["W_enc"].T, out=self._rows("f", x_BD, self.n_local)).relu_()
        error_BD = self._error(f_BF, z_BD)
        losses = self._losses(f_BF, error_BD)
        pre_grad_BF = self._backward(f_BF, error_BD)
        self._product(pre_grad_BF.T, z_BD, "W_enc")
        self.grads["b_enc"].copy_(pre_grad_BF.sum(0, dtype=self.master))
        self._decoder_bias(self.grads["b_enc"], error_BD)
        return losses

    def activation(self, scale: float) -> Activation:
        return ReLU()

    def _error(self, f_BF: Tensor, z_BD: Tensor) -> Tensor:
        """x_hat - x; the decoder bias is in both and falls out."""
        made_BD = torch.mm(f_BF, self.low["W_dec"], out=self._rows("error", z_BD, z_BD.shape[1]))
        return self.place.ranks.sum_over_features(made_BD).sub_(z_BD)

    def _losses(self, f_BF: Tensor, error_BD: Tensor) -> Losses:
        sum_F, b = f_BF.sum(0, dtype=self.master), len(f_BF)
        torch.gt(sum_F, 0, out=self.fired_F)
        squared = square_sum(error_BD, self.master)
        return Losses(self.error_weight * squared / b, self._l1() * sum_F.sum() / b, squared, f_BF)

    def _l1(self) -> Tensor:
        return self.recipe.l1 * rising(self.recipe.l1_warmup, self.progress)

    def _backward(self, f_BF: Tensor, error_BD: Tensor) -> Tensor:
        """Gradient at the pre-activations; on the way, `error_BD` becomes the gradient at x_hat."""
        b = len(f_BF)
        error_BD.mul_(2 * self.error_weight / b)
        self._product(f_BF.T, error_BD, "W_dec")
        penalty = (self._l1() / b).to(f_BF.dtype)
        grad_BF = torch.mm(error_BD, self.low["W_dec"].T, out=self._rows("g", f_BF, self.n_local))
        return rectified(grad_BF, f_BF, penalty)


class TiedArchitecture(ReLUArchitecture):
    """f = relu(x W' + b), x_hat = f W, with unit rows and no decoder bias."""

    recipe: recipes.Tied  # type: ignore[assignment]

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {"W_dec": (self.n_local, self.place.d_in), "b_enc": (self.n_local,)}

    def initialise(self, x_BD: Tensor, b_dec_D: Tensor) -> None:
        self.params["W_dec"].copy_(self._random_rows())
        self._set_error_weight(x_BD)

    def gradients(self, x_BD: Tensor) -> Losses:
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
