"""Means corrected by free scores: against the regression estimator's closed form, by simulation, in runs in rounds."""

import math
from functools import partial

import numpy as np
import pytest

from autointerp.statistics.clusters import Estimate, Influence, Scores, estimate
from autointerp.statistics.control_variates import Measured, common_slope
from autointerp.statistics.resolution import Design, Sample, resolve


def drawn(n: int, n_free: int, correlation: float, rng: np.random.Generator, number: int = 0) -> Measured:
    """Draw Gaussian scores of mean 0.3 and standard deviation 0.2, and free ones on another scale."""
    free_F, rest_F = rng.standard_normal((2, n_free))
    value_F = 0.3 + 0.2 * (correlation * free_F + math.sqrt(1 - correlation**2) * rest_F)
    cluster_F = 10_000 * number + np.arange(n_free)
    return Measured(Scores(value_F[:n], cluster_F[:n]), Scores(5 + 3 * free_F, cluster_F), np.arange(n))


def estimated(one: Measured, slope: float) -> Estimate:
    made = estimate(*((1.0, part) for part in one.corrected(slope)))
    assert made
    return made


@pytest.mark.parametrize("correlation", [0.0, 0.6, 0.9])
def test_variance_is_that_of_the_regression_estimator(correlation: float) -> None:
    """Cochran (1977, equation 12.51): s^2 ((1 - r^2) / n + r^2 / N), and the stated variance is the true one."""
    rng, n, n_free = np.random.default_rng(0), 40, 400
    samples = [drawn(n, n_free, correlation, rng) for _ in range(300)]
    made = [estimated(one, common_slope([one])) for one in samples]
    expected = 0.04 * ((1 - correlation**2) / n + correlation**2 / n_free)
    values = np.array([one.value for one in made])
    assert values.mean() == pytest.approx(0.3, abs=4 * math.sqrt(expected / len(made)))
    assert values.var() == pytest.approx(expected, rel=0.25)
    assert np.mean([one.from_features for one in made]) == pytest.approx(expected, rel=0.1)


def test_the_estimate_is_the_fitted_line_at_the_mean_of_all_features() -> None:
    one = drawn(20, 100, 0.7, np.random.default_rng(1))
    assert one.free
    line = np.polyfit(one.free.value_F[:20], one.judged.value_F, 1)
    slope = common_slope([one])
    assert slope == pytest.approx(line[0])
    assert estimated(one, slope).value == pytest.approx(np.polyval(line, one.free.value_F.mean()))


def test_the_slope_is_one_within_dictionaries() -> None:
    """Least squares with a dummy variable per dictionary."""
    rng = np.random.default_rng(2)
    one, other = drawn(10, 50, 0.8, rng), drawn(30, 60, 0.2, rng)
    dummies = np.repeat(np.eye(2), (10, 30), axis=0)
    assert one.free
    assert other.free
    free_F = np.concatenate([one.free.value_F[:10], other.free.value_F[:30]])
    values_F = np.concatenate([one.judged.value_F, other.judged.value_F])
    expected = np.linalg.lstsq(np.column_stack([free_F, dummies]), values_F, rcond=None)[0][0]
    assert common_slope([one, other]) == pytest.approx(expected)


def test_free_scores_change_nothing_where_all_features_are_judged_or_none_has_one() -> None:
    one = drawn(30, 30, 0.8, np.random.default_rng(3))
    plain = estimate((1.0, one.judged))
    assert plain
    made = estimated(one, common_slope([one]))
    assert (made.value, made.from_features) == pytest.approx((plain.value, plain.from_features))
    without = Measured(one.judged, one.free, np.full(30, -1))
    assert common_slope([without]) == 0
    assert estimated(without, 0.0) == plain
    constant = Measured(one.judged, Scores(np.full(30, 0.7), one.judged.cluster_F), np.arange(30))
    assert common_slope([constant]) == 0


def test_documents_move_the_corrected_mean_as_its_parts_do() -> None:
    """The variance from documents is that of the whole influence of each document, by hand."""
    rng, n, n_free, slope = np.random.default_rng(4), 6, 15, 0.8
    judged_FD, free_FD = rng.standard_normal((n, 4)), rng.standard_normal((n_free, 4))
    base = drawn(n, n_free, 0.5, rng)
    assert base.free
    document_D = np.array([2, 3, 5, 8])
    moved = [Influence(document_D, one, 0.01 * index) for index, one in enumerate(judged_FD)]
    judged = Scores(base.judged.value_F, base.judged.cluster_F, moved)
    moved = [Influence(document_D, one, -0.02 * index) for index, one in enumerate(free_FD)]
    free = Scores(base.free.value_F, base.free.cluster_F, moved)
    made = estimated(Measured(judged, free, np.arange(n)), slope)
    own_FD = slope * free_FD / n_free
    own_FD[:n] += (judged_FD - slope * free_FD[:n]) / n
    all_D, squares_D = own_FD.sum(0), (own_FD**2).sum(0)
    number = squares_D.sum() ** 2 / (squares_D**2).sum()
    of_all, of_judged = (-0.02 * np.arange(number).mean() for number in (n_free, n))
    assert made.centre - made.value == pytest.approx(0.01 * np.arange(n).mean() + slope * (of_all - of_judged))
    assert made.from_documents == pytest.approx(max(0.0, all_D @ all_D - squares_D.sum()) * number / (number - 1))


def test_a_feature_without_a_free_score_is_not_corrected() -> None:
    """By hand, for the corrections that a jackknife adds: of the others, less what all free scores have on average."""
    base, slope = drawn(4, 9, 0.5, np.random.default_rng(6)), 0.8
    assert base.free
    moved = [Influence(np.array([0, 1]), np.array([0.1, -0.1]), c) for c in (0.3, 0.1, 0.0, 0.2)]
    judged = Scores(base.judged.value_F, base.judged.cluster_F, moved)
    free_F = 0.05 * np.arange(9)
    moved = [Influence(np.array([0, 1]), np.array([0.2, -0.2]), c) for c in free_F.tolist()]
    free = Scores(base.free.value_F, base.free.cluster_F, moved)
    made = estimated(Measured(judged, free, np.array([3, -1, 0, 5])), slope)
    corrected = slope * (free_F[[3, 0, 5]] - free_F.mean()).sum() / 4
    assert made.centre - made.value == pytest.approx(0.15 - corrected)


def test_runs_with_good_free_scores_judge_fewer_features_and_decide_as_much() -> None:
    rng = np.random.default_rng(5)
    design = Design(dict.fromkeys("abc", 100), [], 10, 0.05, futility=0.5)
    judged, decided = np.zeros(2), np.zeros(2)
    for _ in range(4):
        whole = {name: drawn(400, 400, 0.9, rng, number) for number, name in enumerate("abc")}
        shift = {"a": 0.12, "b": 0.0, "c": 0.0}
        for way in (0, 1):
            made = resolve(design, partial(first_of, whole, shift, bool(way)))
            judged[way] += sum(made.features.values())
            decided[way] += made.n_decided
            assert not any(
                one.verdict == "differ" and one.difference and one.difference * (shift[one.dictionary] or -1) < 0
                for one in made.comparisons
                if one.against and "a" in one.names
            )
    assert judged[1] < 0.7 * judged[0]
    assert decided[1] >= decided[0]


def first_of(whole: dict[str, Measured], shift: dict[str, float], with_free: bool, name: str, n: int) -> Sample:
    one = whole[name]
    judged = Scores(one.judged.value_F[:n] + shift[name], one.judged.cluster_F[:n])
    return Sample(Measured(judged, one.free, np.arange(n)) if with_free else Measured(judged), {})
