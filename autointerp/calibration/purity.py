"""Measures how purely a feature is one concept: the Matthews correlation of its firing with the best concept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

COVERED = 0.7
"""A concept is covered by a dictionary if some feature's purity for it is above this."""


@dataclass(frozen=True)
class FeaturePurity:
    """Holds a trained feature's purity and scores."""

    feature: str
    concept: str
    """The concept that fits best."""
    family: str
    purity: float
    density: float
    explanation: str | None
    scores: Mapping[str, float | None]
    """Scores of the explainer's explanation."""
    labelled: Mapping[str, float | None]
    """Scores of the true text about the concept that fits best."""


def matthews(fires_TF: NDArray[np.bool_], holds_TC: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the Matthews correlation of every feature with every concept, [F, C]; 0 where either is constant."""
    n = len(fires_TF)
    both_FC = fires_TF.astype(np.float32).T @ holds_TC.astype(np.float32) / n
    fires_F, holds_C = fires_TF.mean(0), holds_TC.mean(0)
    spread_FC = np.sqrt(np.outer(fires_F * (1 - fires_F), holds_C * (1 - holds_C)))
    product_FC = np.outer(fires_F, holds_C)
    correlation_FC: NDArray[np.float64] = np.divide(
        both_FC - product_FC, spread_FC, out=np.zeros_like(product_FC), where=spread_FC > 0
    )
    return correlation_FC
