"""Computes 95% intervals and p-values of means of features' scores, and of their differences.

Scores are bounded, and often skewed: most features of a dictionary near 0, some far above. Student's t interval then
misses too often on one side. Hall's transformation (1992) takes the skewness of the mean out of the t statistic; it is
monotone, so that intervals and p-values are those of one distribution function. The skewness is the sample's; of a
score with a range it is at least that of the beta distribution with the sample's mean and variance, and the degrees of
freedom are at most those of that distribution's sample variance.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from autointerp.statistics.clusters import Estimate, Scores, estimate

CONFIDENCE = 0.95
SMALLEST = 1e-9
"""Below this skewness nothing is transformed: the way back divides by the skewness."""
LEAST_FREEDOM = 3.0
"""The range never lowers the degrees of freedom below this: few scores say little of their kurtosis."""
Bounds = tuple[float, float]
"""The lowest and the highest value that a score can have."""


@dataclass(frozen=True)
class Interval:
    """Holds a mean and its 95% confidence interval."""

    mean: float
    low: float | None
    """None for fewer than two values, as is `high`."""
    high: float | None


def mean_interval(
    values: Sequence[float], bounds: Bounds | None = None, confidence: float = CONFIDENCE
) -> Interval | None:
    """Compute the interval of the mean over independent features, or None without values.

    Args:
        values: one score per feature.
        bounds: the score's range. The interval is cut off there: the mean cannot lie beyond, so the interval covers it
            as often as before.
    """
    if not values:
        return None
    estimated = estimate((1.0, Scores(np.asarray(values, np.float64), np.arange(len(values)))))
    if estimated is None:
        return Interval(float(np.mean(values)), None, None)
    return Interval(estimated.value, *ends(estimated, bounds, confidence))


def shaped_by_range(estimated: Estimate, scores: Scores, bounds: Bounds, chance: float | None) -> Estimate:
    """Replace skewness and degrees of freedom by those of a beta distribution with the sample's mean and variance: the
    skewness where the sample's is smaller, the degrees of freedom (Satterthwaite) where they are fewer.

    A small sample that lacks the rare high scores has too small a skewness, and its interval misses the mean on that
    side. The beta distribution ranges from the chance level, or the lowest score if that is lower, to the best value.

    Args:
        estimated: the mean of the scores.
        bounds: the score's range.
        chance: its chance level; None: the lower bound.
    """
    lowest = min(bounds[0] if chance is None else chance, float(scores.corrected_F.min()))
    width = bounds[1] - lowest
    mean = (estimated.centre - lowest) / width if width > 0 else 0.0
    variance = float(scores.corrected_F.var(ddof=1)) / width**2 if width > 0 else 0.0
    if not 0 < variance < mean * (1 - mean) or not estimated.from_features:
        return estimated
    size = mean * (1 - mean) / variance - 1  # the sum of the distribution's two parameters
    skewness = 2 * (1 - 2 * mean) * math.sqrt((size + 1) / (mean * (1 - mean))) / (size + 2)
    kurtosis = 3 * (size + 1) * (2 / (mean * (1 - mean)) + size - 6) / ((size + 2) * (size + 3)) - 3
    n, share = len(np.unique(scores.cluster_F)), estimated.from_features / estimated.error**2
    expected = skewness * share**1.5 / math.sqrt(n)
    fewer = 1 / (1 / estimated.freedom + share**2 * max(0.0, kurtosis) / (2 * n))
    freedom = max(fewer, min(estimated.freedom, LEAST_FREEDOM))
    return replace(estimated, skewness=max(estimated.skewness, expected, key=abs), freedom=freedom)


def ends(estimated: Estimate, bounds: Bounds | None = None, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the ends of the interval around the centre, cut off at the bounds; the value stays inside.

    Beyond 95% the transformation of the skewness is an extrapolation: it then only widens the interval.
    """
    from scipy import special  # imported in a tenth of the time that scipy.stats takes

    reach = float(special.stdtrit(estimated.freedom, 0.5 + confidence / 2))
    above, below = (_untransformed(q, estimated.skewness) for q in (reach, -reach))
    if confidence > CONFIDENCE:
        above, below = max(above, reach), min(below, -reach)
    low, high = estimated.centre - estimated.error * above, estimated.centre - estimated.error * below
    lowest, highest = bounds or (-math.inf, math.inf)
    return min(estimated.value, max(lowest, low)), max(estimated.value, min(highest, high))


def tails(estimated: Estimate, value: float) -> tuple[float, float]:
    """Return the p-values of "the mean is at most the value" and of "it is at least the value".

    They are 2.5% at the ends of the interval. Below that the transformation of the skewness is an extrapolation: it
    then only raises a p-value. Raises ValueError if the estimate has no variance.
    """
    from scipy import special

    if not estimated.error:
        raise ValueError("the scores do not vary")
    t, limit = (estimated.centre - value) / estimated.error, (1 - CONFIDENCE) / 2
    transformed = _transformed(t, estimated.skewness)
    pairs = [[float(special.stdtr(estimated.freedom, sign * one)) for one in (transformed, t)] for sign in (-1, 1)]
    above, below = (p if p >= limit else max(p, min(limit, plain)) for p, plain in pairs)
    return above, below


def _transformed(t: float, skewness: float) -> float:
    """Take the skewness of a mean out of its t statistic: t + s t^2 / 3 + s^2 t^3 / 27 + s / 6 (Hall 1992)."""
    return t + skewness * t**2 / 3 + skewness**2 * t**3 / 27 + skewness / 6


def _untransformed(q: float, skewness: float) -> float:
    """Return the t statistic of a transformed one."""
    if abs(skewness) < SMALLEST:
        return q
    return 3 / skewness * (float(np.cbrt(1 + skewness * (q - skewness / 6))) - 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust the p-values of several comparisons for their number, by Holm's step-down method."""
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(p_values))
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return [float(value) for value in adjusted]
