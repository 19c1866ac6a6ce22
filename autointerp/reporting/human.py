"""Sums up what people said of a run's features: human scores by dictionary, and how other scores rank with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from autointerp import ratings
from autointerp.calibration.purity import spearman
from autointerp.ratings import Rating
from autointerp.records import FeatureId, FeatureResult
from autointerp.statistics.intervals import mean_interval
from autointerp.store import RunFolder
from sae.common.tables import Table, number

BOUNDS = (0.0, 1.0)


def tables_of(folder: RunFolder) -> list[Table]:
    """Make both tables of a run; none if nobody has rated it. Raises UserError if the ratings cannot be read."""
    every = ratings.read(folder.path)
    return tables(every, folder.results()) if every else []


def tables(every: Sequence[Rating], results: Iterable[FeatureResult]) -> list[Table]:
    """Make a table of the human scores of each dictionary, and one of their rank correlation with every other score."""
    if not every:
        return []
    return [_scores(every), _agreement(every, results)]


def _scores(every: Sequence[Rating]) -> Table:
    rows = []
    for task, dictionary in dict.fromkeys((rating.task, rating.dictionary) for rating in every):
        means = list(_by_feature(r for r in every if (r.task, r.dictionary) == (task, dictionary)).values())
        mean = mean_interval(means, BOUNDS)
        assert mean
        ends = "-" if mean.low is None else f"{number(mean.low)} to {number(mean.high)}"
        rows.append([dictionary, task, number(mean.mean), ends, str(len(means))])
    title = "Human scores from 0 to 1, given without knowing the dictionary: mean over features with its 95% interval."
    return Table(["dictionary", "task", "human score", "95% interval", "features"], rows, title)


def _agreement(every: Sequence[Rating], results: Iterable[FeatureResult]) -> Table:
    """Correlate over the features that have both; the score is that of the explanation that was shown, if one was."""
    by_key: dict[tuple[FeatureId, str], Mapping[str, float | None]] = {}
    for result in results:
        by_key[result.feature, result.explainer] = result.scores
        by_key.setdefault((result.feature, ""), result.scores)  # the main explainer's come first
    rows = []
    for task in dict.fromkeys(rating.task for rating in every):
        rated = [rating for rating in every if rating.task == task]
        human = _by_feature(rated)
        scores = {rating.id: by_key.get((rating.id, rating.explainer), {}) for rating in rated}
        for name in dict.fromkeys(name for each in scores.values() for name in each):
            pairs = [(human[one], value) for one, each in scores.items() if (value := each.get(name)) is not None]
            rows.append([name, task, number(spearman(pairs)), str(len(pairs))])
    title = "Spearman's rank correlation of every score with the human score, over the features that have both."
    return Table(["score", "task", "rank correlation", "features"], rows, title)


def _by_feature(rated: Iterable[Rating]) -> dict[FeatureId, float]:
    """Average the raters of each feature."""
    scores: dict[FeatureId, list[float]] = {}
    for rating in rated:
        scores.setdefault(rating.id, []).append(rating.score)
    return {feature: sum(values) / len(values) for feature, values in scores.items()}
