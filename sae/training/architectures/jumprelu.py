"""Trains JumpReLU autoencoders (Rajamanoharan et al. 2024, "Jumping Ahead"): a learnt threshold, an L0 penalty.

Neither the jump nor the L0 has a useful gradient at the threshold. Both are estimated with a rectangle of width
`bandwidth` around it: a kernel density estimate of the expected loss's gradient.

Differs from the paper by default in three ways, each of which learns more in short trainings
(`tests/benchmarks/training_quality.py`): decoder rows have any norm while they are learnt (`decoder_norm`), gradients
are scaled to one norm (`clip`), and thresholds are learnt as they are, not as logarithms.

Shape suffixes: B activation vectors, D their width, F features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from sae.common.field_types import Positive, Share
from sae.training.architectures.base import Autoencoder, Losses, Weights, positive, rectified, rising, square_sum
from sae.training.architectures.recipe import Recipe
from sae.training.architectures.registry import ARCHITECTURES, Architecture

if TYPE_CHECKING:
    from torch import Tensor

    from sae.dictionary import Activation


class JumpReLU(Recipe):
    """Learns one threshold per feature, by straight-through estimates of an L0 penalty (Rajamanoharan et al. 2024b)."""

    architecture: Literal["jumprelu"] = "jumprelu"
    sparsity: ClassVar[str] = "l0"
    l0: Annotated[float, Field(ge=0)]
    """Coefficient of the number of active features."""
    l0_warmup: Share = 0.1
    """Share of the steps, at the start, over which the penalty rises linearly."""
    bandwidth: Positive = 0.1
    """Width of the rectangle around a threshold, in the units trained in. The paper's 0.001 is for vectors of norm 1;
    `normalise` gives them norm sqrt(d), in which it is 0.001 sqrt(d): 0.03 at d = 900: for long trainings."""
    threshold: Positive = 0.1
    """First value of all thresholds, in the same units; in a short training they cannot rise far. The first
    pre-activations have a standard deviation of about `encoder_start`: far above it no feature would ever be active."""

    decoder_norm: Literal["free", "unit"] = "free"
    """`free`: decoder rows start at `encoder_start` too and may have any norm, so that their directions change fast at
    first; saved rows have norm 1, whatever was trained. `unit`: norm 1 throughout, as in the paper; always if `frozen`
    is a decoder."""
    clip: Positive | None = 0.01
    """Largest norm of the gradient; null: no limit. The default is small enough to scale nearly every gradient: Adam's
    second moment, which remembers a thousand steps, would otherwise keep the first, large ones for a whole training."""

    @model_validator(mode="after")
    def _some_features_begin_active(self) -> Self:
        start = 1.0 if self.frozen == "encoder" else self.encoder_start
        if self.normalise and self.threshold > 3 * start:
            raise ValueError(
                f"threshold {self.threshold:g} is more than three times encoder_start ({start:g}), so that almost no "
                "feature is active at the start; raise encoder_start"
            )
        return self


class JumpReLUAutoencoder(Autoencoder):
    """Computes f = pre [pre > t] with pre = (x - b_dec) W_enc' + b_enc and t >= 0; x_hat = f W_dec + b_dec."""

    recipe: JumpReLU

    @property
    def free(self) -> bool:
        """Whether decoder rows may have any norm."""
        return self.recipe.decoder_norm == "free" and self.recipe.frozen not in ("decoder", "near_decoder")

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {**super().shapes(), "threshold": (self.n_local,)}

    def initialise(self, x_BD: Tensor, b_dec_D: Tensor) -> None:
        super().initialise(x_BD, b_dec_D)
        self.params["threshold"].fill_(self.recipe.threshold)
        if self.free:
            self.params["W_dec"].mul_(self.recipe.encoder_start)

    def project(self) -> None:
        """Keep the gradient that is along a unit row only where rows may have any norm."""
        if not self.free:
            super().project()

    def normalise(self) -> None:
        """Keep thresholds at 0 or above, and give rows unit norm unless they may have any."""
        self.params["threshold"].clamp_min_(0)
        if not self.free:
            super().normalise()

    def weights(self) -> Weights:
        """Return weights that compute the same with decoder rows of norm 1: the encoder takes their norms."""
        weights = super().weights()
        norms_F = self._norms()
        return replace(
            weights,
            W_enc_FD=weights.W_enc_FD * norms_F[:, None],
            b_enc_F=weights.b_enc_F * norms_F,
            W_dec_FD=weights.W_dec_FD / norms_F[:, None],
        )

    def _norms(self) -> Tensor:
        """Return the norms of all decoder rows, on the CPU; 1 of rows that are kept at it."""
        norms_F: Tensor = self.whole("W_dec").norm(dim=1).clamp_min(1e-12)
        return norms_F if self.free else norms_F.fill_(1)

    def gradients(self, x_BD: Tensor) -> Losses:
        import torch

        p, b = self.low, len(x_BD)
        threshold_F = self.params["threshold"]
        z_BD, target_BE = self._ends(x_BD)
        pre_BF = torch.addmm(p["b_enc"], z_BD, p["W_enc"].T, out=self._rows("pre", x_BD, self.n_local))
        f_BF = torch.sub(pre_BF, threshold_F, out=self._rows("f", x_BD, self.n_local)).relu_()
        f_BF = rectified(pre_BF.clone(), f_BF)
        error_BD = self.workspace.ranks.sum_over_features(f_BF @ p["W_dec"]).sub_(target_BE)
        losses = self._losses(f_BF, error_BD)
        error_BD.mul_(2 * self.error_weight / b)
        self._product(f_BF.T, error_BD, "W_dec")
        grad_BF = torch.mm(error_BD, p["W_dec"].T, out=self._rows("g", x_BD, self.n_local))
        self._threshold(pre_BF, grad_BF, threshold_F)
        grad_BF = rectified(grad_BF, f_BF)
        self._product(grad_BF.T, z_BD, "W_enc")
        self.grads["b_enc"].copy_(grad_BF.sum(0, dtype=self.master))
        self._decoder_bias(self.grads["b_enc"], error_BD, z_BD)
        return losses

    def activation(self, scale: float) -> Activation:
        from sae import dictionary

        return dictionary.JumpReLU(self.whole("threshold") * self._norms() * scale)

    def _l0(self) -> Tensor:
        return self.recipe.l0 * rising(self.recipe.l0_warmup, self.progress)

    def _losses(self, f_BF: Tensor, error_BD: Tensor) -> Losses:
        import torch

        torch.gt(f_BF.amax(0), 0, out=self.fired_F)
        squared, b = square_sum(error_BD, self.master), len(f_BF)
        return Losses(self.error_weight * squared / b, self._l0() * positive(f_BF) / b, squared, f_BF)

    def _threshold(self, pre_BF: Tensor, grad_BF: Tensor, threshold_F: Tensor) -> None:
        """Set t's gradient: -1 / bandwidth * sum of (t * gradient at f + l0 / B) over vectors near t.

        A vector is near if its pre-activation is within half a bandwidth of t.
        """
        near_BF = pre_BF.sub_(threshold_F).abs_().lt_(self.recipe.bandwidth / 2)  # 1 or 0, overwrites pre_BF
        counted_F = near_BF.sum(0, dtype=self.master) * (self._l0() / len(pre_BF))
        felt_F = near_BF.mul_(grad_BF).sum(0, dtype=self.master)
        self.grads["threshold"].copy_((threshold_F * felt_F + counted_F) / -self.recipe.bandwidth)


ARCHITECTURES.register("jumprelu", Architecture("jumprelu", "#d17a22", JumpReLU, JumpReLUAutoencoder))
