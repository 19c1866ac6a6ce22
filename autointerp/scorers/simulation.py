"""Scores by simulation (Bills et al. 2023): Pearson correlation of true and predicted activations, pooled over tokens.

All tokens of the scored records are one long pair of vectors; per-record correlations are never averaged. Where the
truth is constant the score is None (`undefined`), never 0; where only the prediction is, it is 0 (`failed`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from autointerp import simulators
from autointerp.llm.types import LLMTask
from autointerp.records import ActivationRecord, Explanation, FeatureRecord, Simulation
from autointerp.scorers import SCORERS, Needs, Scored, Scorer

if TYPE_CHECKING:
    from autointerp.config import Config

Outcome: TypeAlias = float | Literal["undefined", "failed"]
SLICES = {
    "simulation/top_and_random": frozenset({"top", "random"}),
    "simulation/top": frozenset({"top"}),
    "simulation/random": frozenset({"random"}),
}
"""Which records each score pools, by their source. The first is the main one."""
SIMULATED = frozenset().union(*SLICES.values())
"""Sources that any slice pools: others are not simulated, which may be paid for."""


class SimulationScorer(Scorer):
    """Shows the simulator the explanation and the tokens of the score records, and nothing else."""

    name, colour, bounds = "simulation", "#1b1b1b", (-1.0, 1.0)
    needs = Needs(simulator=True)

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._simulator = simulators.make(config)
        self.prompts, self.models = self._simulator.prompts, self._simulator.models
        self.chances = dict.fromkeys(SLICES, 0.0)

    def score(self, feature: FeatureRecord, explanation: Explanation) -> LLMTask[Scored]:
        """Score one feature by every slice of its score records."""
        used = [index for index, record in enumerate(feature.score) if record.source in SIMULATED]
        predictions = yield from self._simulator.simulate(explanation, [feature.score[index].tokens for index in used])
        simulations = tuple(Simulation(index, values) for index, values in zip(used, predictions, strict=True))
        outcomes = slices(feature.score, simulations)
        failed = tuple(name for name, outcome in outcomes.items() if outcome == "failed")
        scores = {name: _number(outcome) for name, outcome in outcomes.items()}
        return Scored(scores, simulations, failed=failed)


def slices(records: Sequence[ActivationRecord], simulations: Sequence[Simulation]) -> dict[str, Outcome]:
    """Return all slices' correlations of one feature."""
    return {name: _pooled(records, simulations, sources) for name, sources in SLICES.items()}


def _number(outcome: Outcome) -> float | None:
    if isinstance(outcome, float):
        return outcome
    return 0.0 if outcome == "failed" else None


def _pooled(records: Sequence[ActivationRecord], simulations: Sequence[Simulation], sources: frozenset[str]) -> Outcome:
    used = [simulation for simulation in simulations if records[simulation.record].source in sources]
    true = [value for simulation in used for value in records[simulation.record].activations]
    return correlation(true, [value for simulation in used for value in simulation.predicted])


def correlation(true: Sequence[float], predicted: Sequence[float | None]) -> Outcome:
    """Return Pearson's r; "undefined" without a varying truth or a whole prediction, "failed" for a constant one.

    Raises ValueError if the lengths differ.
    """
    if len(true) != len(predicted):
        raise ValueError(f"{len(true)} activations but {len(predicted)} predictions")
    known = [value for value in predicted if value is not None]
    if not true or len(known) < len(true) or min(true) == max(true):
        return "undefined"
    if min(known) == max(known):
        return "failed"
    x, y = np.asarray(true, np.float64), np.asarray(known, np.float64)
    x, y = x - x.mean(), y - y.mean()
    return float(np.clip((x / np.linalg.norm(x)) @ (y / np.linalg.norm(y)), -1.0, 1.0))


SCORERS.register("simulation", SimulationScorer)
