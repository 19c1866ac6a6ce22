"""Scores features in rounds until the comparisons of dictionaries are resolved (`--until-resolved`).

A round takes the next features of every dictionary that still has an open comparison, in an order that only the seed
decides. What was decided follows from the results alone, so that an interrupted run continues in the round in which it
stopped, and pages and tables can be made again.

Where language models are asked, rules score all sampled features beforehand, which costs nothing; the means of the
judged ones are corrected by these free scores (`statistics.control_variates`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from autointerp.calibration.controls import by_dictionary
from autointerp.config import Config
from autointerp.evaluate import Method
from autointerp.records import FeatureId, FeatureRecord, FeatureResult
from autointerp.reporting.controls import paired
from autointerp.reporting.dependence import Dependence
from autointerp.reporting.leaderboard import range_of
from autointerp.reporting.resolution import Resolved
from autointerp.runs.dependence import Influences, dependence_of
from autointerp.runs.free_scores import FreeScores, by_rules, free_scores
from autointerp.runs.work import Work
from autointerp.statistics.clusters import Scores
from autointerp.statistics.control_variates import Measured
from autointerp.statistics.resolution import Design, Resolution, Sample, resolve
from sae.common.progress import Report
from sae.common.seeds import derive_seed


def judged_pool(config: Config, features: Sequence[FeatureRecord]) -> list[FeatureRecord]:
    """Return the features that may be judged, in their order: with --until-resolved `stopping.most` of each dictionary.

    They are the first in the order of rounds. It is that of their indices' random keys, so that dictionaries that share
    directions index by index share them in every round.
    """
    if not config.stopping.until_resolved or config.stopping.most is None:
        return list(features)
    taken = {index for own in _order(config, features).values() for index in own[: config.stopping.most]}
    return [feature for index, feature in enumerate(features) if index in taken]


def _order(config: Config, features: Sequence[FeatureRecord]) -> dict[str, list[int]]:
    """List each dictionary's features, as indices among all, in the order in which they are scored."""
    keys = [derive_seed(config.seed, "order of rounds", feature.id.index) for feature in features]
    return {name: sorted(own, key=lambda index: keys[index]) for name, own in by_dictionary(features).items()}


class Rounds:
    """Decides what a run scores next, by the main score of its main explainer.

    Args:
        features: all that are sampled.
        free: scores all of them by rules; None: there are no free scores.
    """

    def __init__(
        self,
        config: Config,
        method: Method,
        features: Sequence[FeatureRecord],
        free: Callable[[], FreeScores] | None = None,
    ) -> None:
        self._config, self._method, self._features, self._make_free = config, method, features, free
        self._pool = judged_pool(config, features)
        self._score = next(iter(method.chances))

    @cached_property
    def _free(self) -> FreeScores | None:
        return self._make_free() if self._make_free else None

    @cached_property
    def _order(self) -> dict[str, list[int]]:
        return _order(self._config, self._pool)

    @cached_property
    def design(self) -> Design:
        """What is fixed before the first round."""
        stopping = self._config.stopping
        available = {name: len(own) for name, own in self._order.items()}
        bounds = range_of(self._score)
        return Design(available, self._controls(), stopping.first, stopping.difference, bounds, stopping.futility)

    def _controls(self) -> list[str]:
        """Name the kinds of controls that the main score has."""
        if not self._config.controls or not self._method.scorers[0].needs.explanation:
            return []
        learns = self._method.explainers[0].learns
        return [kind for kind in self._config.control_kinds if learns or kind != "permuted"]

    def resolved(self, results: Sequence[FeatureResult], dependence: Dependence) -> Resolved:
        """Return what a run has resolved, and how it was to stop."""
        n_free = sum(map(len, self._free.results.values())) if self._free else None
        return Resolved(self.design, self.resolution(results, dependence), n_free)

    def resolution(self, results: Sequence[FeatureResult], dependence: Dependence) -> Resolution:
        """Decide as much as the results and what they have in common allow."""
        by_id = {result.feature: result for result in self.compared(results)}

        def sample_of(name: str, n: int) -> Sample | None:
            group = [by_id.get(self._pool[index].id) for index in self._order[name][:n]]
            scored = [result for result in group if result]
            return self._sample(name, scored, dependence) if len(scored) == n else None

        return resolve(self.design, sample_of)

    def dependence(
        self, results: Sequence[FeatureResult], known: Mapping[tuple[FeatureId, str], Influences]
    ) -> Dependence:
        """Compute what the scores of these results have in common, as far as it is not known."""
        return dependence_of(self._method, self._features, results, known)

    def compared(self, results: Iterable[FeatureResult]) -> list[FeatureResult]:
        """Take the results that are compared."""
        main = self._method.explainers[0].name
        return [result for result in results if result.explainer == main]

    def _sample(self, name: str, group: Sequence[FeatureResult], dependence: Dependence) -> Sample:
        """Take the scores and leads of a dictionary's scored features, with the free ones beside them."""
        kinds = (None, *self.design.controls)
        made = {kind: _known(group, self._score, kind, dependence) for kind in kinds}
        if not self._free:
            return _sample_of({kind: Measured(known.scores) for kind, known in made.items()})
        results, common = self._free.results[name], Dependence(dependence.clusters, self._free.influences)
        free = {kind: _known(results, self._free.score, kind, common) for kind in kinds}
        return _sample_of({kind: _beside(made[kind], free[kind]) for kind in kinds})

    def indices(self, features: Mapping[str, int]) -> list[int]:
        """Return the indices of each dictionary's first features in the pool, so many of each."""
        return [index for name, n in features.items() for index in self._order[name][:n]]


@dataclass(frozen=True, eq=False)
class _Known:
    """Holds the features that have a score, or a lead, with its values."""

    features: Sequence[FeatureId]
    scores: Scores


def _known(results: Sequence[FeatureResult], score: str, kind: str | None, dependence: Dependence) -> _Known:
    """Take a score, or its lead over a kind of control, of the results that have it."""
    if kind is None:
        features = [result.feature for result in results if result.scores.get(score) is not None]
        return _Known(features, dependence.scores(results, score))
    pairs = paired(results, score, kind)
    used = [result for result, *_ in pairs]
    values = np.array([own - control for _, own, control in pairs], np.float64)
    return _Known([result.feature for result in used], Scores(values, dependence.cluster_numbers(used)))


def _beside(judged: _Known, free: _Known) -> Measured:
    """Put the free scores of all features beside those of the judged ones."""
    number = {feature: index for index, feature in enumerate(free.features)}
    return Measured(
        judged.scores, free.scores, np.array([number.get(feature, -1) for feature in judged.features], np.int64)
    )


def _sample_of(made: Mapping[str | None, Measured]) -> Sample:
    """Put the scores (None) and the leads by kind of control apart."""
    return Sample(made[None], {kind: one for kind, one in made.items() if kind is not None})


def rounds_of(config: Config, method: Method, features: Sequence[FeatureRecord], report: Report) -> Rounds | None:
    """Make what decides in rounds, with free scores if language models are asked; None without --until-resolved."""
    if not config.stopping.until_resolved:
        return None
    free = partial(free_scores, by_rules(config), features, report) if method.models else None
    return Rounds(config, method, features, free)


def in_rounds(rounds: Rounds | None, work: Work, report: Report) -> Iterator[str]:
    """Limit the work to what is to be scored next, again and again; yield what tells the titles of a round apart.

    Without --until-resolved (`rounds` is None) that is everything, at once.

    Args:
        work: of the judged pool.
    """
    if rounds is None:
        yield ""
        return
    dependence = Dependence()
    while True:
        own = rounds.compared(work.results())
        dependence = rounds.dependence(own, {**dependence.influences, **work.influences})
        made = rounds.resolution(own, dependence)
        with report("comparing") as progress:
            progress.say(described(made, rounds.design))
        work.limit_to(rounds.indices(made.features))
        if made.is_over:
            return
        yield f" round {max(made.rounds.values())}"


def described(made: Resolution, design: Design) -> str:
    """Say how far a run is, in a line."""
    scored, all_features = sum(made.features.values()), sum(design.available.values())
    counted = f"{scored:,} of {all_features:,} features"
    until = f"{counted} are scored" if made.is_over else f"round {max(made.rounds.values())} is to {counted}"
    return f"{made.n_decided} of {len(made.comparisons)} comparisons are resolved; {until}"
