"""The population score: exact against numpy, estimated without bias, and from records drawn as they say."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from autointerp.config import build
from autointerp.explainers.rules import control_rules
from autointerp.population import Population, PopulationText
from autointerp.prompting.predict_text import predict_fragments, predict_text
from autointerp.prompting.rules import KINDS, Rule
from autointerp.records import ActivationRecord, FeatureId, FeatureRecord
from autointerp.sampling.weighted import draw, inclusion_probabilities, sizes, with_weighted
from autointerp.scorers.population import Truth, _correlation, _gradient, _interval, estimate, exact, sample_of
from autointerp.store import RunFolder

TOKENS = tuple("abcdefgh")
Floats = NDArray[np.float64]


def text_of(rng: np.random.Generator, n: int, length: int = 12) -> PopulationText:
    ids_ML = rng.integers(len(TOKENS), size=(n, length)).astype(np.int32)
    return PopulationText(TOKENS, ids_ML, np.arange(n, dtype=np.int32))


def population_of(text: PopulationText, acts_ML: Floats) -> Population:
    values_T = acts_ML.ravel().astype(np.float32)
    position_A = np.flatnonzero(values_T).astype(np.int32)
    return Population(text, position_A, values_T[position_A])


@given(
    st.lists(
        st.builds(
            lambda kind, first, second, strength: Rule(kind, (first, second)[: 1 + (kind == "pair")], strength),
            st.sampled_from(KINDS), st.sampled_from((*TOKENS, "z")), st.sampled_from(TOKENS),
            st.sampled_from((0.5, 2.0, 9.5)),
        ),
        max_size=6,
    ),
    st.integers(0, 99),
)  # fmt: skip
def test_a_text_is_predicted_as_its_fragments_are(rules: list[Rule], seed: int) -> None:
    text = text_of(np.random.default_rng(seed), 6)
    predicted_ML = predict_text(rules, text)
    fragments = [text.tokens(fragment) for fragment in range(6)]
    assert [list(values) for values in predict_fragments(rules, fragments)] == predicted_ML.tolist()
    assert predict_fragments(rules, []) == []


def test_the_exact_score_is_numpys_correlation_over_all_tokens() -> None:
    rng = np.random.default_rng(0)
    text = text_of(rng, 40)
    acts_ML = np.where(text.ids_ML == 3, rng.random(text.ids_ML.shape), 0.0)
    population = population_of(text, acts_ML)
    predicted_ML = predict_text([Rule("token", ("d",), 4.0), Rule("near", ("a",), 1.5)], text)
    r = np.corrcoef(population.acts_ML.ravel().astype(np.float64), predicted_ML.ravel())[0, 1]
    assert exact(population, predicted_ML) == pytest.approx(r, abs=1e-12)
    assert exact(population, np.full_like(predicted_ML, 2.5)) == "failed"
    assert exact(population_of(text, np.zeros(text.ids_ML.shape)), predicted_ML) == "undefined"


@pytest.mark.parametrize("value", [0.1, 0.3, 1e-3, 3.3, 123.456])
@pytest.mark.parametrize("n", [4, 50, 500])
def test_a_constant_truth_is_undefined_whatever_its_value(value: float, n: int) -> None:
    """A sum of 2,000 times 0.1 is not 200: rounding must not become a deviation."""
    text = text_of(np.random.default_rng(n), n, length=4)
    population = population_of(text, np.full(text.ids_ML.shape, value))
    assert exact(population, predict_text([Rule("token", ("d",), 4.0)], text)) == "undefined"


def test_sizes_grow_with_the_root_of_what_is_active_or_predicted_and_half_is_uniform() -> None:
    """By hand: of 4 fragments one has four times the squared activations of another, or is the only predicted one."""
    text = PopulationText(TOKENS, np.zeros((4, 2), np.int32), np.arange(4, dtype=np.int32))
    acts_ML, silent_ML = np.array([[4.0, 0], [0, 2.0], [0, 0], [0, 0]]), np.zeros((4, 2), np.float32)
    active, silent = population_of(text, acts_ML), population_of(text, 0 * acts_ML)
    predicted_ML = np.array([[0, 0], [0, 0], [0, 0], [3, 1]], np.float32)
    assert sizes(active, silent_ML) == pytest.approx(np.array([2, 1, 0, 0]) / 6 + 1 / 8)
    assert sizes(silent, predicted_ML) == pytest.approx(np.array([0, 0, 0, 1]) / 2 + 1 / 8)
    roots = np.sqrt([0.8, 0.2, 0, 1])
    assert sizes(active, predicted_ML) == pytest.approx(roots / roots.sum() / 2 + 1 / 8)
    assert sizes(silent, silent_ML) == pytest.approx([1 / 4] * 4)


def test_a_weighted_record_stands_for_one_over_its_probability() -> None:
    """Two of four fragments, whose probabilities are twice their sizes: a feature without rules has these by hand."""
    text = PopulationText(TOKENS, np.arange(8, dtype=np.int32).reshape(4, 2), np.array([3, 5, 6, 9], np.int32))
    population = population_of(text, np.array([[4.0, 0], [0, 2.0], [0, 0], [0, 0]]))
    about = (FeatureId("d", 1), (), (), 0.1, 4.0, (0,) * 64, 1.0, 0.5, ())
    made = build({"sampling": {"score": {"weighted": 2}}}, {}, "test")
    records = with_weighted(FeatureRecord(*about, population=population), made).score
    probabilities = dict(zip((3, 5, 6, 9), 2 * (np.array([2, 1, 0, 0]) / 6 + 1 / 8), strict=True))
    assert len(records) == 2
    for record in records:
        assert record.weight * probabilities[record.document] == pytest.approx(1)
        fragment = (3, 5, 6, 9).index(record.document)
        assert (record.tokens, record.source) == (text.tokens(fragment), "weighted")
        assert record.activations == tuple(population.acts_ML[fragment])


@pytest.mark.parametrize("n", [1, 7, 30, 60, 80])
def test_probabilities_sum_to_the_number_of_records_and_grow_with_size(n: int) -> None:
    size_M = np.random.default_rng(n).pareto(0.7, 60)
    probability_M = inclusion_probabilities(size_M / size_M.sum(), n)
    assert probability_M.sum() == pytest.approx(min(n, 60))
    assert ((probability_M > 0) & (probability_M <= 1)).all()
    order = np.argsort(size_M)
    assert (np.diff(probability_M[order]) >= -1e-12).all()


def test_fragments_are_drawn_as_often_as_their_probability_says() -> None:
    size_M = np.random.default_rng(0).pareto(1.0, 30)
    probability_M = inclusion_probabilities(size_M / size_M.sum(), 6)
    rng, counts_M = np.random.default_rng(1), np.zeros(30)
    for _ in range(20_000):
        drawn = draw(probability_M, rng)
        assert len(set(drawn)) == 6
        counts_M[drawn] += 1
    assert counts_M / 20_000 == pytest.approx(probability_M, abs=0.015)


def feature_on(rng: np.random.Generator, n: int) -> tuple[Population, NDArray[np.float32], NDArray[np.float32]]:
    """A feature active on one token and now and then elsewhere, a judge that sees more, and rules that see less."""
    text = text_of(rng, n)
    noise_ML = rng.random(text.ids_ML.shape)
    acts_ML = np.where((text.ids_ML == 2) & (noise_ML < 0.8), 1 + noise_ML, np.where(noise_ML > 0.98, 1.0, 0.0))
    judged_ML = predict_text([Rule("token", ("c",), 8.0), Rule("near", ("f",), 1.0)], text)
    return population_of(text, acts_ML), judged_ML, predict_text([Rule("token", ("c",), 6.0)], text)


@pytest.mark.parametrize(("k", "bias", "coverage"), [(10, 0.015, 0.85), (40, 0.006, 0.9)])
def test_the_estimate_is_unbiased_and_its_interval_covers(k: int, bias: float, coverage: float) -> None:
    rng = np.random.default_rng(k)
    population, judged_ML, control_ML = feature_on(rng, 300)
    truth = exact(population, judged_ML)
    assert isinstance(truth, float)
    probability_M = inclusion_probabilities(sizes(population, control_ML), k)
    acts_ML, values, covered = population.acts_ML, [], 0
    for _ in range(2000):
        m = draw(probability_M, rng)
        sample = sample_of(acts_ML[m], judged_ML[m], control_ML[m], 1 / probability_M[m])  # type: ignore[arg-type]
        value, interval = estimate(population, sample, control_ML)
        assert isinstance(value, float)
        assert interval is not None
        values.append(value)
        covered += interval[0] <= truth <= interval[1]
    assert np.mean(values) == pytest.approx(truth, abs=bias)
    assert covered / 2000 > coverage


def test_all_fragments_give_the_exact_score_and_an_interval_without_width() -> None:
    rng = np.random.default_rng(3)
    population, judged_ML, control_ML = feature_on(rng, 20)
    weights = [1.0] * 20
    sample = sample_of(population.acts_ML, judged_ML, control_ML, weights)  # type: ignore[arg-type]
    value, interval = estimate(population, sample, control_ML)
    assert value == pytest.approx(exact(population, judged_ML))
    assert interval == (value, value)


def test_a_constant_prediction_fails_whatever_the_rules_say() -> None:
    population, judged_ML, control_ML = feature_on(np.random.default_rng(3), 20)
    sample = sample_of(population.acts_ML, np.zeros_like(judged_ML), control_ML, [1.0] * 20)  # type: ignore[arg-type]
    assert estimate(population, sample, control_ML) == ("failed", None)


@given(st.integers(0, 10_000), st.floats(0.01, 5))
def test_predictions_that_vary_a_little_do_not_fail(seed: int, level: float) -> None:
    rng = np.random.default_rng(seed)
    population = population_of(text_of(rng, 50), np.where(rng.random((50, 12)) < 0.1, rng.random((50, 12)), 0.0))
    chosen = rng.choice(50, 5, replace=False)
    true_KL = population.acts_ML[chosen].astype(np.float64)
    predicted_KL = level + 0.01 * rng.random((5, 12))
    weights = rng.uniform(1, 30, 5).tolist()
    silent_ML = np.zeros((50, 12), np.float32)
    outcome, interval = estimate(population, sample_of(true_KL, predicted_KL, np.zeros((5, 12)), weights), silent_ML)
    assert isinstance(outcome, float)
    assert interval is not None
    assert interval[0] <= outcome <= interval[1]
    shifted, ends = estimate(population, sample_of(true_KL, predicted_KL + 3, np.zeros((5, 12)), weights), silent_ML)
    assert shifted == pytest.approx(outcome, abs=1e-6)  # a correlation does not depend on the level
    assert ends == pytest.approx(interval, abs=1e-6)


@pytest.mark.parametrize("seed", range(40))
def test_predictions_that_vary_do_not_fail_whatever_the_rules_say(seed: int) -> None:
    """Of few records of very unequal weight: the variance is that of least squares, and cannot come out negative."""
    rng = np.random.default_rng(seed)
    population = population_of(text_of(rng, 50), np.where(rng.random((50, 12)) < 0.1, rng.random((50, 12)), 0.0))
    chosen, control_ML = rng.choice(50, 4, replace=False), (9 * rng.random((50, 12)) ** 9).astype(np.float32)
    true_KL, control_KL = (each[chosen].astype(np.float64) for each in (population.acts_ML, control_ML))
    predicted_KL, weights = control_KL**2 / 9 + 0.01 * rng.random((4, 12)), (30 ** rng.random(4)).tolist()
    assert isinstance(estimate(population, sample_of(true_KL, predicted_KL, control_KL, weights), control_ML)[0], float)
    silent = sample_of(true_KL, predicted_KL, np.zeros((4, 12)), weights)  # rules that are constant there say nothing
    assert estimate(population, silent, control_ML) == estimate(population, silent, np.zeros_like(control_ML))


def test_the_interval_is_that_of_a_total_of_a_simple_random_sample() -> None:
    """Of 5 fragments of 40, all alike likely (Cochran 1977, 2.20); and its gradient is the correlation's."""
    influence_K = np.random.default_rng(6).normal(size=5) / 100
    error = 40 * np.sqrt((1 - 5 / 40) * influence_K.var(ddof=1) / 5)
    reach = stats.t.ppf(0.975, 4) * error
    assert _interval(0.1, influence_K, np.full(5, 8.0)) == pytest.approx((0.1 - reach, 0.1 + reach))
    truth, totals_3 = Truth(480, 0.2, 0.7), np.array([150.0, 300.0, 900.0])
    for index, slope in enumerate(_gradient(totals_3, truth)):
        step = 1e-3 * np.eye(3)[index]
        above, below = (_correlation(totals_3 + sign * step, truth) for sign in (1, -1))
        assert isinstance(above, float)
        assert isinstance(below, float)
        assert slope == pytest.approx((above - below) / 2e-3, rel=1e-5)


def test_rules_that_have_nothing_to_do_with_the_judge_do_no_harm() -> None:
    """The control's coefficient is fitted: where rules predict other tokens than the judge, it is about 0."""
    rng = np.random.default_rng(5)
    population, judged_ML, _ = feature_on(rng, 300)
    unrelated_ML = predict_text([Rule("token", ("h",), 10.0)], population.text)
    probability_M = inclusion_probabilities(sizes(population, unrelated_ML), 20)
    errors = {True: [], False: []}  # type: dict[bool, list[float]]
    truth = exact(population, judged_ML)
    assert isinstance(truth, float)
    for _ in range(500):
        m = draw(probability_M, rng)
        for helped in errors:
            control_ML = unrelated_ML if helped else np.zeros_like(unrelated_ML)
            sample = sample_of(population.acts_ML[m], judged_ML[m], control_ML[m], 1 / probability_M[m])  # type: ignore[arg-type]
            value, _ = estimate(population, sample, control_ML)
            assert isinstance(value, float)
            errors[helped].append((value - truth) ** 2)
    assert np.mean(errors[True]) < 1.25 * np.mean(errors[False])


def test_the_population_survives_the_run_folder(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    text = text_of(rng, 9)
    records = (ActivationRecord(("a", "b"), (0.0, 1.5), 3, "weighted", 12.25),)
    features = []
    for name, index in (("a", 4), ("b", 0)):
        acts_ML = np.where(rng.random(text.ids_ML.shape) > 0.7, rng.random(text.ids_ML.shape), 0.0)
        about = (FeatureId(name, index), records, records, 0.1, 1.5, (0,) * 64, 1.0, 0.5, ())
        features.append(FeatureRecord(*about, population=population_of(text, acts_ML)))
    folder = RunFolder(tmp_path)
    folder.write_features(features)
    for feature, again in zip(features, folder.read_features(), strict=True):
        assert again == feature
        assert again.score[0].weight == 12.25
        assert feature.population is not None
        assert again.population is not None
        assert np.array_equal(again.population.acts_ML, feature.population.acts_ML)
        assert [again.population.text.tokens(m) for m in range(9)] == [text.tokens(m) for m in range(9)]


def test_the_control_is_a_few_rules_of_the_explain_records() -> None:
    text = text_of(np.random.default_rng(1), 5)
    records = tuple(
        ActivationRecord(text.tokens(m), tuple(float(token == "b") for token in text.tokens(m)), m, "top")
        for m in range(5)
    )
    (rule,) = control_rules(records)
    assert rule == Rule("token", ("b",), 10.0)
