"""Computes Spearman's rank correlation and its 95% confidence interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from autointerp.statistics.intervals import CONFIDENCE

Pairs = Sequence[tuple[float, float]]
FEWEST = 4
"""Independent pairs below which there is no interval."""


@dataclass(frozen=True)
class Correlation:
    """Holds a rank correlation and its 95% confidence interval."""

    value: float
    low: float | None
    """None for fewer than FEWEST independent pairs, and where the ranks agree or disagree wholly; so is `high`."""
    high: float | None


def spearman(pairs: Pairs) -> float | None:
    """Return Spearman's rank correlation of pairs, ties sharing their mean rank; None for fewer than three pairs."""
    if len(pairs) < 3:
        return None
    a, b = (_ranks(np.array(column)) for column in zip(*pairs, strict=True))
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / norm if norm else 0.0


def correlation(pairs: Pairs, n_independent: int | None = None) -> Correlation | None:
    """Compute Spearman's correlation with its interval; None for fewer than three pairs, or if a side is constant.

    The interval is Fisher's, with the variance (1 + r^2 / 2) / (n - 3) of Bonett & Wright (Psychometrika 2000).

    Args:
        pairs: the values of each item on both sides.
        n_independent: how many of the pairs the interval counts; by default all.
    """
    value = spearman(pairs)
    if value is None or any(len(set(column)) == 1 for column in zip(*pairs, strict=True)):
        return None
    n = len(pairs) if n_independent is None else n_independent
    if n < FEWEST or abs(value) >= 1 - 1e-12:
        return Correlation(value, None, None)
    centre = math.atanh(value)
    reach = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2) * math.sqrt((1 + value**2 / 2) / (n - 3))
    return Correlation(value, math.tanh(centre - reach), math.tanh(centre + reach))


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks: NDArray[np.float64] = (ends - (counts - 1) / 2)[inverse]
    return ranks
