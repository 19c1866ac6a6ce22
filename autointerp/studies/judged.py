"""Compares the scores of a scorer between a dictionary, its neurons and uninformed explanations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from autointerp.records import FeatureResult
from autointerp.statistics.intervals import mean_interval
from autointerp.studies import Figure, figure

CONTROL = "mismatched"


def judged(results: Sequence[FeatureResult], scorer: str) -> dict[str, list[float]]:
    """Return the scores of one scorer, and of each feature that has both its own minus its control's."""
    pairs = [(result.scores.get(scorer), _control(result, scorer)) for result in results]
    return {
        "scores": [own for own, _ in pairs if own is not None],
        "above_control": [own - other for own, other in pairs if own is not None and other is not None],
    }


def _control(result: FeatureResult, scorer: str) -> float | None:
    control = result.controls.get(CONTROL)
    return control.scores.get(scorer) if control else None


def judged_figures(values: Mapping[str, Any], what: str, **published: Any) -> list[Figure]:
    """Return the mean score, and by how much it is above a mismatched explanation's."""
    scores, above = values["scores"], values["above_control"]
    return [
        figure(what, mean_interval(scores, (0.0, 1.0)), len(scores), **published),
        figure("the same, minus that of a mismatched explanation", mean_interval(above, (-1.0, 1.0)), len(above)),
    ]
