"""Sums up the scores of uninformed explanations, and how far a dictionary's own scores lead over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import numpy as np

from autointerp.records import FeatureResult
from autointerp.reporting.cells import Row
from autointerp.sections import ControlKind
from autointerp.statistics import intervals

MISMATCHED = "mismatched"
"""The kind of control whose counts the leaderboard gives."""


def control_columns(
    group: Sequence[FeatureResult], scorer: str, bounds: intervals.Bounds | None, confidence: float
) -> Row:
    """Sum up the controls: the mismatched one's counts, every kind's mean, and the score's lead over the best kind.

    Args:
        bounds: the score's range.
        confidence: of the lead's interval.
    """
    counts = _scores_of_control(group, scorer, MISMATCHED)
    means = {kind: [value for *_, value in paired(group, scorer, kind)] for kind in get_args(ControlKind)}
    columns: Row = {
        "control_mean": mean([value for value, _ in counts if value is not None]),
        "n_control": sum(value is not None or has_failed for value, has_failed in counts),
        "n_control_undefined": sum(value is None and not has_failed for value, has_failed in counts),
        "n_control_failed": sum(has_failed for _, has_failed in counts),
    } | {f"{kind}_mean": mean(values) for kind, values in means.items() if kind != MISMATCHED}
    best = max((kind for kind in means if means[kind]), key=lambda kind: float(np.mean(means[kind])), default=None)
    lead = [own - null for _, own, null in paired(group, scorer, best)] if best else []
    width = None if bounds is None else bounds[1] - bounds[0]
    interval = intervals.mean_interval(lead, None if width is None else (-width, width), confidence)
    return columns | {
        "best_control": best,
        "lead": interval and interval.mean,
        "lead_low": interval and interval.low,
        "lead_high": interval and interval.high,
    }


def paired(group: Sequence[FeatureResult], scorer: str, kind: str) -> list[tuple[FeatureResult, float, float]]:
    """Pair a score with its control's, feature by feature, where both exist."""
    pairs = [
        (result, result.scores.get(scorer), result.controls[kind].scores.get(scorer))
        for result in group
        if kind in result.controls
    ]
    return [(result, own, control) for result, own, control in pairs if own is not None and control is not None]


def mean(values: Sequence[float]) -> float | None:
    """Return the mean; None without values."""
    return float(np.mean(values)) if values else None


def _scores_of_control(group: Sequence[FeatureResult], scorer: str, kind: str) -> list[tuple[float | None, bool]]:
    """Return each control's score, and whether it has failed."""
    controls = [result.controls[kind] for result in group if kind in result.controls]
    return [(one.scores[scorer], scorer in one.failed) for one in controls if scorer in one.scores]
