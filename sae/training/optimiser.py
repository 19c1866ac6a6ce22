"""Runs Adam on a flat buffer, with a schedule for its rate and gradient clipping."""

import math

import torch
from torch import Tensor
from torch.optim.adam import adam

from sae.training.architectures.recipe import Recipe
from sae.training.flat import Flat


def peak_rate(recipe: Recipe, n_features: int) -> float:
    """Return the recipe's rate, or the one that falls with the root of the number of features (Gao et al. 2024)."""
    return recipe.lr or 2e-4 * math.sqrt(2**14 / n_features)


def schedule(recipe: Recipe, done: float) -> float:
    """Return the share of the peak rate when a share `done` of the steps is done: up over `warmup`, down over `decay`.

    The first and the last step are not at zero: the ramps begin and end just outside of training.
    """
    up = (done + 1e-3) / (recipe.warmup + 1e-3)
    down = (1 - done + 1e-3) / (recipe.decay + 1e-3)
    return min(1.0, up, down)


class Adam:
    """Runs Adam with bias correction (Kingma & Ba 2015); moments, step and rate stay on the device."""

    def __init__(self, recipe: Recipe, params: Flat, grads: Flat, n_features: int) -> None:
        self.recipe, self.params, self.grads = recipe, params, grads
        self.first, self.second = params.like(), params.like()
        self.steps = torch.zeros((), device=params.buffer.device)
        self.peak = peak_rate(recipe, n_features)
        self.rate = torch.zeros((), device=params.buffer.device)

    def state(self) -> dict[str, Tensor]:
        return {"first": self.first.buffer, "second": self.second.buffer, "steps": self.steps}

    def set_rate(self, done: float) -> None:
        """Set the rate of the step before which a share `done` of all steps is done."""
        self.rate.fill_(self.peak * schedule(self.recipe, done))

    def clip(self, square: Tensor) -> None:
        """Scale the gradient, whose squared norm is given, to at most the recipe's norm."""
        if self.recipe.clip is not None:
            self.grads.buffer.mul_((self.recipe.clip / square.sqrt()).clamp(max=1.0))

    def step(self) -> None:
        """Change the parameters by the gradient."""
        beta1, beta2 = self.recipe.betas
        adam(
            [self.params.buffer], [self.grads.buffer], [self.first.buffer], [self.second.buffer], [], [self.steps],
            fused=True, amsgrad=False, beta1=beta1, beta2=beta2, lr=self.rate, weight_decay=0.0, eps=self.recipe.eps,
            maximize=False,
        )  # fmt: skip

    def forget(self, name: str, rows_S: Tensor) -> None:
        """Forget the moments of some rows of a parameter."""
        for moment in (self.first, self.second):
            moment[name][rows_S] = 0
