"""Counts, batch by batch, on which share of the tokens features are active, and summarises it.

Shape suffixes: B activation vectors, F features.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

ULTRALOW = 1e-6
"""Features active on fewer tokens than this share, but on some, are of ultralow density (Towards Monosemanticity)."""
ENOUGH_FOR_ULTRALOW = 10_000_000
"""Fewest tokens on which that share (ten of them) is counted: on fewer, chance decides which features are below it."""


@dataclass(frozen=True)
class Histogram:
    """Counts features by log10 of their density; those never active are in no bin.

    edges: log10 of the bins' borders, whole decades down to one token in all. counts: features in each bin; one on a
        border is in the upper bin.
    """

    edges: list[float]
    counts: list[int]


@dataclass(frozen=True)
class Density:
    """Holds the share of tokens on which each feature is active, [F], in double precision, and the number of tokens."""

    density_F: Tensor
    tokens: int

    @property
    def dead(self) -> float:
        """Share of features active on none of the tokens."""
        return float((self.density_F == 0).double().mean())

    @property
    def ultralow(self) -> float | None:
        """Share of features active on some tokens, but on less than 1e-6 of them; None if too few tokens to tell.

        Dead ones are not among them, as in Towards Monosemanticity's A/1 (168 dead, 292 ultralow of 4,096).
        """
        if self.tokens < ENOUGH_FOR_ULTRALOW:
            return None
        return float(((self.density_F > 0) & (self.density_F < ULTRALOW)).double().mean())

    def histogram(self, per_decade: int = 10) -> Histogram:
        """Count the features by log10 of their density, with so many bins in each factor of ten."""
        bins = per_decade * max(1, math.ceil(math.log10(self.tokens)))
        edges = np.arange(-bins, 1) / per_decade
        alive = np.log10(self.density_F[self.density_F > 0].cpu().numpy())
        counts, _ = np.histogram(alive.clip(edges[0], 0), edges)
        return Histogram(edges.tolist(), counts.tolist())


class Firing:
    """Counts on how many tokens each feature has been active, batch by batch, on the activations' device."""

    def __init__(self, n_features: int, device: str | torch.device = "cpu") -> None:
        self.counts_F = torch.zeros(n_features, dtype=torch.long, device=device)
        self.tokens = 0

    def add(self, acts_BF: Tensor) -> None:
        """Count activations [B, F] >= 0."""
        self.add_counts((acts_BF > 0).sum(0), len(acts_BF))

    def add_counts(self, counts_F: Tensor, tokens: int) -> None:
        """Count tokens of which it is known on how many each feature is active."""
        self.counts_F += counts_F
        self.tokens += tokens

    def density(self) -> Density:
        """Return the densities over the tokens counted so far."""
        if not self.tokens:
            raise ValueError("no tokens were counted, so no feature has a density")
        return Density(self.counts_F.double() / self.tokens, self.tokens)
