"""Defines the settings that all architectures share; an architecture adds its own. Needs no torch.

The loss of every recipe is c * |x - x_hat|^2 + sparsity, averaged over the batch, with c by `squared_error`:

    mean      1 / d: the mean over the d elements, as Towards Monosemanticity, Cunningham et al. and shehper have it
    sum       1: the sum over the elements, as the Gated and JumpReLU papers and SAELens have it
    variance  1 / mean |x - mean x|^2 of the first batch: about the FVU, which depends on no scale

An L1 coefficient for `mean` is d times smaller than the same one for `sum`.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from sae.common.field_types import Count, FileName, Positive, Seed, Share
from sae.common.settings import Section


class Recipe(Section):
    """Holds the settings that all architectures have."""

    architecture: str
    """Name of the architecture."""
    name: Annotated[FileName, Field(pattern=r"^[\w.=+-]+$")] | None = None
    """Name of the dictionary and its folder; null: made of architecture, expansion, sparsity, `frozen` and seed."""
    expansion: Positive = 8
    """Number of features divided by the hook point's width."""
    seed: Seed = 0
    """Seed of the initial weights."""
    encoder_start: Positive = 0.1
    """Norm of the encoder's rows at the start, which have the directions of the decoder's unit rows. At 1, the start of
    most papers, the first reconstructions are far too large. A frozen encoder always starts at 1."""
    squared_error: Literal["mean", "sum", "variance"] = "variance"
    """What the squared error is multiplied by: `mean` 1 / width, `sum` 1, `variance` 1 / the activations' variance.
    Coefficients of sparsity are relative to this."""
    skip: bool | None = None
    """True: a transcoder (`subject.writes`) also learns a linear map from what it reads to what it writes."""
    normalise: bool = True
    """Train on activations divided by the root of their mean square; saved weights are for activations as they are."""
    lr: Positive | None = None
    """Peak of Adam's learning rate; null: 2e-4 * sqrt(2^14 / features)."""
    betas: tuple[Share, Share] = (0.9, 0.999)
    """Adam's decay rates."""
    eps: Positive = 1e-8
    """Adam's epsilon; features whose gradients are not far above it learn more slowly."""
    warmup: Share = 0.05
    """Share of the steps, at the start, over which the learning rate rises linearly."""
    decay: Share = 0.2
    """Share of the steps, at the end, over which the learning rate falls linearly to 0."""
    clip: Positive | None = None
    """Largest norm of the gradient; null: no limit."""
    dead_after: Count | None = None
    """A feature counts as dead when it was active on none of this many vectors in a row; null: a sixth of the
    training's vectors, at most 10 million."""
    frozen: Literal["encoder", "decoder", "near_decoder"] | None = None
    """Make a null that a trained dictionary must beat (Korznikov et al. 2026, arXiv 2602.14111). `encoder` and
    `decoder` leave the weights of that side as they were drawn, `near_decoder` keeps every decoder row within cosine
    0.8 of its start; biases and thresholds are learnt. Null: everything is learnt."""
    one_matrix: ClassVar[bool] = False
    """Whether encoder and decoder are the same weights, so that neither can be frozen alone."""
    sparsity: ClassVar[str] = "k"
    """The setting that decides how sparse the features are."""

    @property
    def label(self) -> str:
        """The dictionary's name."""
        seed = f"_seed{self.seed}" if self.seed else ""
        sparsity = f"{self.sparsity}{'' if self.sparsity == 'k' else '='}{getattr(self, self.sparsity):g}"
        frozen = f"_frozen={self.frozen}" if self.frozen else ""
        skip = "_skip" if self.skip else ""
        return self.name or f"{self.architecture}_{self.expansion:g}x_{sparsity}{skip}{frozen}{seed}"

    @model_validator(mode="after")
    def _can_be_frozen(self) -> Self:
        if self.frozen and self.one_matrix:
            raise ValueError(
                f"frozen={self.frozen}: {self.architecture} encodes and decodes with one matrix; take relu"
            )
        return self


class L1(Recipe):
    """Penalises the sum of the features, which are read through unit decoder rows."""

    sparsity: ClassVar[str] = "l1"
    l1: Annotated[float, Field(ge=0)]
    """Coefficient of the penalty."""
    l1_warmup: Share = 0.0
    """Share of the steps, at the start, over which the penalty rises linearly."""


class Sparse(Recipe):
    """Adds the settings of the TopK family (Gao et al. 2024)."""

    k: Count = 32
    """Active features per vector."""
    encoder_start: Positive = 0.3
    """Norm of the encoder's rows at the start, which have the directions of the decoder's unit rows; 1 in most papers,
    with which more features die. A frozen encoder always starts at 1."""
    warmup: Share = 0.0
    """Share of the steps, at the start, over which the learning rate rises linearly; short trainings learn most
    without."""
    aux: Annotated[float, Field(ge=0)] = 1 / 32
    """Coefficient of the auxiliary loss, in which dead features reconstruct the error; 0: none."""
    k_aux: Count | None = None
    """Number of dead features in the auxiliary loss; null: half of the hook point's width."""
