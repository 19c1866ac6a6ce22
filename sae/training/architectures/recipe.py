"""The settings that all architectures share; an architecture adds its own. Needs no torch.

The loss of every recipe is c * |x - x_hat|^2 + sparsity, averaged over the batch, with c by `squared_error`:

    mean      1 / d: the mean over the d elements, as Towards Monosemanticity, Cunningham et al. and shehper have it
    sum       1: the sum over the elements, as the Gated and JumpReLU papers and SAELens have it
    variance  1 / mean |x - mean x|^2 of the first batch: about the FVU, which depends on no scale

An L1 coefficient for `mean` is d times smaller than the same one for `sum`.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from sae.common.field_types import Count, Positive, Share
from sae.common.settings import Section


class Recipe(Section):
    """What all architectures share."""

    architecture: str
    name: Annotated[str, Field(pattern=r"^[\w.=+-]+$")] | None = None
    """Names the dictionary's folder; null: the architecture, expansion, sparsity, and a seed other than 0."""
    expansion: Positive = 8
    """Features per dimension of the hook point."""
    seed: int = 0
    """Of the initial weights."""
    squared_error: Literal["mean", "sum", "variance"] = "variance"
    normalise: bool = True
    """Train on activations divided by the root of their mean square; the factor is folded in when saved."""
    lr: Positive | None = None
    """Adam's rate at its peak; null: 2e-4 * sqrt(2^14 / features)."""
    betas: tuple[Share, Share] = (0.9, 0.999)
    eps: Positive = 1e-8
    """Adam's; features whose gradients are not far above it learn more slowly."""
    warmup: Share = 0.05
    """Share of the steps over which the rate rises linearly."""
    decay: Share = 0.2
    """Share of the steps, the last ones, over which it falls linearly to 0."""
    clip: Positive | None = None
    """Largest norm of the gradient."""
    dead_after: Count = 10_000_000
    """A feature is dead when it was active on none of so many vectors in a row."""
    sparsity: ClassVar[str] = "k"
    """The setting that decides how sparse the features are."""

    @property
    def label(self) -> str:
        """The dictionary's name."""
        seed = f"_seed{self.seed}" if self.seed else ""
        sparsity = f"{self.sparsity}{'' if self.sparsity == 'k' else '='}{getattr(self, self.sparsity):g}"
        return self.name or f"{self.architecture}_{self.expansion:g}x_{sparsity}{seed}"


class L1(Recipe):
    """A penalty on the features' sum, the features being read through unit decoder rows."""

    sparsity: ClassVar[str] = "l1"
    l1: Annotated[float, Field(ge=0)]
    l1_warmup: Share = 0.0
    """Share of the steps over which the penalty rises linearly."""


class Sparse(Recipe):
    """What the TopK family shares (Gao et al. 2024); weights begin as each other's transposes."""

    k: Count = 32
    """Active features per vector."""
    aux: Annotated[float, Field(ge=0)] = 1 / 32
    """Coefficient of the auxiliary loss: the share of the error's variance that the best dead features leave."""
    k_aux: Count | None = None
    """So many dead features take part; null: half the hook point's width."""
