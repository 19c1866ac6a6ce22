"""Trains one dictionary: a step changes its weights by a batch of activations, and measures it on the way.

A step waits for no result of the device.

Shape suffixes: B activation vectors, D their width, F features, S dead features.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sae.dictionary import Dictionary
from sae.training.architectures.base import Losses, Workspace
from sae.training.architectures.recipe import Recipe
from sae.training.architectures.registry import build
from sae.training.capture import Captured
from sae.training.flat import Flat
from sae.training.frozen import Frozen
from sae.training.optimiser import Adam

MEDIAN_ITERATIONS = 30
LONGEST_SILENCE, SHARE_SILENT = 10_000_000, 1 / 6
"""Vectors, and share of the training's vectors, after which a silent feature is dead where a recipe does not say."""
LOOK_EVERY = 64
"""Steps between two looks at which features are dead, each of which waits for the device."""


@dataclass(frozen=True)
class Measured:
    """Holds the metrics of one batch.

    loss: as trained on. l0: mean active features per vector. fvu: squared error over the batch's variance. dead:
    share of features silent for `dead_after` vectors, or since the start if fewer were seen.
    """

    loss: float
    l0: float
    fvu: float
    dead: float


class Trainer:
    """Trains one recipe for a known number of steps.

    Args:
        first_BD: a batch, for the scale and for the biases and error weights that begin with the data; it must be the
            same in all processes.
    """

    def __init__(self, recipe: Recipe, steps: int, first_BD: Tensor, workspace: Workspace) -> None:
        self.recipe, self.steps, self.workspace = recipe, steps, workspace
        self.autoencoder = build(recipe, workspace)
        read_BD, written_BE = first_BD[:, : workspace.d_in], self.autoencoder.written(first_BD)
        self.scale_in, self.scale = (_scale(part) if recipe.normalise else 1.0 for part in (read_BD, written_BE))
        """What is read and what is written are divided by these; an autoencoder's are one."""
        scaled_BD = first_BD.float() / self._divisor(first_BD)
        self.autoencoder.initialise(scaled_BD, geometric_median(self.autoencoder.written(scaled_BD)))
        self.autoencoder.refresh()
        self.frozen = Frozen(recipe.frozen, self.autoencoder) if recipe.frozen else None
        self.adam = Adam(recipe, self.autoencoder.params, self.autoencoder.grads, self.autoencoder.n_features)
        self.silent_F = torch.zeros(self.autoencoder.n_local, dtype=torch.long, device=workspace.device)
        self.dead_F = torch.zeros(self.autoencoder.n_local, dtype=torch.bool, device=workspace.device)
        self.steps_done = self.vectors = 0
        self.dead_after = recipe.dead_after or self._default_silence(len(first_BD))
        self.losses: Losses | None = None
        self._update = Captured(self._eager, workspace)

    def _default_silence(self, own_vectors: int) -> int:
        vectors = self.steps * own_vectors * self.workspace.ranks.parts
        return max(1, min(LONGEST_SILENCE, round(SHARE_SILENT * vectors)))

    @property
    def done(self) -> bool:
        return self.steps_done >= self.steps

    def step(self, x_BD: Tensor) -> None:
        """Update the parameters on activation vectors [B, D], this process's part of the batch."""
        done = self.steps_done / self.steps
        self.adam.set_rate(done)
        self.autoencoder.progress.fill_(done)
        self.losses = self._update(x_BD, replay=self.autoencoder.dead_S is None)
        self.steps_done += 1
        self.vectors += len(x_BD) * self.workspace.ranks.parts
        if self.steps_done % LOOK_EVERY == 0:
            self._look_for_dead()

    def _eager(self, x_BD: Tensor) -> Losses:
        autoencoder, ranks = self.autoencoder, self.workspace.ranks
        losses = autoencoder.gradients(self.scaled(x_BD))
        ranks.average_over_parts(autoencoder.grads.buffer)
        autoencoder.project()
        if self.frozen:
            self.frozen.hold_gradient()
        if self.recipe.clip is not None:
            self.adam.clip(ranks.square_norm(autoencoder.grads))
        self.adam.step()
        autoencoder.normalise()
        self.hold()
        autoencoder.refresh()
        ranks.any_fired(autoencoder.fired_F)
        self.silent_F.add_(len(x_BD) * ranks.parts).masked_fill_(autoencoder.fired_F, 0)
        return losses

    def hold(self) -> None:
        """Undo what a change of the parameters did to frozen ones."""
        if self.frozen:
            self.frozen.hold()

    def scaled(self, x_BD: Tensor) -> Tensor:
        """Return vectors in the units and the precision trained in."""
        if self.scale == self.scale_in == 1 and x_BD.dtype == self.workspace.compute:
            return x_BD
        scaled_BD = self.workspace.scratch("x", tuple(x_BD.shape), self.workspace.compute)
        return torch.mul(x_BD, 1 / self._divisor(x_BD), out=scaled_BD)

    def _divisor(self, x_BD: Tensor) -> float | Tensor:
        """Return the scale, of a transcoder's batch one for each column."""
        if not self.workspace.d_out:
            return self.scale
        d = self.workspace.d_in
        divisor_D = x_BD.new_full((x_BD.shape[1],), self.scale, dtype=self.autoencoder.master)
        divisor_D[:d] = self.scale_in
        return divisor_D

    def measure(self, x_BD: Tensor) -> Measured:
        """Measure the last step, whose batch (this process's part) is given. Waits for the device.

        All processes measure together and get the same: the whole batch's and the whole dictionary's.
        """
        assert self.losses is not None, "nothing was trained yet"
        ranks, losses = self.workspace.ranks, self.losses
        own = torch.stack([losses.penalty, losses.active.to(losses.penalty.dtype) / len(x_BD)])
        penalty, active = ranks.sum_over_features(own)
        sums = [losses.error + penalty, active, losses.squared_error, self._variation(x_BD)]
        loss, l0, squared, variation = ranks.average_over_parts(torch.stack(sums)).tolist()
        silent_F = ranks.gather_features(self.silent_F)
        dead = float((silent_F >= min(self.dead_after, self.vectors)).double().mean())
        return Measured(loss, l0, squared / variation if variation > 0 else math.nan, dead)

    def _variation(self, x_BD: Tensor) -> Tensor:
        """Sum the squared distances of these vectors to the whole batch's mean, in the units trained in."""
        x_BD = self.autoencoder.written(x_BD).to(self.autoencoder.master) / self.scale
        return (x_BD - self.workspace.ranks.average_over_parts(x_BD.mean(0))).square().sum()

    def dictionary(
        self, hook_point: str, model: str, metadata: dict[str, Any], writes: str | None = None
    ) -> Dictionary:
        """Return the autoencoder, or the transcoder to the hook point that it `writes`, in the activations' own scale.

        Features are in the scale of what is written.
        """
        weights, ratio = self.autoencoder.weights(), self.scale / self.scale_in
        skip = weights.W_skip_DE
        return Dictionary(
            name=self.recipe.label,
            kind="sae",
            W_enc_DF=(weights.W_enc_FD.T if ratio == 1 else weights.W_enc_FD.T * ratio).contiguous(),
            b_enc_F=weights.b_enc_F * self.scale,
            W_dec_FD=weights.W_dec_FD.clone(),
            b_dec_D=weights.b_dec_D * self.scale,
            activation=self.autoencoder.activation(self.scale),
            subtract_b_dec=writes is None,
            reads=(hook_point,),
            writes=(writes or hook_point,),
            W_skip_DE=None if skip is None else skip * ratio,
            model=model,
            metadata={"recipe": self.recipe.model_dump(mode="json"), "lr": self.adam.peak, "scale": self.scale}
            | metadata,
        )

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors that a continued training needs, by name."""
        own = {"params": self.autoencoder.params.buffer, "silent": self.silent_F, "dead": self.dead_F}
        frozen = {"start": self.frozen.start_FD} if self.frozen else {}
        return own | frozen | self.adam.state() | dict(self.autoencoder.state())

    def facts(self) -> dict[str, Any]:
        """Return what else it needs, as plain values."""
        return {
            "steps_done": self.steps_done,
            "vectors": self.vectors,
            "scale": self.scale,
            "scale_in": self.scale_in,
            "error_weight": self.autoencoder.error_weight,
        }

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Continue from what `tensors` and `facts` returned."""
        for name, tensor in self.tensors().items():
            tensor.copy_(tensors[name])
        self.steps_done, self.vectors, self.scale = facts["steps_done"], facts["vectors"], facts["scale"]
        self.scale_in = facts.get("scale_in", self.scale)  # checkpoints from before transcoders have none
        self.autoencoder.error_weight = facts["error_weight"]
        self.autoencoder.refresh()
        self._note_dead()

    @property
    def bytes(self) -> int:
        """Memory this dictionary takes beside the working memory that all share."""
        moments: list[Flat] = [self.adam.first, self.adam.second]
        start = self.frozen.start_FD.nbytes if self.frozen else 0
        return self.autoencoder.bytes + start + sum(moment.bytes for moment in moments)

    def _look_for_dead(self) -> None:
        self.dead_F.copy_(self.silent_F >= self.dead_after)
        self._note_dead()

    def _note_dead(self) -> None:
        """Give dead features to a loss that has a part for them; if any process has some, all take part."""
        if self.autoencoder.teaches_dead:
            dead_S = self.dead_F.nonzero()[:, 0]
            self.autoencoder.dead_S = dead_S if self.workspace.ranks.any(len(dead_S) > 0) else None


def _scale(x_BD: Tensor) -> float:
    """Return the root of the mean square."""
    return float(x_BD.float().square().mean().sqrt())


def geometric_median(x_BD: Tensor) -> Tensor:
    """Return the point with the least sum of distances to the vectors, by Weiszfeld's iteration, [D]."""
    median_D = x_BD.mean(0)
    for _ in range(MEDIAN_ITERATIONS):
        weight_B1 = 1 / (x_BD - median_D).norm(dim=1, keepdim=True).clamp_min(1e-8)
        median_D = (weight_B1 * x_BD).sum(0) / weight_B1.sum()
    return median_D
