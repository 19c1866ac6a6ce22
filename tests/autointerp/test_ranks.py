"""Spearman's correlation against scipy, its interval against draws whose correlation is known."""

import math

import numpy as np
import pytest
from scipy import stats

from autointerp.statistics.ranks import FEWEST, correlation, spearman

PAIRS = [(1.0, 2.0), (1.0, 5.0), (3.0, 5.0), (4.0, 1.0), (9.0, 8.0)]


def test_ties_share_ranks() -> None:
    expected = stats.spearmanr(*zip(*PAIRS, strict=True)).statistic
    rank = correlation(PAIRS)
    assert rank
    assert spearman(PAIRS) == rank.value == pytest.approx(expected)
    assert spearman(PAIRS[:2]) is None
    assert spearman([(1.0, 2.0)] * 4) == 0


def test_no_interval_where_none_can_be_computed() -> None:
    assert correlation(PAIRS[:2]) is None
    assert correlation([(1.0, value) for _, value in PAIRS]) is None  # a constant side has no correlation
    whole = correlation([(value, -value) for value, _ in PAIRS])
    assert whole
    assert (round(whole.value, 9), whole.low, whole.high) == (-1, None, None)
    few = correlation(PAIRS, FEWEST - 1)
    assert few
    assert few.low is None


@pytest.mark.parametrize("true", [0.0, 0.7])
def test_the_interval_covers_the_true_correlation(true: float) -> None:
    """Of normal pairs whose Pearson correlation is r, Spearman's is 6 / pi * asin(r / 2)."""
    rng, spread = np.random.default_rng(0), np.linalg.cholesky([[1, true], [true, 1]])
    expected, covered = 6 / math.pi * math.asin(true / 2), []
    for _ in range(600):
        rank = correlation([(a, b) for a, b in rng.standard_normal((25, 2)) @ spread.T])
        assert rank
        assert rank.low is not None
        assert rank.high is not None
        covered.append(rank.low <= expected <= rank.high)
    assert 0.92 <= np.mean(covered) <= 0.98
