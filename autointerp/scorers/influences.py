"""Computes how much each document moves a score, which is a function of sums over documents.

What is exact over all text is computed again without each document. Scores of a few records are not: the protocol fixes
their number, and without a document that holds most of them little is left. Their influences are of the first order.

Shape suffixes: D documents, N items.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from autointerp.statistics.clusters import Influence

Floats = NDArray[np.float64]
ROUNDING = 1e-12
"""A variance that is a smaller share of the mean square is none."""


def correlation_influence(document_D: NDArray[np.int64], moments_6D: Floats) -> Influence | None:
    """Return the documents' influences on Pearson's r; none move the 0 of a constant prediction.

    With x and y standardised over all documents, a document's is the sum of xy - r (x^2 + y^2) / 2, over n.

    Args:
        document_D: ascending, each once.
        moments_6D: sums of 1, x, y, x^2, y^2 and xy over each document.

    Returns:
        None if x is constant: r is undefined.
    """
    n_D, x_D, y_D, xx_D, yy_D, xy_D = moments_6D
    n, x, y, xx, yy, xy = moments_6D.sum(1)
    mean_x, mean_y = x / n, y / n
    variance_x, variance_y = xx / n - mean_x**2, yy / n - mean_y**2
    if not variance_x > ROUNDING * xx / n:
        return None
    if not variance_y > ROUNDING * yy / n:
        return Influence(document_D, np.zeros(len(document_D)))
    scale = float(np.sqrt(variance_x * variance_y))
    r = (xy / n - mean_x * mean_y) / scale
    both_D = (xy_D - mean_x * y_D - mean_y * x_D + n_D * mean_x * mean_y) / scale
    x_D = (xx_D - 2 * mean_x * x_D + n_D * mean_x**2) / variance_x
    y_D = (yy_D - 2 * mean_y * y_D + n_D * mean_y**2) / variance_y
    return Influence(document_D, (both_D - r / 2 * (x_D + y_D)) / n)


def correlation_without_each(document_D: NDArray[np.int64], moments_6D: Floats) -> Influence | None:
    """Return the documents' influences on Pearson's r by the jackknife, and what corrects its bias.

    A document without which r is undefined moves nothing. Arguments and None are those of `correlation_influence`.
    """
    n, total_6 = len(document_D), moments_6D.sum(1)
    r, without_D = _correlation(total_6, total_6), _correlation(total_6[:, None] - moments_6D, total_6)
    if np.isnan(r):
        return None
    change_D = np.where(np.isnan(without_D), 0.0, r - without_D) * (n - 1) / n
    return Influence(document_D, change_D - change_D.mean(), float(change_D.sum()))


def _correlation(moments_6N: Floats, total_6: Floats) -> Floats:
    """Return r of each column of moments, [N]: 0 where y is constant, NaN where x is.

    Differences of the totals are rounded as these are, so that what varies is judged by the totals, too.
    """
    n, x, y, xx, yy, xy = moments_6N
    count = np.where(n > 0, n, 1.0)
    least_x, least_y = ROUNDING * total_6[3:5] / total_6[0]
    variance_x, variance_y = xx / count - (x / count) ** 2, yy / count - (y / count) ** 2
    has_x, has_y = variance_x > least_x, variance_y > least_y
    scale = np.sqrt(np.where(has_x, variance_x, 1.0) * np.where(has_y, variance_y, 1.0))
    r = np.where(has_y, (xy / count - x * y / count**2) / scale, 0.0)
    values: Floats = np.where(has_x, r, np.nan)
    return values


def confusion_influences(
    document_N: Sequence[int], is_yes_N: Sequence[bool], called_N: Sequence[bool], weight_N: Sequence[float] | None
) -> list[Influence | None]:
    """Return the documents' influences on `confusion_scores`, in its order; None where a score is.

    Args:
        document_N: each item's document.
        is_yes_N: whether its right answer is yes; some are and some are not.
        called_N: whether the answer was yes.
        weight_N: how much it counts; None: all alike.
    """
    document_D, index_N = np.unique(np.asarray(document_N, np.int64), return_inverse=True)
    weights = np.ones(len(document_N)) if weight_N is None else np.asarray(weight_N, np.float64)
    yes, called = np.asarray(is_yes_N, np.float64), np.asarray(called_N, np.float64)
    total_4D = np.stack(
        [np.bincount(index_N, weights * terms) for terms in (yes, called, yes * called, (1 - yes) * (1 - called))]
    )
    yes_D, called_D, hits_D, silent_D = total_4D
    no_D = np.bincount(index_N, weights) - yes_D
    recall, specificity = _ratio(hits_D, yes_D), _ratio(silent_D, no_D)
    assert recall is not None
    assert specificity is not None
    measures = [(recall + specificity) / 2, _ratio(hits_D, called_D), recall, _ratio(2 * hits_D, yes_D + called_D)]
    return [None if value_D is None else Influence(document_D, value_D) for value_D in measures]


def mean_influence(document_N: Sequence[int], value_N: Sequence[float]) -> Influence:
    """Return the documents' influences on the mean of items."""
    document_D, index_N = np.unique(np.asarray(document_N, np.int64), return_inverse=True)
    values = np.asarray(value_N, np.float64)
    deviations: Floats = (values - values.mean()) / len(values)
    return Influence(document_D, np.bincount(index_N, deviations).astype(np.float64))


def _ratio(numerator_D: Floats, denominator_D: Floats) -> Floats | None:
    """Return the influences on a ratio of sums; None if it does not exist."""
    total = float(denominator_D.sum())
    if total == 0:
        return None
    values_D: Floats = (numerator_D - float(numerator_D.sum()) / total * denominator_D) / total
    return values_D
