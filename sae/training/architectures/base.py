"""Defines what every architecture has: parameters, a hand-written gradient of its loss, and weights to save.

Encoder and decoder are both kept with a row per feature, [F, D], so that a few features' weights lie together.

A transcoder's batch has rows [x, y], what it reads and, right of it, what it writes: x is encoded as it is, and y must
be made. Everything else is the same.

Shape suffixes: B activation vectors, D their width (of a transcoder's batch, both together), E the width of what is
written (an autoencoder's D), F features (of this process).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sae.common.errors import UserError
from sae.common.seeds import torch_generator

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from sae.dictionary import Activation
    from sae.training.architectures.recipe import Recipe
    from sae.training.flat import Scratch
    from sae.training.ranks import Ranks


@dataclass(frozen=True)
class Workspace:
    """Holds what an autoencoder is trained with: its widths, device, precision of products, memory and processes."""

    d_in: int
    device: str
    compute: torch.dtype
    scratch: Scratch
    ranks: Ranks
    experimental: bool = False
    """Record steps as CUDA graphs (`sae/training/capture.py`), which has never run on a GPU."""
    d_out: int | None = None
    """The width of what a transcoder writes; None: an autoencoder is trained."""


@dataclass(frozen=True)
class Losses:
    """Holds the losses of one batch (this process's part), as tensors on the device.

    Where features are shared, `penalty` and `features` are of this process's features, the others of all.
    """

    error: Tensor
    """Error part of the loss, averaged over the batch."""
    penalty: Tensor
    """Sparsity part of the loss, averaged over the batch."""
    squared_error: Tensor
    """Squared error, summed over the batch."""
    features: Tensor
    """The features' values, in any shape; what it holds is undefined after the next step of any dictionary."""

    @property
    def active(self) -> Tensor:
        """Active features, summed over the batch; counted when asked for."""
        return positive(self.features)


@dataclass(frozen=True)
class Weights:
    """Holds a trained encoder and decoder, in the scale trained in: all features, in whichever process they were."""

    W_enc_FD: Tensor
    b_enc_F: Tensor
    W_dec_FD: Tensor
    b_dec_D: Tensor
    W_skip_DE: Tensor | None = None


class Autoencoder(ABC):
    """Defines what every autoencoder does: `gradients` fills `grads` for a batch, an optimiser then changes `params`.

    `params` are fp32. Where products are computed in another precision they read `low`, a copy that `refresh` renews.
    """

    unit_rows: ClassVar[str] = "W_dec"
    """The matrix whose rows are kept at unit norm."""

    def __init__(self, recipe: Recipe, workspace: Workspace) -> None:
        import torch

        from sae.training.flat import Flat

        if recipe.skip and workspace.d_out is None:
            raise UserError(f"dictionary {recipe.label}: skip is for transcoders, which write another hook point")
        self.recipe, self.workspace = recipe, workspace
        self.n_features = int(recipe.expansion * workspace.d_in)
        self.n_local = workspace.ranks.features_here(self.n_features)
        self.master = torch.float64 if workspace.compute == torch.float64 else torch.float32
        """Precision of the weights, their gradients and all sums over vectors."""
        self.params = Flat(self.shapes(), workspace.device, self.master)
        self.grads = self.params.like()
        self.low = self.params if workspace.compute == self.master else self.params.like(workspace.compute)
        self.fired_F = torch.zeros(self.n_local, dtype=torch.bool, device=workspace.device)
        self.progress = torch.zeros((), device=workspace.device, dtype=self.master)
        """Share of the steps done, for penalties that rise."""
        self.error_weight = 1.0
        self.dead_S: Tensor | None = None
        """Dead features for `gradients` to teach, if it `teaches_dead`; the trainer looks for them. None: none."""

    @property
    def teaches_dead(self) -> bool:
        """Whether the loss has a part for dead features."""
        return False

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        d, f = self.workspace.d_in, self.n_local
        e = self.workspace.d_out or d
        skip = {"W_skip": (d, e)} if self.recipe.skip else {}
        return {"W_enc": (f, d), "W_dec": (f, e), "b_enc": (f,), "b_dec": (e,), **skip}

    def state(self) -> Mapping[str, Tensor]:
        """Return what must be kept besides the parameters to continue exactly."""
        return {}

    def initialise(self, x_BD: Tensor, b_dec_D: Tensor) -> None:
        """Draw unit decoder rows, point the encoder's where they point, set the biases to zero and to `b_dec_D`.

        A transcoder's encoder rows are drawn by themselves, because they are of another space.
        """
        rows_FD = self._random_rows()
        if self.workspace.d_out:
            self.params["W_dec"].copy_(self._random_rows("initial decoder", self.workspace.d_out))
        else:
            self.params["W_dec"].copy_(rows_FD)
        self.params["W_enc"].copy_(rows_FD * (1.0 if self.recipe.frozen == "encoder" else self.recipe.encoder_start))
        self.params["b_dec"].copy_(b_dec_D)
        self._set_error_weight(self.written(x_BD))

    @abstractmethod
    def gradients(self, x_BD: Tensor) -> Losses:
        """Write the loss's gradient into `grads`, and into `fired_F` which features were active on any vector."""

    @abstractmethod
    def activation(self, scale: float) -> Activation:
        """Return the activation function for activations `scale` times those trained on."""

    def weights(self) -> Weights:
        """Return the weights of all features, on the CPU."""
        biases = self.whole("b_enc"), self.params["b_dec"].cpu()
        return Weights(self.whole("W_enc"), biases[0], self.whole("W_dec"), biases[1], self.skip())

    def skip(self) -> Tensor | None:
        """Return the linear map past the features, [D, E], on the CPU; None if there is none."""
        return self.params["W_skip"].cpu() if self.recipe.skip else None

    def written(self, x_BD: Tensor) -> Tensor:
        """Return what is to be made, [B, E]: the right part of a transcoder's batch, an autoencoder's whole."""
        return x_BD[:, self.workspace.d_in :] if self.workspace.d_out else x_BD

    def whole(self, name: str) -> Tensor:
        """Return a parameter of all features, on the CPU: where features are shared they may not fit one device."""
        return self.workspace.ranks.gather_features(self.params[name].cpu())

    def refresh(self) -> None:
        """Update the copy that products read."""
        if self.low is not self.params:
            self.low.buffer.copy_(self.params.buffer)

    def project(self) -> None:
        """Take from the gradient what would only change the norm of a unit row (Towards Monosemanticity)."""
        import torch

        W_FD, grad_FD = self.params[self.unit_rows], self.grads[self.unit_rows]
        product_FD = self.workspace.scratch("project", tuple(W_FD.shape), self.master)
        along_F1 = torch.mul(W_FD, grad_FD, out=product_FD).sum(1, keepdim=True)
        grad_FD.addcmul_(W_FD, along_F1, value=-1)

    def normalise(self) -> None:
        """Give the rows unit norm again."""
        W_FD = self.params[self.unit_rows]
        W_FD.div_(W_FD.norm(dim=1, keepdim=True))

    @property
    def bytes(self) -> int:
        """Memory of parameters and gradients (the optimiser has twice the parameters more)."""
        low = 0 if self.low is self.params else self.low.bytes
        return self.params.bytes + self.grads.bytes + low

    def _ends(self, x_BD: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is encoded, [B, D], and what the features times the decoder must make, [B, E].

        The decoder's bias is in what an autoencoder makes and in what it must make, and cancels.
        """
        import torch

        p, d = self.low, self.workspace.d_in
        z_BD = self._rows("z", x_BD, d)
        if not self.workspace.d_out:
            torch.sub(x_BD, p["b_dec"], out=z_BD)
            return z_BD, z_BD
        z_BD.copy_(x_BD[:, :d])
        target_BE = torch.sub(x_BD[:, d:], p["b_dec"], out=self._rows("target", x_BD, self.workspace.d_out))
        return z_BD, target_BE.addmm_(z_BD, p["W_skip"], alpha=-1) if self.recipe.skip else target_BE

    def _random_rows(self, purpose: str = "initial weights", width: int | None = None) -> Tensor:
        import torch

        generator = torch_generator(self.recipe.seed, purpose)
        rows_FD = torch.randn((self.n_features, width or self.workspace.d_in), generator=generator)
        return self.workspace.ranks.own_features(rows_FD / rows_FD.norm(dim=1, keepdim=True))

    def _set_error_weight(self, x_BD: Tensor) -> None:
        variance = float((x_BD - x_BD.mean(0)).double().square().sum() / len(x_BD))
        if not variance > 0:
            raise UserError("the activations do not vary, so there is nothing to learn; is it the right hook point?")
        weights = {"mean": 1 / x_BD.shape[1], "sum": 1.0, "variance": 1 / variance}
        self.error_weight = weights[self.recipe.squared_error]

    def _product(self, a: Tensor, b: Tensor, name: str, add: bool = False) -> None:
        """Set grads[name] to a @ b, or add that to it, without a temporary where the precisions agree."""
        import torch

        if a.dtype == self.master:
            torch.addmm(self.grads[name], a, b, beta=float(add), out=self.grads[name])
        elif add:
            self.grads[name].add_(a @ b)
        else:
            self.grads[name].copy_(a @ b)

    def _decoder_bias(self, pre_grad_F: Tensor, grad_BD: Tensor, z_BD: Tensor) -> None:
        """Add up its gradient: directly at x_hat, and through the encoder, from the summed gradient at each feature.

        Multiplies that sum once, where automatic differentiation multiplies every vector's gradient. A transcoder's
        bias is not in its encoder; the gradient of its skip is set, too.
        """
        import torch

        if self.workspace.d_out:
            self.grads["b_dec"].copy_(grad_BD.sum(0, dtype=self.master))
            if self.recipe.skip:
                self._product(z_BD.T, grad_BD, "W_skip")
            return
        through_encoder_D = self.workspace.ranks.sum_over_features(pre_grad_F @ self.params["W_enc"])
        torch.sub(grad_BD.sum(0, dtype=self.master), through_encoder_D, out=self.grads["b_dec"])

    def _rows(self, name: str, x_BD: Tensor, columns: int) -> Tensor:
        """Return working memory [B, columns]."""
        return self.workspace.scratch(name, (len(x_BD), columns), x_BD.dtype)


def positive(values: Tensor) -> Tensor:
    """Return how many are above 0 (counting booleans is several times faster than counting numbers)."""
    return (values > 0).count_nonzero()


def square_sum(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Sum squares in a precision, without a tensor of squares."""
    import torch

    flat = values.flatten().to(dtype)
    return torch.dot(flat, flat)


def rising(share: float, progress: Tensor) -> Tensor:
    """Return a factor that rises from 0 to 1 over the first `share` of training."""
    import torch

    return (progress / share).clamp(max=1.0) if share else torch.ones_like(progress)


def rectified(grad_BF: Tensor, f_BF: Tensor, penalty: Tensor | None = None) -> Tensor:
    """Return the gradient before a ReLU that gave `f_BF`, from the one after it and each active feature's penalty.

    In place.
    """
    import torch

    if penalty is not None:
        grad_BF.add_(penalty)
    made: Tensor = torch.ops.aten.threshold_backward.grad_input(grad_BF, f_BF, 0.0, grad_input=grad_BF)
    return made
