"""Looks at growing data: the bounds against published tables and closed forms, the error rates by simulation."""

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import special, stats

from autointerp.statistics.allocation import chance
from autointerp.statistics.clusters import Scores, estimate
from autointerp.statistics.control_variates import Measured
from autointerp.statistics.resolution import Design, Resolution, Sample, resolve
from autointerp.statistics.sequential import levels, pocock_type, sizes

FIVE = (1, 2, 3, 4, 5)
Floats = NDArray[np.float64]


def bounds(p_values: list[float]) -> Floats:
    values: Floats = -special.ndtri(np.array(p_values))
    return values


def obrien_fleming_type(share: float) -> float:
    """Lan & DeMets' other spending function, at the one-sided error rate 0.025."""
    return float(2 * special.ndtr(special.ndtri(0.0125) / math.sqrt(share)) / 0.025)


def test_bounds_are_the_published_ones() -> None:
    """Five equal steps, two-sided 5%: the tables of Lan & DeMets' method (Reboussin et al. 2000, program LD98)."""
    assert bounds(levels(FIVE, 0.025)) == pytest.approx([2.4380, 2.4268, 2.4101, 2.3966, 2.3859], abs=2e-4)
    expected = [4.8769, 3.3569, 2.6803, 2.2898, 2.0310]
    assert bounds(levels(FIVE, 0.025, obrien_fleming_type)) == pytest.approx(expected, abs=2e-4)


def test_one_look_is_the_normal_quantile_and_two_are_the_bivariate_normal() -> None:
    assert levels([40], 0.025) == pytest.approx([0.025])
    first, second = bounds(levels([30, 100], 0.001))
    assert special.ndtr(-first) == pytest.approx(0.001 * pocock_type(0.3))
    correlation = math.sqrt(0.3)
    both = stats.multivariate_normal([0, 0], [[1, correlation], [correlation, 1]], abseps=1e-9, releps=1e-9)
    assert 1 - both.cdf([first, second]) == pytest.approx(0.001, rel=1e-3)


def test_rounds_grow_by_half_and_end_with_all_features() -> None:
    assert sizes(10, 100) == [10, 15, 23, 35, 53, 80, 100]
    assert sizes(10, 7) == [7]


@pytest.mark.parametrize(("text", "expected"), [(0.0, 0.05), (0.3, None)])
def test_five_percent_of_null_paths_ever_cross(text: float, expected: float | None) -> None:
    """Of Gaussian means at the looks of a run; an error that all looks share makes crossings rarer (Slepian)."""
    rng, ends = np.random.default_rng(0), sizes(10, 100)
    steps = np.diff([0, *ends])
    sums_PK = (rng.standard_normal((40_000, len(ends))) * np.sqrt(steps)).cumsum(1)
    means_PK = sums_PK / ends + text * rng.standard_normal((40_000, 1))
    z_PK = means_PK / np.sqrt(1 / np.array(ends) + text**2)
    crossed = float((np.abs(z_PK) > bounds(levels(ends, 0.025))).any(1).mean())
    if expected is None:
        assert 0.02 < crossed < 0.045
    else:
        assert crossed == pytest.approx(expected, abs=0.004)


def run(means: list[float], n: int, rng: np.random.Generator, first: int = 10, lead: float = 1.0) -> Resolution:
    """Resolve dictionaries of these means, of n features each with Gaussian scores of standard deviation 0.2."""
    values = [mean + 0.2 * rng.standard_normal(n) for mean in means]

    def sample_of(name: str, size: int) -> Sample:
        cluster_F = n * int(name) + np.arange(size)
        return Sample(
            Measured(Scores(values[int(name)][:size], cluster_F)),
            {"mismatched": Measured(Scores(lead + 0.1 * rng.standard_normal(size), cluster_F))},
        )

    return resolve(Design({str(i): n for i in range(len(means))}, ["mismatched"], first, 0.05), sample_of)


def test_runs_of_equal_dictionaries_rarely_separate_any() -> None:
    """Six comparisons in each of 100 runs: at most 5% with an error, but for the binomial's own."""
    rng = np.random.default_rng(1)
    made = [run([0.3] * 3, 60, rng) for _ in range(100)]
    wrong = sum(any(one.verdict == "differ" for one in each.comparisons if one.against) for each in made)
    assert wrong <= stats.binom.ppf(0.999, 100, 0.05)
    right = [one for each in made for one in each.comparisons if one.against is None]
    assert {one.verdict for one in right} == {"differ"}


@pytest.mark.slow
def test_runs_rarely_prove_a_difference_away_that_is_there() -> None:
    """Means exactly 0.05 apart, the margin, with enough features to prove equality."""
    rng = np.random.default_rng(2)
    made = [run([0.3, 0.35], 900, rng) for _ in range(50)]
    wrong = sum(each.comparisons[0].verdict == "equal" for each in made)
    assert wrong <= stats.binom.ppf(0.999, 50, 0.05)


def test_clear_differences_cost_a_fifth_and_equal_means_are_proven_equal() -> None:
    """Apart by 1.7 standard deviations, as the demo's sparse dictionary and PCA; the others go on."""
    rng = np.random.default_rng(3)
    clear = [run([0.4, 0.06], 100, rng) for _ in range(20)]
    assert all(each.is_over and each.n_decided == 3 for each in clear)
    assert np.mean([sum(each.features.values()) for each in clear]) <= 200 / 5
    mixed = run([0.8, 0.3, 0.3], 2000, rng)
    assert mixed.is_over
    assert mixed.features["0"] < 50 < min(mixed.features["1"], mixed.features["2"])
    verdicts = {frozenset((one.dictionary, one.against)): one for one in mixed.comparisons if one.against}
    assert verdicts[frozenset("12")].verdict == "equal"
    assert verdicts[frozenset("01")].dictionary == "0"
    assert 1 <= (verdicts[frozenset("01")].round or 0) <= 3


def test_an_interval_decides_what_it_allows_and_nothing_else() -> None:
    rng = np.random.default_rng(4)
    for one in run([0.4, 0.3, 0.32, 0.1], 200, rng, lead=0.03).comparisons:
        assert one.low is not None
        assert one.high is not None
        assert one.difference is not None
        assert one.low <= one.difference <= one.high
        separated, equal = one.low > 0 or one.high < 0, one.low > -0.05 and one.high < 0.05
        assert one.verdict == ("differ" if separated else "equal" if equal else "open")
        assert (one.round is None) == (one.verdict == "open")


def test_what_is_not_scored_yet_is_asked_for_and_what_is_beyond_a_round_is_not_looked_at() -> None:
    rng = np.random.default_rng(5)
    values = {"a": 0.3 + 0.2 * rng.standard_normal(100), "b": 0.5 + 0.2 * rng.standard_normal(100)}
    design = Design({"a": 100, "b": 100}, [], 10, 0.05)
    asked: list[tuple[str, int]] = []

    def up_to(known: int) -> Resolution:
        def sample_of(name: str, n: int) -> Sample | None:
            asked.append((name, n))
            scores = Scores(values[name][:n], np.arange(n) + 100 * (name == "b"))
            return Sample(Measured(scores), {}) if n <= known else None

        return resolve(design, sample_of)

    made = up_to(20)
    assert (made.features, made.rounds, made.is_over) == ({"a": 23, "b": 23}, {"a": 3, "b": 3}, False)
    over = up_to(100)
    assert over.is_over
    assert up_to(over.features["a"]) == over
    assert max(n for _, n in asked) == over.features["a"]


@pytest.mark.parametrize(("difference", "text"), [(0.0, 0.0), (0.06, 0.0), (0.03, 0.01)])
def test_the_chance_is_how_often_all_features_decide(difference: float, text: float) -> None:
    """By drawing the rest from what the first features leave possible, with the bound of the last look."""
    rng = np.random.default_rng(6)
    n, whole, margin = 400, 1000, 0.05
    values = [rng.standard_normal(n) * 0.2 for _ in range(2)]
    a, b = (one - one.mean() + mean for one, mean in zip(values, (difference, 0.0), strict=True))
    made = estimate((1.0, Scores(a, np.arange(n))), (-1.0, Scores(b, n + np.arange(n))))
    assert made
    made = replace(made, from_documents=text**2)
    mean_2P = np.array([[difference], [0.0]]) + math.sqrt(0.04 / n) * rng.standard_normal((2, 40_000))
    rest_2P = mean_2P + math.sqrt(0.04 / (whole - n)) * rng.standard_normal((2, 40_000))
    final_P = (n * difference + (whole - n) * (rest_2P[0] - rest_2P[1])) / whole
    half = special.ndtri(0.9985) * math.sqrt(0.08 / whole + text**2)
    decided_P = (np.abs(final_P) > half) | (np.abs(final_P) < margin - half)
    made_chance = chance(made, made.from_features, [(n, whole)] * 2, margin, 0.997)
    assert made_chance == pytest.approx(decided_P.mean(), abs=0.03)
    assert chance(made, 9 * made.from_features, [(n, whole)] * 2, margin, 0.997) == made_chance, "no more than all"


def test_a_comparison_without_a_chance_is_given_up_and_errors_do_not_become_more_frequent() -> None:
    """Three dictionaries of one mean, too few features to prove that: most are given up, none is called different."""
    values = np.random.default_rng(7).standard_normal((30, 3, 60)) * 0.2 + 0.3
    made = []
    for futility in (0.0, 0.2):
        design = Design(dict.fromkeys("abc", 60), [], 10, 0.05, futility=futility)
        samples = [
            {key: Scores(one, 60 * i + np.arange(60)) for i, (key, one) in enumerate(zip("abc", each, strict=True))}
            for each in values
        ]
        made.append([resolve(design, partial(first_of, each)) for each in samples])
    scored = [np.mean([sum(one.features.values()) for one in each]) for each in made]
    assert scored[1] < 0.6 * scored[0]
    given_up = [one for each in made[1] for one in each.comparisons if one.given_up]
    assert len(given_up) > 60
    assert all(one.verdict == "open" and one.chance is not None and one.chance < 0.2 for one in given_up)
    assert sum(any(one.verdict == "differ" for one in each.comparisons) for each in made[1]) <= 4


def first_of(samples: dict[str, Scores], name: str, n: int) -> Sample:
    return Sample(Measured(Scores(samples[name].value_F[:n], samples[name].cluster_F[:n])), {})
