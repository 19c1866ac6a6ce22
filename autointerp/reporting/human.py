"""Counts what people said of features as scores among the others: `human/rubric` and `human/intruder`.

Each is the mean over raters of a feature's rating, and belongs to the explainer whose explanation was shown; where none
was shown, to the main one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from autointerp.ratings import TEXTS, Rating
from autointerp.records import FeatureId, FeatureResult
from autointerp.statistics.ranks import correlation

PREFIX = "human/"
CHANCES: dict[str, float | None] = {f"{PREFIX}rubric": None, f"{PREFIX}intruder": 1 / TEXTS}
"""The human scores with their chance levels."""
BOUNDS = (0.0, 1.0)
COLUMNS = ("correlation", "correlation_low", "correlation_high", "n")
"""What each row of the leaderboard holds for every human score that the run has: Spearman's rank correlation of the
row's score with the human one, its 95% interval, and the number of features that have both. They are over all
dictionaries together, like the chance level. The interval counts the features of one direction as one."""
Row = dict[str, Any]


def joined(results: Sequence[FeatureResult], ratings: Sequence[Rating]) -> list[FeatureResult]:
    """Add the human scores to the results that have any; the others are returned as they are."""
    human = _scores(results, ratings)
    return [replace(one, scores={**one.scores, **human.get((one.feature, one.explainer), {})}) for one in results]


def alone(results: Sequence[FeatureResult], ratings: Sequence[Rating]) -> list[FeatureResult]:
    """Return the results that people rated with the human scores only, which cost nothing and have no control."""
    human = _scores(results, ratings)
    rated = [(one, human[key]) for one in results if (key := (one.feature, one.explainer)) in human]
    return [replace(one, scores=scores, controls={}, failed=(), errors={}, usage={}) for one, scores in rated]


def with_correlations(
    rows: Sequence[Row], results: Sequence[FeatureResult], clusters: Mapping[FeatureId, int]
) -> list[Row]:
    """Add COLUMNS to the rows of a leaderboard; `results` hold the human scores too."""
    names = [name for name in CHANCES if any(name in one.scores for one in results)]
    agreement: dict[tuple[str, str], Row] = {}
    for key in dict.fromkeys((row["explainer"], row["scorer"]) for row in rows):
        own = [one for one in results if one.explainer == key[0]]
        agreement[key] = {column: value for name in names for column, value in _agreement(own, key[1], name, clusters)}
    return [row | agreement[row["explainer"], row["scorer"]] for row in rows]


def column_of(human: str, column: str) -> str:
    """Name the leaderboard's column of a human score that holds one of COLUMNS: `human_rubric_correlation`, ..."""
    return f"{human.replace('/', '_')}_{column}"


def _agreement(
    results: Sequence[FeatureResult], score: str, human: str, clusters: Mapping[FeatureId, int]
) -> list[tuple[str, float | None]]:
    both = [
        (one.feature, (own, rated))
        for one in results
        if (own := one.scores.get(score)) is not None and (rated := one.scores.get(human)) is not None
    ]
    pairs = [pair for _, pair in both] if score != human else []
    rank = correlation(pairs, len({clusters.get(feature, feature) for feature, _ in both}))
    values = (rank.value, rank.low, rank.high) if rank else (None, None, None)
    return [(column_of(human, column), value) for column, value in zip(COLUMNS, (*values, len(pairs)), strict=True)]


def _scores(
    results: Sequence[FeatureResult], ratings: Sequence[Rating]
) -> dict[tuple[FeatureId, str], dict[str, float]]:
    """Average the raters of each feature and explainer, by score."""
    given: dict[tuple[FeatureId, str], dict[str, list[float]]] = {}
    for rating in ratings if results else ():
        of = given.setdefault((rating.id, rating.explainer or results[0].explainer), {})
        of.setdefault(f"{PREFIX}{rating.task}", []).append(rating.score)
    return {key: {name: sum(values) / len(values) for name, values in of.items()} for key, of in given.items()}
