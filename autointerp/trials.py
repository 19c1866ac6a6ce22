"""Holds what a text of one's own shows of a run's features: which are active on each token, and what they promote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from autointerp.records import FeatureId, FeatureResult


@dataclass(frozen=True)
class ActiveFeature:
    """Holds a feature that is active on a token."""

    id: FeatureId
    activation: float
    promoted: tuple[tuple[str, float], ...]
    """Tokens that it makes more likely to follow, with what it adds to their logits, most first: what its decoder
    writes here, through the unembedding, without the final layer norm. Empty where no fixed map leads to the logits."""


@dataclass(frozen=True)
class TriedToken:
    """Holds a token of the text with the features that are active on it."""

    text: str
    n_active: int
    """Features of all dictionaries that are active here."""
    features: tuple[ActiveFeature, ...]
    """The strongest ones, and of those that the run explains the strongest, by what they write: activation times the
    length of what one unit of a feature writes."""


@dataclass(frozen=True)
class Trial:
    """Holds a text's tokens with what the run knows of their features."""

    dictionaries: tuple[str, ...]
    """Those whose features were looked at."""
    tokens: tuple[TriedToken, ...]
    results: Mapping[FeatureId, FeatureResult]
    """By the main explainer."""
    largest: Mapping[FeatureId, float]
    """The largest activation of each sampled feature in the run's text."""
