"""How sparse a dictionary is, and how much of the activations and of the model's prediction it keeps.

Knows nothing about explanations.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sae.dictionary import Dictionary
from sae.subject import Replace, Subject, batches

BLOCKS_AT_ONCE = 32
ULTRALOW = 1e-6
"""Features active on fewer tokens than this share, but on some, are of ultralow density (Towards Monosemanticity)."""


@dataclass(frozen=True)
class Reconstruction:
    """Measured on held-out text.

    l0: mean number of active features per token.
    fvu: fraction of variance unexplained, sum |x - x_hat|^2 / sum |x - mean x|^2 over all tokens and dimensions; None
        where the activations do not vary.
    dead: share of features active on none of the measured tokens.
    tokens: how many tokens were measured.
    """

    l0: float
    fvu: float | None
    dead: float
    tokens: int


@dataclass(frozen=True)
class CrossEntropy:
    """Next-token loss in nats: untouched, with the activations reconstructed, set to zero, and set to their mean.

    averaged: None where the mean ablation was not asked for.
    """

    clean: float
    reconstructed: float
    zeroed: float
    averaged: float | None = None

    @property
    def recovered(self) -> float | None:
        """Share of the loss increase of zero ablation that the reconstruction avoids; None if there is none."""
        return self._recovered(self.zeroed)

    @property
    def recovered_from_mean(self) -> float | None:
        """The same share of the loss increase of mean ablation, the gentler one; None if that was not measured."""
        return None if self.averaged is None else self._recovered(self.averaged)

    def _recovered(self, ablated: float) -> float | None:
        harm = ablated - self.clean
        return None if harm == 0 else 1 - (self.reconstructed - self.clean) / harm


@dataclass(frozen=True)
class Histogram:
    """Features by log10 of their density; those never active are in no bin.

    edges: log10 of the bins' borders, whole decades down to one token in all. counts: features in each bin; one on a
        border is in the upper bin.
    """

    edges: list[float]
    counts: list[int]


@dataclass(frozen=True)
class Density:
    """Share of the tokens on which each feature is active, [F], in double precision, and of how many tokens."""

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
        if self.tokens * ULTRALOW <= 1:
            return None
        return float(((self.density_F > 0) & (self.density_F < ULTRALOW)).double().mean())

    def histogram(self, per_decade: int = 10) -> Histogram:
        """Over log10 of the density, with so many bins in each factor of ten."""
        bins = per_decade * max(1, math.ceil(math.log10(self.tokens)))
        edges = np.arange(-bins, 1) / per_decade
        alive = np.log10(self.density_F[self.density_F > 0].cpu().numpy())
        counts, _ = np.histogram(alive.clip(edges[0], 0), edges)
        return Histogram(edges.tolist(), counts.tolist())


class Firing:
    """On how many tokens each feature has been active, counted batch by batch on the activations' device."""

    def __init__(self, n_features: int, device: str | torch.device = "cpu") -> None:
        self.counts_F = torch.zeros(n_features, dtype=torch.long, device=device)
        self.tokens = 0

    def add(self, acts_BF: Tensor) -> None:
        """Count activations [B, F] >= 0."""
        self.counts_F += (acts_BF > 0).sum(0)
        self.tokens += len(acts_BF)

    def density(self) -> Density:
        """Of the tokens counted so far."""
        if not self.tokens:
            raise ValueError("no tokens were counted, so no feature has a density")
        return Density(self.counts_F.double() / self.tokens, self.tokens)


@torch.no_grad()
def density(dictionary: Dictionary, x_BD: Tensor, rows: int = 4096) -> Tensor:
    """Share of the vectors on which each feature is active, [F], in double precision."""
    counts_F = torch.zeros(dictionary.n_features, dtype=torch.float64, device=x_BD.device)
    for part_BD in x_BD.split(rows):
        counts_F += (dictionary.encode(part_BD) > 0).sum(0)
    return counts_F / len(x_BD)


@torch.no_grad()
def reconstruction(dictionary: Dictionary, x_BD: Tensor, rows: int = 4096) -> Reconstruction:
    """L0, FVU and dead share on activation vectors [B, D]."""
    counts_F = torch.zeros(dictionary.n_features, dtype=torch.float64, device=x_BD.device)
    residual = torch.zeros((), dtype=torch.float64, device=x_BD.device)
    for part_BD in x_BD.split(rows):
        features_BF = dictionary.encode(part_BD)
        counts_F += (features_BF > 0).sum(0)
        residual += (part_BD - dictionary.decode(features_BF, part_BD)).double().square().sum()
    total = (x_BD - x_BD.mean(0)).double().square().sum()
    return Reconstruction(
        l0=float(counts_F.sum() / len(x_BD)),
        fvu=float(residual / total) if total > 0 else None,
        dead=float((counts_F == 0).double().mean()),
        tokens=len(x_BD),
    )


@dataclass(frozen=True)
class Baseline:
    """Blocks and the losses on them that every dictionary's is compared with."""

    subject: Subject
    hook_point: str
    ids_NC: Tensor
    clean: float
    zeroed: float
    averaged: float | None = None


def baseline(subject: Subject, hook_point: str, ids_NC: Tensor, mean_D: Tensor | None = None) -> Baseline:
    """Measure the untouched and the zero-ablated loss of some blocks of ids; with `mean_D` the mean-ablated one too."""
    clean, zeroed = _loss(subject, hook_point, ids_NC, None), _loss(subject, hook_point, ids_NC, torch.zeros_like)
    if mean_D is None:
        return Baseline(subject, hook_point, ids_NC, clean, zeroed)
    averaged = _loss(subject, hook_point, ids_NC, lambda x_NCD: mean_D.to(x_NCD).expand_as(x_NCD))
    return Baseline(subject, hook_point, ids_NC, clean, zeroed, averaged)


def mean_activation(subject: Subject, hook_point: str, ids_NC: Tensor) -> Tensor:
    """Mean activation [D] over every token of some blocks, for the mean ablation; summed in double precision."""
    total = torch.zeros((), dtype=torch.float64, device=ids_NC.device)
    for part_NC in batches(ids_NC, BLOCKS_AT_ONCE):
        total = total + subject.activations(part_NC, hook_point).double().sum((0, 1))
    return total / ids_NC.numel()


def cross_entropy(dictionary: Dictionary, against: Baseline) -> CrossEntropy:
    """Loss with the activations replaced by the dictionary's reconstruction, beside the baseline's."""
    reconstructed = _loss(
        against.subject,
        against.hook_point,
        against.ids_NC,
        lambda x_NCD: dictionary.reconstruct(x_NCD.flatten(0, 1).float()).view_as(x_NCD),
    )
    return CrossEntropy(against.clean, reconstructed, against.zeroed, against.averaged)


def _loss(subject: Subject, hook_point: str, ids_NC: Tensor, replace: Replace | None) -> float:
    """Mean over tokens 1..C-1 of each block."""
    parts = [subject.losses(part, hook_point, replace) for part in batches(ids_NC, BLOCKS_AT_ONCE)]
    return float(torch.cat(parts).mean())
