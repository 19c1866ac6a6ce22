"""Trains Gated autoencoders (Rajamanoharan et al. 2024a, "Improving Dictionary Learning with Gated Sparse
Autoencoders").

A gate and a magnitude share their direction. The gate's rectified values carry the L1 penalty, and learn by an
auxiliary reconstruction through the same decoder.

Shape suffixes: B activation vectors, D their width, F features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from sae.training.architectures.base import Autoencoder, Losses, Weights, rectified, rising, square_sum
from sae.training.architectures.recipe import L1
from sae.training.architectures.registry import ARCHITECTURES, Architecture

if TYPE_CHECKING:
    from torch import Tensor

    from sae.dictionary import Activation


class Gated(L1):
    """Learns a gate under L1 beside a magnitude; the gate also reconstructs alone (Rajamanoharan et al. 2024a)."""

    architecture: Literal["gated"] = "gated"
    gate_teaches_decoder: bool = True
    """The decoder also learns from the gate's reconstruction (as in SAELens): more of the true directions are learnt,
    with a somewhat higher error at the same sparsity. False: as in the paper."""


class GatedAutoencoder(Autoencoder):
    """Computes f = [u + b_gate > 0] relu(exp(r_mag) u + b_mag) with u = (x - b_dec) W_enc'; x_hat = f W_dec + b_dec."""

    recipe: Gated

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        f, d = self.n_local, self.workspace.d_in
        skip = {name: shape for name, shape in super().shapes().items() if name == "W_skip"}
        e = self.workspace.d_out or d
        return {"W_enc": (f, d), "W_dec": (f, e), "b_gate": (f,), "r_mag": (f,), "b_mag": (f,), "b_dec": (e,), **skip}

    def gradients(self, x_BD: Tensor) -> Losses:
        import torch

        p, b = self.low, len(x_BD)
        z_BD, target_BE = self._ends(x_BD)
        u_BF = torch.mm(z_BD, p["W_enc"].T, out=self._rows("u", x_BD, self.n_local))
        gate_BF = torch.add(u_BF, p["b_gate"], out=self._rows("gate", x_BD, self.n_local)).relu_()
        f_BF = torch.addcmul(p["b_mag"], u_BF, p["r_mag"].exp(), out=self._rows("f", x_BD, self.n_local)).relu_()
        f_BF = rectified(f_BF, gate_BF)
        error_BD, gate_error_BD = self._error(f_BF, target_BE), self._error(gate_BF, target_BE)
        losses = self._losses(f_BF, gate_BF, error_BD, gate_error_BD)
        error_BD.mul_(2 * self.error_weight / b)
        gate_error_BD.mul_(2 * self.error_weight / b)
        self._product(f_BF.T, error_BD, "W_dec")
        if self.recipe.gate_teaches_decoder:
            self._product(gate_BF.T, gate_error_BD, "W_dec", add=True)
        magnitude_BF = self._back(error_BD, f_BF, "magnitude")
        gate_BF = self._back(gate_error_BD, gate_BF, "gate_grad", (self._l1() / b).to(x_BD.dtype))
        if self.recipe.gate_teaches_decoder:  # the biases and the skip are in both reconstructions
            error_BD.add_(gate_error_BD)
        self._encoder(z_BD, u_BF, magnitude_BF, gate_BF, error_BD)
        return losses

    def activation(self, scale: float) -> Activation:
        from sae import dictionary

        return dictionary.Gated(self.whole("b_gate") * scale, self.whole("r_mag").clone(), self.whole("b_mag") * scale)

    def weights(self) -> Weights:
        W_enc_FD = self.whole("W_enc")
        b_enc_F, b_dec_D = W_enc_FD.new_zeros(len(W_enc_FD)), self.params["b_dec"].cpu()
        return Weights(W_enc_FD, b_enc_F, self.whole("W_dec"), b_dec_D, self.skip())

    def _error(self, f_BF: Tensor, z_BD: Tensor) -> Tensor:
        return self.workspace.ranks.sum_over_features(f_BF @ self.low["W_dec"]).sub_(z_BD)

    def _l1(self) -> Tensor:
        return self.recipe.l1 * rising(self.recipe.l1_warmup, self.progress)

    def _losses(self, f_BF: Tensor, gate_BF: Tensor, error_BD: Tensor, gate_error_BD: Tensor) -> Losses:
        import torch

        torch.gt(f_BF.amax(0), 0, out=self.fired_F)
        squared = square_sum(error_BD, self.master)
        auxiliary = square_sum(gate_error_BD, self.master)
        penalty = self._l1() * gate_BF.sum(dtype=self.master)
        b = len(f_BF)
        return Losses(self.error_weight * (squared + auxiliary) / b, penalty / b, squared, f_BF)

    def _back(self, error_BD: Tensor, active_BF: Tensor, name: str, penalty: Tensor | None = None) -> Tensor:
        """Return the gradient at what was rectified to `active_BF`."""
        import torch

        grad_BF = torch.mm(error_BD, self.low["W_dec"].T, out=self._rows(name, error_BD, self.n_local))
        return rectified(grad_BF, active_BF, penalty)

    def _encoder(self, z_BD: Tensor, u_BF: Tensor, magnitude_BF: Tensor, gate_BF: Tensor, error_BD: Tensor) -> None:
        """Compute the gradients of the encoder and the biases from those at the magnitude and at the gate."""
        factor_F = self.params["r_mag"].exp()
        self.grads["b_mag"].copy_(magnitude_BF.sum(0, dtype=self.master))
        self.grads["b_gate"].copy_(gate_BF.sum(0, dtype=self.master))
        self.grads["r_mag"].copy_(u_BF.mul_(magnitude_BF).sum(0, dtype=self.master) * factor_F)
        u_grad_BF = gate_BF.addcmul_(magnitude_BF, factor_F.to(gate_BF.dtype))
        self._product(u_grad_BF.T, z_BD, "W_enc")
        summed_F = self.grads["b_gate"] + factor_F * self.grads["b_mag"]
        self._decoder_bias(summed_F, error_BD, z_BD)


ARCHITECTURES.register("gated", Architecture("gated", "#66a182", Gated, GatedAutoencoder))
