"""Influences of documents against what scores do when a document counts a little more, or is left out."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from autointerp.judges import Verdict
from autointerp.records import FeatureId, FeatureRecord, FeatureResult, Judgement, Simulation
from autointerp.reporting.dependence import clusters_of
from autointerp.scorers.agreement import confusion_scores
from autointerp.scorers.influences import (
    confusion_influences,
    correlation_influence,
    correlation_without_each,
    mean_influence,
)
from autointerp.scorers.population import estimate, estimated_influence, exact_influence, sample_of
from autointerp.scorers.slices import slice_influences
from autointerp.sections import ScoreRecords
from autointerp.statistics.clusters import Influence
from tests.autointerp.test_judged_scorers import EXPLAINED, feature, make, record
from tests.autointerp.test_population import feature_on

Floats = NDArray[np.float64]
STEP = 1e-6


def slopes(score: Callable[[Floats], float], n: int) -> Floats:
    """What a score gains when each document counts more, per unit of weight."""
    return np.array([(score(1 + STEP * row) - score(1 - STEP * row)) / (2 * STEP) for row in np.eye(n)])


def weighted_correlation(x_T: Floats, y_T: Floats, weight_T: Floats) -> float:
    covariance = np.cov(x_T, y_T, aweights=weight_T, ddof=0)
    return float(covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1]))


def test_of_a_populations_correlation() -> None:
    population, judged_ML, control_ML = feature_on(np.random.default_rng(0), 40)
    text = replace(population.text, document_M=np.arange(40, dtype=np.int32) // 9 * 3)
    population = replace(population, text=text)
    x_T, y_T = population.acts_ML.ravel().astype(np.float64), judged_ML.ravel().astype(np.float64)
    index_T = np.repeat(np.arange(40) // 9, 12)
    part = exact_influence(population, judged_ML)
    assert part
    assert part.document_D.tolist() == [0, 3, 6, 9, 12]
    without_D = np.array([np.corrcoef(x_T[index_T != d], y_T[index_T != d])[0, 1] for d in range(5)])
    pseudo_D = 5 * np.corrcoef(x_T, y_T)[0, 1] - 4 * without_D
    assert part.correction == pytest.approx(pseudo_D.mean() - np.corrcoef(x_T, y_T)[0, 1])
    assert part.value_D == pytest.approx((pseudo_D - pseudo_D.mean()) / 5)
    # Estimated from all fragments, each standing for itself, it is of the first order.
    values = (each.astype(np.float64).tolist() for each in (population.acts_ML, judged_ML, control_ML))
    sample = sample_of(*values, [1.0] * 40)
    assert isinstance(estimate(population, sample, control_ML)[0], float)
    of_all = estimated_influence(population, sample, control_ML, text.document_M.tolist())
    assert of_all
    expected = slopes(lambda weight_D: weighted_correlation(x_T, y_T, weight_D[index_T]), 5)
    assert of_all.value_D == pytest.approx(expected, abs=1e-6)
    assert of_all.value_D.sum() == pytest.approx(0, abs=1e-12)
    assert of_all.correction == 0


@pytest.mark.parametrize("influence", [correlation_influence, correlation_without_each])
def test_of_a_constant(influence: Callable[[NDArray[np.int64], Floats], Influence | None]) -> None:
    ones = np.ones(3)
    still = influence(np.arange(3), np.stack([4 * ones, 2 * ones, 4 * ones, 3 * ones, 4 * ones, 2 * ones]))
    assert still
    assert not still.value_D.any()
    assert not still.correction
    assert influence(np.arange(3), np.stack([4 * ones, 4 * ones, ones, 4 * ones, 3 * ones, ones])) is None


def test_a_document_that_holds_all_activations_moves_nothing() -> None:
    """Nor does the only document: without it there is no text."""
    rng = np.random.default_rng(4)
    x_T, y_T, index_T = rng.random(30) * (np.arange(30) < 10), rng.random(30), np.arange(30) // 10
    terms = (np.ones(30), x_T, y_T, x_T**2, y_T**2, x_T * y_T)
    moments_6D = np.stack([np.bincount(index_T, term_T) for term_T in terms])
    part = correlation_without_each(np.arange(3), moments_6D)
    assert part
    change_D = part.value_D + part.correction / 3
    expected = np.corrcoef(x_T, y_T)[0, 1] - np.corrcoef(x_T[index_T != 1], y_T[index_T != 1])[0, 1]
    assert change_D[:2] == pytest.approx([0, expected * 2 / 3])
    alone = correlation_without_each(np.arange(1), moments_6D.sum(1, keepdims=True))
    assert alone
    assert (alone.value_D.tolist(), alone.correction) == ([0.0], 0.0)


def test_of_a_slice() -> None:
    rng = np.random.default_rng(1)
    records = tuple(replace(record("t", rng.random(6).tolist(), "top"), document=7 - n % 3) for n in range(6))
    records = (*records, record("r", rng.random(6).tolist(), "random"))
    simulations = [Simulation(n, tuple(rng.random(6).tolist())) for n in range(7)]
    part = slice_influences(records, simulations)["simulation/top"]
    assert part
    assert part.document_D.tolist() == [5, 6, 7]
    x_T = np.concatenate([one.activations for one in records[:6]])
    y_T = np.concatenate([one.predicted for one in simulations[:6]]).astype(np.float64)
    index_T = np.repeat([7 - n % 3 - 5 for n in range(6)], 6)
    expected = slopes(lambda weight_D: weighted_correlation(x_T, y_T, weight_D[index_T]), 3)
    assert part.value_D == pytest.approx(expected, abs=1e-6)
    assert slice_influences(records, [Simulation(0, (None,) * 6)])["simulation/top"] is None


def test_of_counted_answers() -> None:
    rng = np.random.default_rng(2)
    yes, called, document, weight = (rng.integers(n, size=30) for n in (2, 2, 4, 9))

    def measure(index: int) -> Callable[[Floats], float]:
        def score(weight_D: Floats) -> float:
            weights = (1 + weight) * weight_D[document]
            order = np.argsort(-yes, kind="stable")
            active, silent = called[yes == 1].tolist(), called[yes == 0].tolist()
            return confusion_scores(active, silent, weights[order].tolist())[index] or 0.0

        return score

    parts = confusion_influences(document.tolist(), (yes == 1).tolist(), (called == 1).tolist(), (1 + weight).tolist())
    for index, part in enumerate(parts):
        assert part
        assert part.value_D == pytest.approx(slopes(measure(index), 4), abs=1e-6)
    assert confusion_influences([0, 1], [True, False], [False, False], None)[1] is None
    right = (yes == called).astype(float)
    mean = slopes(lambda weight_D: float(np.average(right, weights=weight_D[document])), 4)
    assert mean_influence(document.tolist(), right.tolist()).value_D == pytest.approx(mean, abs=1e-6)


def test_judged_scores_have_parts_by_document_and_the_auroc_has_none() -> None:
    scorer = make("detection", logprobs=True, accuracy=True)
    one = feature(0)
    one = replace(one, score=tuple(replace(each, document=n % 4) for n, each in enumerate(one.score)))
    (sample,) = scorer.samples(one)  # type: ignore[attr-defined]
    verdicts = {index: Verdict(int(index % 3 == 0), 0.5) for index in sample.items}
    scored = scorer._scored([sample], verdicts)  # type: ignore[attr-defined]
    judgements = {"detection": tuple(Judgement(i, v.answer, v.probability) for i, v in verdicts.items())}
    result = FeatureResult(one.id, "e", "ok", EXPLAINED, (), scored.scores, judgements=judgements)
    parts = scorer.influences(one, result)
    assert set(parts) == set(scored.scores) - {"detection/auroc"}
    assert all(part.value_D.sum() == pytest.approx(0, abs=1e-12) for part in parts.values())
    assert all(part.document_D.tolist() == [0, 1, 2, 3] for part in parts.values())
    fewer = replace(result, judgements={"detection": judgements["detection"][:3]})
    more = replace(result, judgements={"detection": (*judgements["detection"], Judgement(0, 1))})  # of a random record
    assert [(scorer.influences(one, each), scorer.rescore(one, each)) for each in (fewer, more)] == [({}, None)] * 2
    of_tokens = {"logits": tuple(Judgement(index, index % 2) for index in range(6))}
    about_tokens = replace(result, scores={"logits": 0.5}, judgements=of_tokens)
    assert make("logits").influences(one, about_tokens) == {}, "tokens are of no document"
    weighted = make("fuzzing", score=ScoreRecords(top=10, inactive=10, weighted=5))
    assert weighted.influences(one, result) == {}


def with_direction(index: int, direction: list[float], writes: str = "h") -> FeatureRecord:
    row_D = np.array(direction, np.float32)
    return replace(feature(index), id=FeatureId("d", index), direction=row_D, writes=writes)


def test_features_of_one_direction_are_one_cluster() -> None:
    """Halves, near directions and chains of them; not those of other hook points, nor those without a direction."""
    features = [
        with_direction(0, [2, 0, 0]), with_direction(1, [-5, 0, 0]), with_direction(2, [3, 3, 0]),
        with_direction(3, [0, 1, 0.05]), with_direction(4, [0, 0, 1]), with_direction(5, [1, 0, 0], "other"),
        feature(6), with_direction(7, [0, 0, 0]),
    ]  # fmt: skip
    clusters = [cluster for _, cluster in sorted(clusters_of(features).items())]
    assert len({clusters[index] for index in (0, 1, 2, 3)}) == 1
    assert len(set(clusters)) == 5
    assert clusters_of([]) == {}
