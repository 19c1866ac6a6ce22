"""What a dictionary is trained by, one small class per architecture, and what a toy subject is. Needs no torch.

The loss of every recipe is c * |x - x_hat|^2 + sparsity, averaged over the batch, with c by `squared_error`:

    mean      1 / d: the mean over the d elements, as Towards Monosemanticity, Cunningham et al. and shehper have it
    sum       1: the sum over the elements, as the Gated and JumpReLU papers and SAELens have it
    variance  1 / mean |x - mean x|^2 of the first batch: about the FVU, which depends on no scale

An L1 coefficient for `mean` is d times smaller than the same one for `sum`.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

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


class Resampling(Section):
    """Dead features begin anew on badly explained inputs (Towards Monosemanticity, appendix on resampling).

    The inputs are taken from the stream, so whatever is trained beside it goes on with later ones.
    """

    steps: tuple[Count, ...] = ()
    """The steps after which it is done."""
    silent_steps: Count = 12_500
    """Active in none of so many steps is dead."""
    inputs: Count = 819_200
    """Vectors whose losses are looked at."""
    encoder_norm: Positive = 0.2
    """Norm of a new encoder row, as a share of the living ones' mean norm."""


class ReLU(L1):
    """Untied, unit decoder rows, the decoder bias begun at the geometric median (Towards Monosemanticity)."""

    architecture: Literal["relu"] = "relu"
    resampling: Resampling = Resampling()


class Tied(L1):
    """Unit rows read and write, no decoder bias (Cunningham et al. 2023)."""

    architecture: Literal["tied"] = "tied"


class Gated(L1):
    """A gate under L1 beside a magnitude, and an auxiliary reconstruction by the gate (Rajamanoharan et al. 2024a)."""

    architecture: Literal["gated"] = "gated"


class JumpReLU(Recipe):
    """A learnt threshold per feature, an L0 penalty, straight-through estimates (Rajamanoharan et al. 2024b)."""

    architecture: Literal["jumprelu"] = "jumprelu"
    sparsity: ClassVar[str] = "l0"
    l0: Annotated[float, Field(ge=0)]
    """Coefficient of the number of active features."""
    l0_warmup: Share = 0.1
    bandwidth: Positive = 0.03
    """Width of the rectangle around a threshold, in the units trained in. The paper's 0.001 is for vectors of norm 1;
    `normalise` gives them norm sqrt(d), in which it is 0.001 sqrt(d): 0.03 at d = 900."""
    threshold: Positive = 0.03
    """Where all thresholds begin, in the same units; in a short training they cannot rise far."""


class Sparse(Recipe):
    """What the TopK family shares (Gao et al. 2024); weights begin as each other's transposes."""

    k: Count = 32
    """Active features per vector."""
    aux: Annotated[float, Field(ge=0)] = 1 / 32
    """Coefficient of the auxiliary loss: the share of the error's variance that the best dead features leave."""
    k_aux: Count | None = None
    """So many dead features take part; null: half the hook point's width."""


class TopK(Sparse):
    """The k largest features of each vector (Gao et al. 2024)."""

    architecture: Literal["topk"] = "topk"


class BatchTopK(Sparse):
    """The k * B largest of a batch of B (Bussmann et al. 2024); a JumpReLU with one threshold afterwards."""

    architecture: Literal["batch_topk"] = "batch_topk"


class Matryoshka(Sparse):
    """BatchTopK whose first features must also reconstruct without the later ones (Bussmann et al. 2025)."""

    architecture: Literal["matryoshka"] = "matryoshka"
    prefixes: Annotated[tuple[Share, ...], Field(min_length=1)] = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1)
    """Shares of the features that reconstruct by themselves; the errors of all prefixes are averaged."""

    @model_validator(mode="after")
    def _rising(self) -> "Matryoshka":
        if list(self.prefixes) != sorted(set(self.prefixes)) or self.prefixes[-1] != 1 or self.prefixes[0] == 0:
            raise ValueError("prefixes must rise to 1")
        return self


AnyRecipe = Annotated[
    ReLU | Tied | Gated | JumpReLU | TopK | BatchTopK | Matryoshka, Field(discriminator="architecture")
]
