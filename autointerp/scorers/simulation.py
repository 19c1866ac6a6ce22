"""Scores by simulation (Bills et al. 2023): Pearson correlation of true and predicted activations, pooled over tokens.

The main score is about the population, every token of the score half: exact where the simulator predicts a whole text
for nothing, else estimated from weighted records. The published scores pool the tokens of top and random records: one
long pair of vectors; per-record correlations are never averaged.

Where the truth is constant a score is None (`undefined`), never 0; where only the prediction is, it is 0 (`failed`).
A record whose prediction cannot be read is missing (`error`) in the scores that are computed from it, and in no other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from autointerp import simulators
from autointerp.explainers.rules import control_rules
from autointerp.llm.types import LLMTask
from autointerp.peer_faults import ZERO_FAILURES, ZERO_NUMBERS
from autointerp.prompting.predict_text import predict_fragments, predict_text
from autointerp.records import AnswerError, Explanation, FeatureRecord, FeatureResult, Simulation
from autointerp.scorers import SCORERS, Needs, Scored, Scorer
from autointerp.scorers.population import (
    Outcome,
    WeightedPredictions,
    estimate,
    estimated_influence,
    exact,
    exact_influence,
    sample_of,
)
from autointerp.scorers.slices import SLICES, listed, slice_influences, slices
from sae.common.errors import UserError

if TYPE_CHECKING:
    from autointerp.config import Config
    from autointerp.population import Population, PopulationText
    from autointerp.statistics.clusters import Influence

POPULATION = "simulation/population"
NAMES = (POPULATION, *SLICES)
"""Every score; a run's main one is the first that its records allow."""


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
        used = {i: record.tokens for i, record in enumerate(listed(feature.score)) if record.source in sources}
        try:
            predictions = yield from self._simulator.simulate(explanation, list(used.values()))
        except AnswerError as error:
            if ZERO_FAILURES not in self.config.peer_faults:
                raise
            predictions = [error] * len(used)
        by_record = {
            index: _with_zeros(prediction, len(tokens), self.config.peer_faults)
            for (index, tokens), prediction in zip(used.items(), predictions, strict=True)
        }
        return self._scored(feature, explanation, by_record)

    def _predict_all(self, explanation: Explanation, text: PopulationText) -> NDArray[np.float32] | None:
        """Predict a whole text where that costs nothing, else None. Raises AnswerError unless zeros stand for that."""
        try:
            return self._simulator.simulate_all(explanation, text)
        except AnswerError:
            if ZERO_FAILURES not in self.config.peer_faults:
                raise
            return np.zeros(text.ids_ML.shape, np.float32)

    def rescore(self, feature: FeatureRecord, result: FeatureResult) -> Scored | None:
        """Correlate the predictions once more; a whole text is predicted again. None without an explanation."""
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
        predicted_ML = self._predict_all(explanation, feature.population.text)
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
        predicted_ML = self._predict_all(explanation, population.text)
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


def _with_zeros(
    prediction: simulators.Predicted | AnswerError, length: int, faults: Sequence[str]
) -> simulators.Predicted | AnswerError:
    """Return a prediction with zeros for what is missing, where a fault of the originals is switched on."""
    if isinstance(prediction, AnswerError):
        return (0.0,) * length if ZERO_FAILURES in faults else prediction
    return tuple(value or 0.0 for value in prediction) if ZERO_NUMBERS in faults else prediction


def _number(outcome: Outcome) -> float | None:
    if isinstance(outcome, float):
        return outcome
    return 0.0 if outcome == "failed" else None


SCORERS.register("simulation", SimulationScorer)
