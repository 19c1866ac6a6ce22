"""Makes a table of a run's results: a row per feature and explainer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from autointerp.records import FeatureResult


def rows(results: Iterable[FeatureResult]) -> list[dict[str, Any]]:
    """Return a row per result: status, explanation, scores, and controls as KIND/SCORE."""
    return [
        {
            "dictionary": result.feature.dictionary,
            "feature": result.feature.index,
            "explainer": result.explainer,
            "status": result.status,
            "explanation": result.explanation.text if result.explanation else None,
            "error": result.error,
            "cost_usd": result.usage.get("cost_usd"),
        }
        | dict(result.scores)
        | {f"{kind}/{name}": value for kind, one in result.controls.items() for name, value in one.scores.items()}
        for result in results
    ]
