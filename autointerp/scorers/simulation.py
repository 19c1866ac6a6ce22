"""Scores by simulation (Bills et al. 2023): Pearson correlation of true and predicted activations, pooled over tokens.

The main score is about the population, every token of the score half: exact where the simulator predicts a whole text
for nothing, else estimated from weighted records. The published scores pool the tokens of top and random records: one
long pair of vectors; per-record correlations are never averaged.

Where the truth is constant a score is None (`undefined`), never 0; where only the prediction is, it is 0 (`failed`).
A record whose prediction cannot be read is missing (`error`) in the scores that are computed from it, and in no other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from autointerp import simulators
from autointerp.explainers.rules import control_rules
from autointerp.llm.types import LLMTask
from autointerp.prompting.predict_text import predict_fragments, predict_text
from autointerp.records import ActivationRecord, AnswerError, Explanation, FeatureRecord, FeatureResult, Simulation
from autointerp.scorers import SCORERS, Needs, Scored, Scorer
from autointerp.scorers.influences import correlation_influence
from autointerp.scorers.population import (
    Floats,
    Outcome,
    WeightedPredictions,
    estimate,
    estimated_influence,
    exact,
    exact_influence,
    sample_of,
)
from sae.common.errors import UserError

if TYPE_CHECKING:
    from autointerp.config import Config
    from autointerp.population import Population
    from autointerp.statistics.clusters import Influence

POPULATION = "simulation/population"
SLICES = {
    "simulation/top_and_random": frozenset({"top", "random"}),
    "simulation/top": frozenset({"top"}),
    "simulation/random": frozenset({"random"}),
}
"""Which records each published score pools, by their source."""
NAMES = (POPULATION, *SLICES)
"""Every score; a run's main one is the first that its records allow."""

FEATURES_KEPT = 16
"""Features whose records are kept as they are pooled."""


class SimulationScorer(Scorer):
    """Shows the simulator the explanation and the tokens of the score records, and nothing else."""

    name, colour, bounds = "simulation", "#1b1b1b", (-1.0, 1.0)
    needs = Needs(simulator=True)

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._simulator = simulators.make(config)
        self.prompts, self.models = self._simulator.prompts, self._simulator.models
        records = config.sampling.score
        drawn = {source for source in ("top", "random") if getattr(records, source)}
        self._slices = {name: sources for name, sources in SLICES.items() if sources <= drawn}
        self._is_exact = type(self._simulator).simulate_all is not simulators.Simulator.simulate_all
        has_population = config.sampling.population and (self._is_exact or records.weighted)
        self.chances = dict.fromkeys(((POPULATION,) if has_population else ()) + tuple(self._slices), 0.0)
        sampled = {POPULATION: frozenset({"weighted"})} if has_population and not self._is_exact else {}
        self._simulated = sampled | self._slices
        """The sources of the records that each score is computed from."""
        if not self.chances:
            remedy = "weighted=10" if config.sampling.population else "random=5"
            raise UserError(f"simulation has no records to score; set sampling.score.{remedy}")

    def score(self, feature: FeatureRecord, explanation: Explanation) -> LLMTask[Scored]:
        """Score one feature on the population, and by every slice of its score records."""
        sources = frozenset[str]().union(*self._simulated.values())
        used = {i: record.tokens for i, record in enumerate(_known(feature.score)[0]) if record.source in sources}
        predictions = yield from self._simulator.simulate(explanation, list(used.values()))
        return self._scored(feature, explanation, dict(zip(used, predictions, strict=True)))

    def rescore(self, feature: FeatureRecord, result: FeatureResult) -> Scored | None:
        """Correlate the predictions once more; a whole text is predicted anew. None without an explanation."""
        by_record = {one.record: one.predicted for one in result.simulations}
        return self._scored(feature, result.explanation, by_record) if result.explanation else None

    def _scored(
        self,
        feature: FeatureRecord,
        explanation: Explanation,
        by_record: Mapping[int, simulators.Predicted | AnswerError],
    ) -> Scored:
        errors = self._errors(feature, by_record)
        simulations = tuple(Simulation(i, p) for i, p in by_record.items() if not isinstance(p, AnswerError))
        outcomes, intervals = self._population(feature, explanation, simulations)
        outcomes |= slices(feature.score, simulations, self._slices)
        known = {name: outcome for name, outcome in outcomes.items() if name not in errors}
        failed = tuple(name for name, outcome in known.items() if outcome == "failed")
        scores = {name: _number(outcome) for name, outcome in known.items()}
        intervals = {name: ends for name, ends in intervals.items() if name in scores}
        return Scored(scores, simulations, intervals=intervals, failed=failed, errors=errors)

    def _errors(
        self, feature: FeatureRecord, predictions: Mapping[int, simulators.Predicted | AnswerError]
    ) -> dict[str, str]:
        """Say for each score that a prediction is missing for why it is."""
        wrong = {index: str(value) for index, value in predictions.items() if isinstance(value, AnswerError)}
        reasons = {
            name: [reason for index, reason in wrong.items() if feature.score[index].source in sources]
            for name, sources in self._simulated.items()
        }
        return {name: listed[0] for name, listed in reasons.items() if listed}

    def _population(
        self, feature: FeatureRecord, explanation: Explanation, simulations: Sequence[Simulation]
    ) -> tuple[dict[str, Outcome], dict[str, tuple[float, float]]]:
        """Score on the whole population, with an interval where that is an estimate."""
        if POPULATION not in self.chances:
            return {}, {}
        if feature.population is None:
            return {POPULATION: "undefined"}, {}
        predicted_ML = self._simulator.simulate_all(explanation, feature.population.text)
        if predicted_ML is not None:
            return {POPULATION: exact(feature.population, predicted_ML)}, {}
        sample = _sample(feature, feature.population, simulations)
        if sample is None:
            return {POPULATION: "undefined"}, {}
        outcome, interval = estimate(feature.population, sample.predictions, sample.control_ML)
        return {POPULATION: outcome}, {POPULATION: interval} if interval else {}

    def influences(self, feature: FeatureRecord, result: FeatureResult) -> dict[str, Influence]:
        """Return how much each document moves the population score and the slices'."""
        if result.explanation is None:
            return {}
        parts = slice_influences(feature.score, result.simulations, self._slices)
        if POPULATION in result.scores and feature.population:
            parts[POPULATION] = self._influence(feature, feature.population, result.explanation, result.simulations)
        return {name: part for name, part in parts.items() if part is not None and result.scores.get(name) is not None}

    def _influence(
        self,
        feature: FeatureRecord,
        population: Population,
        explanation: Explanation,
        simulations: Sequence[Simulation],
    ) -> Influence | None:
        predicted_ML = self._simulator.simulate_all(explanation, population.text)
        if predicted_ML is not None:
            return exact_influence(population, predicted_ML)
        sample = _sample(feature, population, simulations)
        if sample is None:
            return None
        return estimated_influence(population, sample.predictions, sample.control_ML, sample.documents)


@dataclass(frozen=True)
class _Sample:
    """Holds what a population score is estimated from."""

    predictions: WeightedPredictions
    control_ML: NDArray[np.float32]
    """What rules predict on the whole population."""
    documents: tuple[int, ...]
    """Each weighted record's."""


def _sample(feature: FeatureRecord, population: Population, simulations: Sequence[Simulation]) -> _Sample | None:
    """Take the predictions on weighted records; None if there are none, or if one is not whole."""
    weighted = [one for one in simulations if feature.score[one.record].source == "weighted"]
    predicted = [[value for value in one.predicted if value is not None] for one in weighted]
    records = [feature.score[one.record] for one in weighted]
    if not records or any(len(values) < len(record.tokens) for values, record in zip(predicted, records, strict=True)):
        return None
    rules = control_rules(feature.explain)
    control = predict_fragments(rules, [record.tokens for record in records])
    true, weights = [record.activations for record in records], [record.weight for record in records]
    predictions = sample_of(true, predicted, control, weights)
    return _Sample(predictions, predict_text(rules, population.text), tuple(record.document for record in records))


@lru_cache(maxsize=FEATURES_KEPT)
def _known(records: Sequence[ActivationRecord]) -> tuple[tuple[ActivationRecord, ...], tuple[Floats, ...]]:
    """Spell out a feature's records and their activations: its explanations are scored in turn."""
    listed = tuple(records)
    return listed, tuple(np.array(record.activations, np.float64) for record in listed)


@dataclass(frozen=True)
class _Pooled:
    """Holds the tokens of simulated records, one record after the other."""

    records: Sequence[ActivationRecord]
    true_T: Floats
    predicted_T: Floats
    """NaN where a prediction is missing."""
    index_T: NDArray[np.int64]
    """Each token's record, as an index among these."""

    @staticmethod
    def of(records: Sequence[ActivationRecord], simulations: Sequence[Simulation]) -> _Pooled:
        """Pool the records that were simulated."""
        listed, true = _known(records)
        used = [one.record for one in simulations]
        predicted_T = np.array(list(chain.from_iterable(one.predicted for one in simulations)), np.float64)
        length_K = np.array([len(true[index]) for index in used], np.int64)
        index_T = np.repeat(np.arange(len(used)), length_K)
        true_T = np.concatenate([np.zeros(0), *(true[index] for index in used)])
        return _Pooled([listed[index] for index in used], true_T, predicted_T, index_T)

    def are_of(self, sources: frozenset[str]) -> NDArray[np.bool_]:
        """Tell which records are of some sources, [K]."""
        return np.array([record.source in sources for record in self.records], np.bool_)


def slices(
    records: Sequence[ActivationRecord],
    simulations: Sequence[Simulation],
    named: Mapping[str, frozenset[str]] = SLICES,
) -> dict[str, Outcome]:
    """Return the correlation of one feature over each slice of its records."""
    pooled = _Pooled.of(records, simulations)
    masks = {name: pooled.are_of(sources)[pooled.index_T] for name, sources in named.items()}
    return {name: correlation(pooled.true_T[kept_T], pooled.predicted_T[kept_T]) for name, kept_T in masks.items()}


def slice_influences(
    records: Sequence[ActivationRecord],
    simulations: Sequence[Simulation],
    named: Mapping[str, frozenset[str]] = SLICES,
) -> dict[str, Influence | None]:
    """Return how much each document moves the correlation over each slice; None without a whole prediction."""
    pooled = _Pooled.of(records, simulations)
    x_T, y_T, n = pooled.true_T, pooled.predicted_T, len(pooled.records)
    terms = (np.ones(len(x_T)), x_T, y_T, x_T**2, y_T**2, x_T * y_T)
    moments_6K = np.stack([np.bincount(pooled.index_T, term_T, n) for term_T in terms])
    document_K = np.array([record.document for record in pooled.records], np.int64)
    masks = {name: pooled.are_of(sources) for name, sources in named.items()}
    return {name: _influence(document_K[kept_K], moments_6K[:, kept_K]) for name, kept_K in masks.items()}


def _influence(document_K: NDArray[np.int64], moments_6K: NDArray[Any]) -> Influence | None:
    if not len(document_K) or np.isnan(moments_6K).any():
        return None
    document_D, index_K = np.unique(document_K, return_inverse=True)
    is_of_DK = index_K == np.arange(len(document_D))[:, None]
    return correlation_influence(document_D, moments_6K @ is_of_DK.T.astype(np.float64))


def _number(outcome: Outcome) -> float | None:
    if isinstance(outcome, float):
        return outcome
    return 0.0 if outcome == "failed" else None


def correlation(true: Sequence[float] | Floats, predicted: Sequence[float | None] | Floats) -> Outcome:
    """Return Pearson's r; "undefined" without a varying truth or a whole prediction, "failed" for a constant one.

    Raises ValueError if the lengths differ.
    """
    if len(true) != len(predicted):
        raise ValueError(f"{len(true)} activations but {len(predicted)} predictions")
    x, y = np.asarray(true, np.float64), np.asarray(predicted, np.float64)  # a missing prediction is NaN there
    if not len(x) or np.isnan(lowest := y.min()) or x.max() == x.min():
        return "undefined"
    if y.max() == lowest:
        return "failed"
    x, y = x - x.sum() / len(x), y - y.sum() / len(y)
    return max(-1.0, min(1.0, float((x / math.sqrt(x @ x)) @ (y / math.sqrt(y @ y)))))


SCORERS.register("simulation", SimulationScorer)
