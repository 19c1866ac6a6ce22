"""Estimates means of scores that only some features have, with the help of free scores that all features have.

Free scores of all features show how far the features that are judged differ from the others, and the estimate is
corrected by as much: prediction-powered inference (Angelopoulos et al. 2023; with a fitted coefficient, PPI++,
Angelopoulos, Duchi & Zrnic 2023), which survey sampling knows as the regression estimator of two-phase sampling
(Cochran 1977, section 12.6). With a correlation r, n judged features of N leave the variance
s^2 ((1 - r^2) / n + r^2 / N) in place of s^2 / n.

The coefficient is fitted to all dictionaries together. One for each fits the few judged features of a dictionary too
well: of simulated runs of equal dictionaries with skewed scores, 5 to 12% then separated two (tests/benchmarks).

Shape suffixes: F judged features, N all features.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autointerp.statistics.clusters import RELATIVE_TOLERANCE, Influence, Scores


@dataclass(frozen=True, eq=False)
class Measured:
    """Holds the scores of a dictionary's judged features, and the free scores of all its features."""

    judged: Scores
    free: Scores | None = None
    """None where there are no free scores. Numbers of clusters are the same as in `judged`."""
    index_F: NDArray[np.int64] | None = None
    """Which of the free scores is each judged feature's; -1: it has none."""

    @property
    def _free_F(self) -> NDArray[np.float64]:
        """Each judged feature's free score, less the mean of all; 0 for one that has none."""
        if self.free is None or self.index_F is None or not len(self.free.value_F):
            return np.zeros(len(self.judged.value_F))
        return np.where(self.index_F >= 0, self.free.value_F[self.index_F] - self.free.value_F.mean(), 0.0)

    def corrected(self, slope: float) -> list[Scores]:
        """Correct the scores by the free ones.

        Returns:
            the samples whose means add up to the estimate: the scores less what the free scores say of these features
            in particular, and what they say of all, whose mean is 0. A feature of both is one cluster in both.
        """
        if not slope or self.free is None or self.index_F is None:
            return [self.judged]
        own, free = self.judged, self.free
        values = own.value_F - slope * self._free_F, slope * (free.value_F - free.value_F.mean())
        if own.influences is None or free.influences is None:
            return [Scores(values[0], own.cluster_F), Scores(values[1], free.cluster_F)]
        usual = sum(one.correction for one in free.influences) / len(free.influences)
        scaled = [
            Influence(one.document_D, slope * one.value_D, slope * (one.correction - usual)) for one in free.influences
        ]
        pairs = zip(own.influences, self.index_F, strict=True)
        left = [_less(one, scaled[index]) if index >= 0 else one for one, index in pairs]
        return [Scores(values[0], own.cluster_F, left), Scores(values[1], free.cluster_F, scaled)]


def common_slope(samples: Iterable[Measured]) -> float:
    """Fit the slope of scores on free scores within dictionaries, by least squares; 0 if the free ones do not vary."""
    product = square = scale = 0.0
    for one in samples:
        free_F = one._free_F
        if len(free_F) > 1:
            scale += float(free_F @ free_F)
            free_F = free_F - free_F.mean()
            product += float(free_F @ one.judged.value_F)
            square += float(free_F @ free_F)
    return product / square if square > RELATIVE_TOLERANCE**2 * scale else 0.0


def _less(one: Influence, other: Influence) -> Influence:
    """Subtract the documents' influences on two scores, and what corrects the scores."""
    document_D, index_D = np.unique(np.concatenate([one.document_D, other.document_D]), return_inverse=True)
    value_D = np.zeros(len(document_D))
    np.add.at(value_D, index_D, np.concatenate([one.value_D, -other.value_D]))
    return Influence(document_D, value_D, one.correction - other.correction)
