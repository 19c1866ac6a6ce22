"""Makes a table of a run's results: a row per feature and explainer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from autointerp.records import FeatureResult, Stability

NONE: Mapping[str, Stability] = MappingProxyType({})
"""No stability is known."""


def rows(results: Iterable[FeatureResult], stability: Mapping[str, Stability] = NONE) -> list[dict[str, Any]]:
    """Return a row per result: status, explanation, scores, and controls as KIND/SCORE.

    Args:
        stability: of the dictionaries, where it was measured; the column is there if it was of any.
    """
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
        | ({"stability": _stability(result, stability)} if stability else {})
        | dict(result.scores)
        | {f"{kind}/{name}": value for kind, one in result.controls.items() for name, value in one.scores.items()}
        for result in results
    ]


def _stability(result: FeatureResult, stability: Mapping[str, Stability]) -> float | None:
    known = stability.get(result.feature.dictionary)
    return known.features.get(result.feature.index) if known else None
