"""Resamples dead features, as the appendix of Towards Monosemanticity describes it.

1. Which features were active on none of the last `silent_steps` steps. 2. The loss on many inputs. 3. For each dead
feature one of them, with a probability in proportion to its loss squared. 4. Its decoder row becomes that input at unit
norm, its encoder row the same at a share of the living rows' mean norm, its bias 0, and Adam forgets all of them.

A frozen decoder row stays, and the new encoder row follows it; a frozen encoder row stays too (`frozen.py`).

Several processes draw alike, from the losses of the whole batch and for the dead features of the whole dictionary, so
that what is drawn does not depend on their number.

Shape suffixes: B activation vectors, D their width, F features, S dead features (of this process), Z of all processes.
"""

from math import ceil, inf

import torch
from torch import Tensor

from sae.common.seeds import torch_generator
from sae.training.architectures.relu import ReLU, ReLUAutoencoder
from sae.training.trainer import Trainer


def due(trainer: Trainer) -> bool:
    """Tell whether it is time, before the next step."""
    recipe = trainer.recipe
    return isinstance(recipe, ReLU) and trainer.steps_done in recipe.resampling.steps


class Resampler:
    """Sees `n_batches` batches, then `finish` starts every dead feature over.

    No input is kept but those drawn so far, one for each dead feature. Every batch replaces each of them with the
    probability that it has in the total of squared losses so far, so that all inputs are drawn in proportion to
    theirs, with replacement.
    """

    def __init__(self, trainer: Trainer) -> None:
        recipe, autoencoder = trainer.recipe, trainer.autoencoder
        assert isinstance(recipe, ReLU)
        assert isinstance(autoencoder, ReLUAutoencoder)
        self._trainer, self._recipe, self._autoencoder = trainer, recipe, autoencoder
        batch = trainer.vectors / trainer.steps_done
        self.n_batches = ceil(recipe.resampling.inputs / batch)
        ranks = self._ranks = trainer.workspace.ranks
        self._dead_F = ranks.gather_features(trainer.silent_F) >= recipe.resampling.silent_steps * batch
        """Of the whole dictionary."""
        self.dead_S = ranks.own_features(self._dead_F).nonzero()[:, 0]
        self._order_S = ranks.own_features(self._dead_F.cumsum(0) - 1)[self.dead_S]
        """Which of all dead features they are."""
        self._generator = torch_generator(recipe.seed, "resampling", trainer.steps_done)
        self._drawn_SD = autoencoder.params.buffer.new_zeros((len(self.dead_S), trainer.workspace.d_in))
        self._total = 0.0

    def add(self, x_BD: Tensor) -> None:
        """Look at more inputs [B, D], in their own scale."""
        x_BD = self._trainer.scaled(x_BD)
        weight_B = self._ranks.gather_parts(self.losses(x_BD)).double().square().cpu()
        weight = float(weight_B.sum())
        self._total += weight
        n = int(self._dead_F.sum())
        if n and 0 < self._total < inf:  # a loss that is not finite is noticed elsewhere
            drawn_Z = torch.multinomial(weight_B, n, replacement=True, generator=self._generator)
            replaced_Z = torch.rand(n, generator=self._generator, dtype=torch.float64) < weight / self._total
            order_S = self._order_S.cpu()
            self._replace(x_BD, drawn_Z[order_S], replaced_Z[order_S])

    def _replace(self, x_BD: Tensor, drawn_S: Tensor, replaced_S: Tensor) -> None:
        """Take what was drawn from this process's part of the batch; of another's, that process does, here it is 0."""
        here_S = drawn_S - self._ranks.part * len(x_BD)
        present_S = replaced_S & (here_S >= 0) & (here_S < len(x_BD))
        self._drawn_SD[replaced_S] = 0
        self._drawn_SD[present_S] = x_BD[here_S[present_S]].to(self._drawn_SD.dtype)

    def losses(self, x_BD: Tensor) -> Tensor:
        """Return the loss of each vector by itself, [B], in the scale trained in."""
        p, ranks = self._autoencoder.low, self._ranks
        z_BD = x_BD - p["b_dec"]
        f_BF = torch.addmm(p["b_enc"], z_BD, p["W_enc"].T).relu_()
        error_BD = ranks.sum_over_features(f_BF @ p["W_dec"]) - z_BD
        penalty_B = ranks.sum_over_features(f_BF.sum(1, dtype=torch.float32))
        return self._autoencoder.error_weight * error_BD.float().square().sum(1) + self._recipe.l1 * penalty_B

    def finish(self) -> int:
        """Start the dead features over; returns how many there were."""
        n = int(self._dead_F.sum())
        if n and 0 < self._total < inf:
            self._start_over(self._ranks.sum_over_parts(self._drawn_SD))
        return n

    def _start_over(self, drawn_SD: Tensor) -> None:
        trainer, params, dead_S = self._trainer, self._autoencoder.params, self.dead_S
        norms_F = self._ranks.gather_features(params["W_enc"].norm(dim=1))
        living = norms_F.mean() if bool(self._dead_F.all()) else norms_F[~self._dead_F].mean()
        unit_SD = drawn_SD / drawn_SD.norm(dim=1, keepdim=True).clamp_min(1e-12)
        params["W_dec"][dead_S] = unit_SD
        trainer.hold()
        params["W_enc"][dead_S] = params["W_dec"][dead_S] * (self._recipe.resampling.encoder_norm * living)
        params["b_enc"][dead_S] = 0
        for name in ("W_dec", "W_enc", "b_enc"):
            trainer.adam.forget(name, dead_S)
        trainer.hold()
        trainer.silent_F[dead_S] = 0
        self._autoencoder.refresh()
