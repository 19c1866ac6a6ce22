"""Estimates means of features' scores and their differences, with the variance that features and documents add.

All features of a run are scored on the same documents, so that their scores are not independent: another text moves
them together. The variance of a mean is that of a sample in two ways (Cameron, Gelbach & Miller 2011; Owen 2007):

    V = V_features + V_documents - V_both

V_features is the usual variance over features; it holds what each feature's own text adds. V_documents sums the
documents' influences on the mean, V_both those on each feature, so that their difference is what the text adds to all
features in common. Features of one direction, as the halves of a principal component, are one cluster.

A correlation over few documents is biased. Where all text is scored, intervals and tests are about the mean over any
number of such documents: around the mean that the jackknife corrects, with its variance (MacKinnon, Nielsen & Webb
2023 on few and unequal clusters). The mean that is reported stays that of this text.

Shape suffixes: F features, G clusters of features, D documents, E influences one after the other, C cells of the table
clusters x documents.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
RELATIVE_TOLERANCE = 1e-9
"""Scores that vary by less than this share of the largest value are constant: the rest is rounding."""
FEWEST_DOCUMENTS = 3.0
"""The least number of documents that one long and several short ones count as: below, intervals were longer in
simulations, not more often right."""


@dataclass(frozen=True, eq=False)
class Influence:
    """Holds how much each document moves one score of one feature; the values add up to 0."""

    document_D: NDArray[np.int64]
    """Indices of documents in the corpus, ascending, each once."""
    value_D: Floats
    """The score's change, to the first order, if the document counted twice. Where all text is scored: what the score
    loses without the document, times (D - 1) / D, less the mean over documents (the jackknife's)."""
    correction: float = 0.0
    """What the jackknife adds to the score of D documents to estimate that of any number (Quenouille 1956)."""


@dataclass(frozen=True, eq=False)
class Scores:
    """Holds one score of a sample of features."""

    value_F: Floats
    cluster_F: NDArray[np.int64]
    """Features with the same number are not independent draws; numbers mean the same in all samples of a run."""
    influences: Sequence[Influence] | None = None
    """Of the documents on each score; None where a score has no parts by document."""

    @property
    def corrected_F(self) -> Floats:
        """The scores that are expected of any number of documents."""
        if not self.influences:
            return self.value_F
        return self.value_F + np.array([one.correction for one in self.influences], np.float64)

    @property
    def n_documents(self) -> int | None:
        """How many documents the scores are about; None where that is not known."""
        if not self.influences:
            return None
        return len(np.unique(np.concatenate([one.document_D for one in self.influences])))


@dataclass(frozen=True)
class Estimate:
    """Holds a mean, or a difference of means, with its variance."""

    value: float
    centre: float
    """The same of the corrected scores: what intervals and tests are about."""
    from_features: float
    """Variance that the draw of features adds, with what each feature's own text adds."""
    from_documents: float | None
    """Variance that the draw of documents adds to all features in common; None where it is not known."""
    freedom: float
    """Degrees of freedom of the variance, after Satterthwaite."""
    skewness: float
    """Third central moment of the mean over its standard deviation cubed; the features' share of it."""

    @property
    def error(self) -> float:
        """The standard error."""
        return math.sqrt(self.from_features + (self.from_documents or 0.0))


def estimate(*samples: tuple[float, Scores]) -> Estimate | None:
    """Estimate a weighted sum of means: one sample's with weight 1, or a difference with weights 1 and -1.

    Features that share a cluster within a sample or across samples may depend on each other in any way: where every
    feature has its counterpart in the other sample, the result is that of the paired differences.

    Returns:
        None if a sample has fewer than two features.
    """
    if any(len(scores.value_F) < 2 for _, scores in samples):
        return None
    scale = max(float(np.abs(scores.value_F).max()) for _, scores in samples)
    deviation_F = np.concatenate([weight * _deviations(scores.corrected_F, scale) for weight, scores in samples])
    _, index_F = np.unique(np.concatenate([scores.cluster_F for _, scores in samples]), return_inverse=True)
    deviation_G = np.bincount(index_F, deviation_F)
    from_features = float(deviation_G @ deviation_G)
    freedom = _freedom(samples, deviation_F) * len(deviation_G) / len(deviation_F)
    from_documents, freedom_of_documents = _documents(samples, index_F)
    total = from_features + (from_documents or 0.0)
    value = sum(weight * float(scores.value_F.mean()) for weight, scores in samples)
    centre = sum(weight * float(scores.corrected_F.mean()) for weight, scores in samples)
    if total == 0:
        return Estimate(value, centre, 0.0, from_documents, freedom, 0.0)
    parts = from_features**2 / freedom
    if from_documents:
        parts += from_documents**2 / freedom_of_documents
    skewness = float((deviation_G**3).sum()) / total**1.5
    return Estimate(value, centre, from_features, from_documents, total**2 / parts, skewness)


def _deviations(value_F: Floats, scale: float) -> Floats:
    """Return each feature's part of the error of its mean: the squares add up to the variance of the mean."""
    n = len(value_F)
    if np.ptp(value_F) <= RELATIVE_TOLERANCE * scale:
        return np.zeros(n)
    deviations: Floats = (value_F - value_F.mean()) / math.sqrt(n * (n - 1))
    return deviations


def _freedom(samples: Sequence[tuple[float, Scores]], deviation_F: Floats) -> float:
    """Return Welch's degrees of freedom of independent features."""
    sizes = [len(scores.value_F) for _, scores in samples]
    parts = [float(part @ part) for part in np.split(deviation_F, np.cumsum(sizes)[:-1])]
    if not sum(parts):
        return float(sum(sizes) - len(sizes))
    return sum(parts) ** 2 / sum(part**2 / (size - 1) for part, size in zip(parts, sizes, strict=True))


def _documents(samples: Sequence[tuple[float, Scores]], index_F: NDArray[np.int64]) -> tuple[float | None, float]:
    """Return the variance that documents add to all features in common, at least 0, and its degrees of freedom.

    Documents differ in length. They count as the number of equal ones whose variance, as features of their own show
    it, is as uneven: (sum v)^2 / sum v^2.
    """
    if any(scores.influences is None for _, scores in samples):
        return None, 0.0
    parts = [(weight / len(one.value_F), part) for weight, one in samples for part in one.influences or ()]
    documents, index_E = np.unique(np.concatenate([part.document_D for _, part in parts]), return_inverse=True)
    cluster_E = np.repeat(index_F, [len(part.document_D) for _, part in parts])
    value_E = np.concatenate([weight * part.value_D for weight, part in parts])
    cell_C, index_E = np.unique(cluster_E * len(documents) + index_E, return_inverse=True)
    value_C, document_C = np.bincount(index_E, value_E), cell_C % len(documents)
    all_D = np.bincount(document_C, value_C)
    own_D = np.bincount(document_C, value_C**2)
    if len(documents) < 2:
        return None, 0.0
    if not own_D.any():
        return 0.0, 1.0
    number = float(own_D.sum() ** 2 / (own_D**2).sum())
    if number <= 1 + RELATIVE_TOLERANCE:
        return None, 0.0
    number = max(number, min(FEWEST_DOCUMENTS, float(len(documents))))
    return max(0.0, float(all_D @ all_D - own_D.sum())) * number / (number - 1), number - 1
