"""Intervals and comparisons against scipy, brute force and simulations whose answer is known."""

import itertools
import warnings
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from autointerp.statistics import intervals
from autointerp.statistics.clusters import Influence, Scores, estimate
from autointerp.statistics.comparisons import LEVEL, MARGIN, compare_all, features_needed, letters

Floats = NDArray[np.float64]


def scores(values: Floats, first_cluster: int = 0, influence_FD: Floats | None = None) -> Scores:
    """Independent features, numbered from a cluster on."""
    document_D = np.arange(0 if influence_FD is None else influence_FD.shape[1])
    parts = None if influence_FD is None else [Influence(document_D, row_D) for row_D in influence_FD]
    return Scores(np.asarray(values, np.float64), first_cluster + np.arange(len(values)), parts)


def on_one_text(rng: np.random.Generator, n: int, size_D: Floats, common: float = 0.1, own: float = 0.3) -> Scores:
    """Features of mean 0.2, skewed, whose scores move with the documents: in common and each on its own."""
    share_D = size_D / size_D.sum()
    noise_FD = np.sqrt(share_D) * (common * rng.normal(size=len(size_D)) + own * rng.normal(size=(n, len(size_D))))
    value_F = 0.1 * rng.gamma(2.0, size=n) + noise_FD.sum(1)
    return scores(value_F, 0, noise_FD - share_D * noise_FD.sum(1, keepdims=True))


def test_symmetric_scores_have_students_interval_and_welchs_test() -> None:
    """Against scipy: without skewness, documents or pairs nothing is left of the corrections."""
    rng = np.random.default_rng(0)
    half = rng.normal(size=10)
    a, b = np.concatenate([0.4 + half, 0.4 - half]), np.concatenate([half[:5] * 3, -half[:5] * 3])
    result = intervals.mean_interval(a.tolist())
    assert result
    assert (result.low, result.high) == pytest.approx(stats.t.interval(0.95, 19, a.mean(), stats.sem(a)))
    estimated = estimate((1.0, scores(a)), (-1.0, scores(b, 100)))
    assert estimated
    welch = stats.ttest_ind(a, b, equal_var=False)
    assert 2 * min(intervals.tails(estimated, 0.0)) == pytest.approx(welch.pvalue)
    assert intervals.ends(estimated) == pytest.approx(tuple(welch.confidence_interval(0.95)))
    (row,) = compare_all({"a": scores(a), "b": scores(b, 100)}, None)
    sides = (stats.ttest_ind(a + MARGIN, b, equal_var=False, alternative="greater"),
             stats.ttest_ind(a - MARGIN, b, equal_var=False, alternative="less"))  # fmt: skip
    assert row.p_equivalence == pytest.approx(max(side.pvalue for side in sides))


def test_features_of_one_direction_are_paired() -> None:
    """Against scipy's paired test; the differences are symmetric."""
    rng = np.random.default_rng(1)
    half, shared = rng.normal(size=8), rng.normal(size=16)
    a, b = shared + np.concatenate([half, -half]) + 0.3, shared
    estimated = estimate((1.0, scores(a)), (-1.0, scores(b)))
    assert estimated
    paired = stats.ttest_rel(a, b)
    assert estimated.error == pytest.approx(stats.sem(a - b))
    assert 2 * min(intervals.tails(estimated, 0.0)) == pytest.approx(paired.pvalue, rel=0.1)
    assert estimated.freedom == pytest.approx(stats.ttest_ind(a, b, equal_var=False).df / 2)


def test_the_variance_is_cameron_gelbach_and_millers() -> None:
    """Against the sum over all pairs of cells that share a feature or a document, with equal documents."""
    rng = np.random.default_rng(2)
    n, documents = 12, 9
    influence_FD = rng.normal(size=(n, documents)) + rng.normal(size=documents) * 0.7
    influence_FD -= influence_FD.mean(1, keepdims=True)
    estimated = estimate((1.0, scores(rng.random(n), 0, influence_FD)))
    assert estimated
    common = sum(
        influence_FD[f, d] * influence_FD[g, d]
        for f, g in itertools.permutations(range(n), 2)
        for d in range(documents)
    )
    own_D = (influence_FD**2).sum(0)
    number = own_D.sum() ** 2 / (own_D**2).sum()
    of_documents = common / n**2 * number / (number - 1)
    assert estimated.from_documents == pytest.approx(of_documents)
    assert number < documents
    of_features = estimated.from_features
    parts = of_features**2 / (n - 1) + of_documents**2 / (number - 1)
    assert estimated.freedom == pytest.approx((of_features + of_documents) ** 2 / parts)  # Satterthwaite


def test_intervals_are_around_the_corrected_mean_and_hold_the_one_that_is_reported() -> None:
    """As of scores that lie where the correction moves them, whose documents are equal ones."""
    rng = np.random.default_rng(11)
    value_F, correction_F, noise_FD = rng.random(12), rng.normal(0.2, 0.1, 12), rng.normal(size=(12, 8)) * 0.05
    noise_FD -= noise_FD.mean(1, keepdims=True)
    parts = [Influence(np.arange(8), row_D, c) for row_D, c in zip(noise_FD, correction_F, strict=True)]
    made = estimate((1.0, Scores(value_F, np.arange(12), parts)))
    moved = estimate((1.0, scores(value_F + correction_F, 0, noise_FD)))
    assert made
    assert moved
    assert made.value == pytest.approx(value_F.mean())
    assert made.centre == pytest.approx(moved.value)
    assert intervals.tails(made, 0.5) == pytest.approx(intervals.tails(moved, 0.5))
    assert intervals.ends(made)[1] == pytest.approx(intervals.ends(moved)[1])
    assert intervals.ends(made)[0] <= made.value


def test_one_long_document_counts_as_three() -> None:
    """Its influences are all but alone, and no number of equal documents below 3 is taken."""
    influence_FD = np.tile([0.3, -0.1, -0.1, -0.1], (6, 1)) + np.arange(6)[:, None] * [0.1, -0.1, 0, 0]
    estimated = estimate((1.0, scores(np.linspace(0, 1, 6), 0, influence_FD)))
    assert estimated
    common = (influence_FD.sum(0) ** 2).sum() - (influence_FD**2).sum()
    assert estimated.from_documents == pytest.approx(common / 36 * 3 / 2)


def test_what_has_no_documents_says_so() -> None:
    values = np.array([0.1, 0.5, 0.3])
    one = scores(values, 0, np.zeros((3, 1)))
    for sample in (scores(values), one):
        estimated = estimate((1.0, sample))
        assert estimated
        assert estimated.from_documents is None
    assert one.n_documents == 1
    assert scores(values).n_documents is None
    assert intervals.mean_interval([]) is None
    assert intervals.mean_interval([0.5]) == intervals.Interval(0.5, None, None)


def test_the_ends_are_where_the_tails_are() -> None:
    estimated = estimate((1.0, scores(np.random.default_rng(3).gamma(0.5, size=15))))
    assert estimated
    assert estimated.skewness > 0.1
    low, high = intervals.ends(estimated)
    assert intervals.tails(estimated, low)[0] == pytest.approx(0.025)
    assert intervals.tails(estimated, high)[1] == pytest.approx(0.025)
    assert high - estimated.value > estimated.value - low


def test_beyond_95_percent_skewness_only_widens_an_interval() -> None:
    """At 95% it moves both ends to one side; at 99.9% they are at least as far as Student's."""
    estimated = estimate((1.0, scores(np.random.default_rng(3).gamma(0.5, size=15))))
    assert estimated
    beyond = []
    for confidence in (0.95, 0.999):
        low, high = stats.t.interval(confidence, estimated.freedom, estimated.centre, estimated.error)
        ends = intervals.ends(estimated, None, confidence)
        beyond.append((ends[0] <= low + 1e-9, ends[1] >= high - 1e-9))
    assert beyond == [(False, True), (True, True)]


def test_skewness_makes_no_small_p_value_smaller() -> None:
    """Below 2.5% a p-value is at least Student's; above, skewness moves it either way."""
    values = np.random.default_rng(10).gamma(0.4, size=60)
    estimated = estimate((1.0, scores(values)))
    assert estimated
    moved = []
    for value in np.linspace(values.mean() - 1, values.mean() + 1, 41):
        plain = [float(stats.ttest_1samp(values, value, alternative=side).pvalue) for side in ("greater", "less")]
        found = intervals.tails(estimated, float(value))
        assert all(p >= min(0.025, expected) - 1e-12 for p, expected in zip(found, plain, strict=True) if p < 0.025)
        moved += [p - expected for p, expected in zip(found, plain, strict=True) if expected > 0.03]
    assert min(moved) < -0.001 < 0.001 < max(moved)


@pytest.mark.parametrize(("n", "repeats"), [(20, 800), (100, 300), (1000, 80)])
def test_intervals_cover_the_truth_as_often_as_they_say(n: int, repeats: int) -> None:
    """Skewed scores on one text of 20 unequal documents; the bounds are those of the target and three errors."""
    rng = np.random.default_rng(n)
    size_D = np.linspace(1, 5, 20)
    made = [estimate((1.0, on_one_text(rng, n, size_D))) for _ in range(repeats)]
    found = np.array([intervals.ends(estimated) for estimated in made if estimated])
    above, below = (found[:, 0] > 0.2).mean(), (found[:, 1] < 0.2).mean()
    error = 3 * np.sqrt(0.025 / repeats)
    assert 0.015 - error <= above <= 0.035 + error
    assert 0.015 - error <= below <= 0.035 + error
    assert 0.93 - error <= 1 - above - below <= 0.97 + error


def test_the_range_gives_a_shape_that_the_sample_does_not_show() -> None:
    """Scores between chance and 1 of a beta distribution, whose moments scipy knows; a larger skewness is kept.

    The degrees of freedom are those of the sample variance: 2 / freedom is its relative variance.
    """
    parts = stats.beta(0.5, 6)
    value_F = parts.ppf((np.arange(4000) + 0.5) / 4000)
    few = np.repeat(parts.mean() + parts.std() * np.array([-0.99, 0.99]), 10)  # its mean and deviation, no skewness
    estimated = estimate((1.0, scores(few)))
    assert estimated
    assert estimated.skewness == pytest.approx(0)
    expected = intervals.shaped_by_range(estimated, scores(few), (-1.0, 1.0), float(few.min()))
    shifted = parts.mean() - few.min()
    assert expected.skewness > 0
    assert shifted > 0
    whole = estimate((1.0, scores(value_F)))
    assert whole
    found = intervals.shaped_by_range(whole, scores(value_F), (-1.0, 1.0), 0.0)
    assert found.skewness * np.sqrt(4000) == pytest.approx(float(parts.stats("s")), rel=0.02)
    half = replace(whole, from_documents=whole.from_features, skewness=0.0)  # documents add as much, without skewness
    of_half = intervals.shaped_by_range(half, scores(value_F), (-1.0, 1.0), 0.0)
    assert of_half.skewness == pytest.approx(found.skewness * 0.5**1.5, rel=1e-3)
    variances = parts.rvs((20_000, 40), random_state=0).var(1, ddof=1)
    forty = np.tile(parts.ppf((np.arange(20) + 0.5) / 20), 2)
    forty = parts.mean() + (forty - forty.mean()) * parts.std() / forty.std(ddof=1)
    sampled = estimate((1.0, scores(forty)))
    assert sampled
    shaped = intervals.shaped_by_range(sampled, scores(forty), (0.0, 1.0), 0.0)
    lowest = float(forty.min())
    assert lowest > -0.05
    assert 2 / shaped.freedom == pytest.approx(variances.var() / variances.mean() ** 2, rel=0.15)
    skewed = estimate((1.0, scores(np.array([0.01] * 19 + [0.9]))))
    assert skewed
    kept = intervals.shaped_by_range(skewed, scores(np.array([0.01] * 19 + [0.9])), (0.0, 1.0), None)
    assert (kept.skewness, kept.freedom) == (skewed.skewness, intervals.LEAST_FREEDOM)
    high, low = intervals.ends(expected)[1], intervals.ends(estimated)[1]
    assert high > low


def test_over_features_alone_many_features_on_one_text_are_too_sure() -> None:
    """Else the test above would hold without the documents."""
    rng = np.random.default_rng(5)
    covered = 0
    for _ in range(50):
        sample = on_one_text(rng, 1000, np.linspace(1, 5, 20))
        estimated = estimate((1.0, scores(sample.value_F)))
        assert estimated
        low, high = intervals.ends(estimated)
        covered += low <= 0.2 <= high
    assert covered / 50 < 0.85


@pytest.mark.parametrize("constant", [[0.3] * 3, [0.3, 0.1 + 0.2, 0.3]])
def test_a_group_that_does_not_vary_is_compared_without_a_warning(constant: list[float]) -> None:
    varied = scores(np.array([0.1, 0.4, 0.2, 0.5]), 10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (row,) = compare_all({"a": scores(np.array(constant)), "b": varied}, (-1.0, 1.0))
        assert compare_all({"a": scores(np.array(constant)), "b": scores(np.array([0.6] * 3), 10)}, None) == []
    assert row.p == pytest.approx(stats.ttest_1samp(varied.value_F, 0.3).pvalue)  # all variance is the other group's


def test_groups_that_vary_with_the_text_alone_have_no_effect_size() -> None:
    """As two features each of two dictionaries, all judged alike: only the documents' influences give an error."""
    moved_FD = np.array([[0.1, -0.1, 0.0], [0.1, 0.0, -0.1]])
    samples = {"a": scores(np.array([0.5] * 2), 0, moved_FD), "b": scores(np.array([0.75] * 2), 10, -moved_FD)}
    (row,) = compare_all(samples, (0.0, 1.0))
    assert (row.dictionary, row.difference, row.effect) == ("b", 0.25, None)


def test_intervals_stay_within_the_scores_range_whatever_the_rounding() -> None:
    few = [0.99, 0.2, 0.95]
    free, cut = intervals.mean_interval(few), intervals.mean_interval(few, (-1.0, 1.0))
    assert free
    assert free.high
    assert free.high > 1
    assert cut
    assert (cut.low, cut.high) == (max(-1.0, free.low or 0.0), 1.0)
    (row,) = compare_all({"a": scores(np.array([0.99, 0.1])), "b": scores(np.array([0.0, 0.9]), 10)}, (0.0, 1.0))
    assert (row.low, row.high) == (-1.0, 1.0)
    rounded = intervals.mean_interval([1 + 2e-16, 1.0, 1 + 4e-16], (-1.0, 1.0))
    assert rounded
    assert rounded.low is not None
    assert rounded.high is not None
    assert rounded.low <= rounded.mean <= rounded.high


def test_pairs_are_measured_as_scipy_measures_them() -> None:
    rng = np.random.default_rng(6)
    a, b = np.round(rng.random(30), 1), np.round(rng.random(20) * 0.7, 1)
    (row,) = compare_all({"b": scores(b, 100), "a": scores(a)}, (0.0, 1.0))
    assert (row.dictionary, row.against) == ("a", "b")
    assert row.superiority == pytest.approx(stats.mannwhitneyu(a, b).statistic / 600)
    pooled = np.sqrt((29 * a.var(ddof=1) + 19 * b.var(ddof=1)) / 48)
    assert row.effect == pytest.approx((a.mean() - b.mean()) / pooled * (1 - 3 / (4 * 48 - 1)))
    assert row.n_matched == 0
    assert row.low < row.difference < row.high


def test_false_alarms_and_false_equivalence_are_rare_on_one_text() -> None:
    """Four dictionaries of one mean, half of their features common to all; and two whose means differ by MARGIN."""
    rng = np.random.default_rng(7)
    runs, alarms, equal = 80, 0, 0
    for _ in range(runs):
        pool = on_one_text(rng, 220, np.linspace(1, 5, 20))
        assert pool.influences
        samples = {}
        for index in range(4):
            rows = [*range(20), *range(20 + 50 * index, 50 + 50 * index)]
            samples[str(index)] = Scores(pool.value_F[rows], pool.cluster_F[rows], [pool.influences[r] for r in rows])
        alarms += any(row.p_holm < LEVEL for row in compare_all(samples, None))
        moved = Scores(samples["0"].value_F + MARGIN, samples["0"].cluster_F, samples["0"].influences)
        equal += any(row.p_equivalence < LEVEL for row in compare_all({"0": moved, "1": samples["1"]}, None))
    assert alarms / runs <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / runs)
    assert equal / runs <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / runs)


def test_a_difference_is_detected_with_the_features_that_it_needs() -> None:
    """Four of five times, by simulation; where the text alone is too short, no number of features suffices."""
    rng = np.random.default_rng(8)
    deviation = 0.15
    a, b = scores(rng.normal(0, deviation, 4000)), scores(rng.normal(0, deviation, 4000), 9000)
    pilot = estimate((1.0, a), (-1.0, b))
    assert pilot
    needed = features_needed(pilot, 4000, 4000)
    assert needed == pytest.approx(2 * deviation**2 * (1.96 + 0.84) ** 2 / MARGIN**2, rel=0.06)
    first, second = rng.normal(0, deviation, (2000, needed)), rng.normal(MARGIN, deviation, (2000, needed))
    assert (stats.ttest_ind(first, second, axis=1).pvalue < LEVEL).mean() == pytest.approx(0.8, abs=0.03)
    on_text = estimate((1.0, on_one_text(rng, 50, np.ones(5), common=2.0)))
    assert on_text
    assert features_needed(on_text, 50, 50) is None


def test_letters_are_shared_by_those_that_are_not_separated() -> None:
    assert letters("abc", [frozenset("ac")]) == {"a": "a", "b": "ab", "c": "b"}
    assert letters("ab", [frozenset("ab")]) == {"a": "a", "b": "b"}
    assert letters([], []) == {}
    rng = np.random.default_rng(9)
    for n in (2, 5, 7):
        names = [str(index) for index in range(n)]
        separated = [frozenset(pair) for pair in itertools.combinations(names, 2) if rng.random() < 0.5]
        named = letters(names, separated)
        for pair in itertools.combinations(names, 2):
            assert (frozenset(pair) in separated) == (not set(named[pair[0]]) & set(named[pair[1]]))
        groups = [{name for name in names if letter in named[name]} for letter in sorted(set("".join(named.values())))]
        assert not any(one < other for one, other in itertools.permutations(groups, 2)), "a letter that says nothing"
