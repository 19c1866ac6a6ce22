"""Scores against scipy, statistics against scipy and hand computations."""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from autointerp import config
from autointerp.calibration import controls
from autointerp.evaluate import Method
from autointerp.records import ActivationRecord, Simulation, Source
from autointerp.scorers import agreement, slices
from autointerp.statistics import intervals
from sae.common.errors import UserError

RNG = np.random.default_rng(0)


def random_records() -> tuple[tuple[ActivationRecord, ...], list[Simulation]]:
    sources: list[Source] = ["top"] * 5 + ["random"] * 5 + ["inactive"] * 2
    records = tuple(ActivationRecord(("t",) * 7, tuple(RNG.random(7).tolist()), 0, source) for source in sources)
    return records, [Simulation(i, tuple(RNG.random(7).tolist())) for i in range(len(records))]


def test_pooling_equals_scipy_over_the_concatenation() -> None:
    records, simulations = random_records()
    scores = slices.slices(records, simulations)
    for name, indices in (("top_and_random", range(10)), ("top", range(5)), ("random", range(5, 10))):
        true = np.concatenate([records[i].activations for i in indices])
        predicted = np.concatenate([simulations[i].predicted for i in indices])
        assert scores[f"simulation/{name}"] == pytest.approx(stats.pearsonr(true, predicted).statistic)


def test_pooled_is_not_the_mean_of_records() -> None:
    """Two records, each perfectly predicted within itself but at the wrong level, do not score 1."""
    records = tuple(ActivationRecord(("a", "b"), pair, 0, "top") for pair in ((0.0, 1.0), (9.0, 10.0)))
    simulations = [Simulation(0, (9.0, 10.0)), Simulation(1, (0.0, 1.0))]
    assert slices.slices(records, simulations)["simulation/top"] < 0  # type: ignore[operator]


@pytest.mark.parametrize(
    ("true", "predicted", "outcome"),
    [
        ([0, 0, 0], [1, 2, 3], "undefined"), ([0, 0, 0], [1, 1, 1], "undefined"), ([1, 2, 3], [5, 5, 5], "failed"),
        ([], [], "undefined"), ([1], [2], "undefined"), ([1, 2], [1, None], "undefined"),
        ([1, float("nan"), 2], [0, 1, 0], "undefined"), ([1, float("inf"), 2], [0, 1, 0], "undefined"),
    ],
)  # fmt: skip
def test_a_constant_truth_is_undefined_and_a_constant_prediction_failed(
    true: list[float], predicted: list[float | None], outcome: str
) -> None:
    assert slices.correlation(true, predicted) == outcome


def test_extreme_scales_do_not_break_it() -> None:
    assert slices.correlation([1e-30, 2e-30, 4e-30], [1e30, 2e30, 4e30]) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="3 activations but 2"):
        slices.correlation([1, 2, 3], [1, 2])


def test_holm_by_hand() -> None:
    assert intervals.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert intervals.holm([]) == []
    assert intervals.holm([0.9, 0.8]) == [1.0, 1.0]


@pytest.mark.parametrize("n", [2, 3, 10, 101])
def test_no_feature_is_its_own_control(n: int) -> None:
    others = controls.derangement(n, np.random.default_rng(n))
    assert sorted(others) == list(range(n))  # type: ignore[type-var]
    assert all(i != other for i, other in enumerate(others))
    assert controls.derangement(1, np.random.default_rng(0)) == [None]


def closed_form(hits: int, n_active: int, false_alarms: int, n_silent: int) -> tuple[float | None, ...]:
    """Balanced accuracy, precision, recall and F1 as they are written in textbooks."""
    recall, called = hits / n_active, hits + false_alarms
    precision = hits / called if called else None
    return (recall + 1 - false_alarms / n_silent) / 2, precision, recall, 2 * hits / (n_active + called)


@pytest.mark.parametrize(("n_active", "n_silent"), [(1, 1), (1, 4), (5, 2), (10, 7)])
def test_confusion_scores_are_the_closed_form_also_where_nothing_is_called_active(n_active: int, n_silent: int) -> None:
    for hits in range(n_active + 1):
        for alarms in range(n_silent + 1):
            active = [1] * hits + [0] * (n_active - hits)
            silent = [1] * alarms + [0] * (n_silent - alarms)
            known = closed_form(hits, n_active, alarms, n_silent)
            for value, true in zip(agreement.confusion_scores(active, silent), known, strict=True):
                assert (value is None) == (true is None)
                assert value is None or value == pytest.approx(true, abs=1e-12, rel=0)


@pytest.mark.parametrize("seed", range(50))
def test_auroc_is_the_share_of_pairs_in_order(seed: int) -> None:
    """With ties, which count half, among few values; and for cosines, which have none."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 12, 2)
    positive, negative = (
        [rng.choice([0.0, 0.25, 0.5, 1.0], n).tolist() for n in sizes]
        if seed % 2
        else [rng.normal(size=n).tolist() for n in sizes]
    )
    pairs = [(p > n) + 0.5 * (p == n) for p in positive for n in negative]
    assert agreement.auroc(positive, negative) == pytest.approx(sum(pairs) / len(pairs), abs=1e-12, rel=0)
    assert agreement.auroc([], negative) is None
    assert agreement.auroc(positive, []) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "set sampling.score.weighted=0 as well"),
        ({"sampling.score.weighted": 0}, "control_kinds=exchanged needs the words of the population"),
    ],
)
def test_what_needs_a_population_is_refused_before_anything_slow(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Method.of(config.load("demo", {"sampling.population": 0} | changes))
    nothing = {"sampling.population": 0, "control_kinds": ["mismatched"]}
    nothing |= {f"sampling.score.{source}": 0 for source in ("weighted", "top", "random")}
    with pytest.raises(UserError, match=r"set sampling\.score\.random=5"):
        Method.of(config.load("demo", nothing))
    asks = {f"sampling.score.{source}": 0 for source in ("weighted", "top", "random")} | {"simulator": "openai/m"}
    with pytest.raises(UserError, match=r"set sampling\.score\.weighted=10"):
        Method.of(config.load("demo", asks))
    without = {"sampling.population": 0, "sampling.score.weighted": 0, "control_kinds": ["mismatched"]}
    assert next(iter(Method.of(config.load("demo", without)).chances)) == "simulation/top_and_random"
