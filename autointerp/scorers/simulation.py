"""Simulation scoring (Bills et al. 2023): Pearson correlation of true and predicted activations, pooled over tokens.

All tokens of the scored records are one long pair of vectors; per-record correlations are never averaged. Where either
vector is constant the correlation does not exist: the score is None (`undefined`), never 0.
"""

from collections.abc import Sequence

import numpy as np

from autointerp.records import ActivationRecord, Simulation

SLICES = {
    "simulation/top_and_random": frozenset({"top", "random"}),
    "simulation/top": frozenset({"top"}),
    "simulation/random": frozenset({"random"}),
}
"""Which records each score pools, by their source. The first is the main one."""
MAIN = "simulation/top_and_random"


def score(records: Sequence[ActivationRecord], simulations: Sequence[Simulation]) -> dict[str, float | None]:
    """All slices' correlations of one feature."""
    return {name: _pooled(records, simulations, sources) for name, sources in SLICES.items()}


def _pooled(
    records: Sequence[ActivationRecord], simulations: Sequence[Simulation], sources: frozenset[str]
) -> float | None:
    used = [simulation for simulation in simulations if records[simulation.record].source in sources]
    true = [value for simulation in used for value in records[simulation.record].activations]
    predicted = [value for simulation in used for value in simulation.predicted]
    return correlation(true, predicted)


def correlation(true: Sequence[float], predicted: Sequence[float]) -> float | None:
    """Pearson's r, or None if either side is constant or empty. Raises ValueError if the lengths differ."""
    if len(true) != len(predicted):
        raise ValueError(f"{len(true)} activations but {len(predicted)} predictions")
    if not true or min(true) == max(true) or min(predicted) == max(predicted):
        return None
    x, y = np.asarray(true, np.float64), np.asarray(predicted, np.float64)
    x, y = x - x.mean(), y - y.mean()
    return float(np.clip((x / np.linalg.norm(x)) @ (y / np.linalg.norm(y)), -1.0, 1.0))
