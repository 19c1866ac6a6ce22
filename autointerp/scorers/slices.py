"""Pools the tokens of score records by their source, and correlates predictions with activations over each pool.

These are the published scores. Shape suffixes: T tokens of the pooled records, K records, D documents.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autointerp.records import ActivationRecord, Simulation
from autointerp.scorers.influences import correlation_influence
from autointerp.scorers.population import Floats, Outcome
from autointerp.statistics.clusters import Influence

SLICES = {
    "simulation/top_and_random": frozenset({"top", "random"}),
    "simulation/top": frozenset({"top"}),
    "simulation/random": frozenset({"random"}),
}
"""Which records each published score pools, by their source."""
FEATURES_KEPT = 16
"""Features whose records are kept as they are pooled."""


def listed(records: Sequence[ActivationRecord]) -> tuple[ActivationRecord, ...]:
    """Spell out a feature's records: its explanations are scored in turn."""
    return _known(records)[0]


def _known(records: Sequence[ActivationRecord]) -> tuple[tuple[ActivationRecord, ...], tuple[Floats, ...]]:
    return _kept(tuple(records) if isinstance(records, list) else records)


@lru_cache(maxsize=FEATURES_KEPT)
def _kept(records: Sequence[ActivationRecord]) -> tuple[tuple[ActivationRecord, ...], tuple[Floats, ...]]:
    """Spell out records and their activations."""
    each = tuple(records)
    return each, tuple(np.array(record.activations, np.float64) for record in each)


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
        each, true = _known(records)
        used = [one.record for one in simulations]
        predicted_T = np.array(list(chain.from_iterable(one.predicted for one in simulations)), np.float64)
        length_K = np.array([len(true[index]) for index in used], np.int64)
        index_T = np.repeat(np.arange(len(used)), length_K)
        true_T = np.concatenate([np.zeros(0), *(true[index] for index in used)])
        return _Pooled([each[index] for index in used], true_T, predicted_T, index_T)

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


def correlation(true: Sequence[float] | Floats, predicted: Sequence[float | None] | Floats) -> Outcome:
    """Return Pearson's r; "failed" for a constant prediction, "undefined" if it is not whole, or without a truth that
    varies and is finite.

    Raises ValueError if the lengths differ.
    """
    if len(true) != len(predicted):
        raise ValueError(f"{len(true)} activations but {len(predicted)} predictions")
    x, y = np.asarray(true, np.float64), np.asarray(predicted, np.float64)  # a missing prediction is NaN there
    if not len(x) or np.isnan(lowest := y.min()) or not np.isfinite(x).all() or x.max() == x.min():
        return "undefined"
    if y.max() == lowest:
        return "failed"
    x, y = x - x.sum() / len(x), y - y.sum() / len(y)
    return max(-1.0, min(1.0, float((x / math.sqrt(x @ x)) @ (y / math.sqrt(y @ y)))))
