"""Adds to a leaderboard's rows how many of the scored features reappear in dictionaries of other seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from autointerp.records import FeatureResult, Stability
from autointerp.reporting.cells import Row
from autointerp.reporting.controls import mean

STABILITY_COLUMNS = ("stability", "pw_mcc", "n_seeds")
"""Columns of a run that has dictionaries of several seeds, at the end: the mean share of the other seeds in which a
scored feature reappears, PW-MCC, and how many seeds there are; null for its other dictionaries."""


def with_stability(rows: list[Row], results: Sequence[FeatureResult], stability: Mapping[str, Stability]) -> list[Row]:
    """Add STABILITY_COLUMNS to the rows of a run where the stability of a dictionary is known; else none."""
    if not stability:
        return rows
    return [row | _stability_columns(row, results, stability.get(row["dictionary"])) for row in rows]


def _stability_columns(row: Row, results: Sequence[FeatureResult], known: Stability | None) -> Row:
    if known is None:
        return dict.fromkeys(STABILITY_COLUMNS)
    group = [
        result.feature.index
        for result in results
        if (result.feature.dictionary, result.explainer) == (row["dictionary"], row["explainer"])
        and result.scores.get(row["scorer"]) is not None
    ]
    reappearing = mean([known.features[index] for index in group])
    return dict(zip(STABILITY_COLUMNS, (reappearing, known.pw_mcc, len(known.others) + 1), strict=True))
