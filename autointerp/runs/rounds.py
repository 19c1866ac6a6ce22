"""Scores features in rounds until the comparisons of dictionaries are resolved (`--until-resolved`).

A round takes the next features of every dictionary that still has an open comparison, in an order that only the seed
decides. What was decided follows from the results alone, so that an interrupted run continues in the round in which it
stopped, and pages and tables can be made again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np

from autointerp.calibration.controls import by_dictionary
from autointerp.config import Config
from autointerp.evaluate import Method
from autointerp.records import FeatureRecord, FeatureResult
from autointerp.reporting.controls import paired
from autointerp.reporting.dependence import Dependence
from autointerp.reporting.leaderboard import range_of
from autointerp.reporting.resolution import Resolved
from autointerp.runs.dependence import dependence_of
from autointerp.runs.work import Work
from autointerp.statistics.clusters import Scores
from autointerp.statistics.resolution import Design, Resolution, Sample, resolve
from sae.common.progress import Report
from sae.common.seeds import derive_seed


class Rounds:
    """Decides what a run scores next, by the main score of its main explainer."""

    def __init__(self, config: Config, method: Method, features: Sequence[FeatureRecord]) -> None:
        self._config, self._method, self._features = config, method, features
        self._score = next(iter(method.chances))

    @cached_property
    def _order(self) -> dict[str, list[int]]:
        """The features of each dictionary, as indices among all, in the order in which they are scored.

        It is that of their own indices' random keys, so that dictionaries that share directions index by index share
        them in every round.
        """
        keys = [derive_seed(self._config.seed, "order of rounds", feature.id.index) for feature in self._features]
        return {name: sorted(own, key=lambda index: keys[index]) for name, own in by_dictionary(self._features).items()}

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

    def resolution(self, results: Sequence[FeatureResult], dependence: Dependence) -> Resolution:
        """Decide as much as the results and what they have in common allow."""
        by_id = {result.feature: result for result in self.compared(results)}

        def sample_of(name: str, n: int) -> Sample | None:
            group = [by_id.get(self._features[index].id) for index in self._order[name][:n]]
            scored = [result for result in group if result]
            return self._sample(scored, dependence) if len(scored) == n else None

        return resolve(self.design, sample_of)

    def compared(self, results: Iterable[FeatureResult]) -> list[FeatureResult]:
        """Take the results that are compared."""
        main = self._method.explainers[0].name
        return [result for result in results if result.explainer == main]

    def _sample(self, group: Sequence[FeatureResult], dependence: Dependence) -> Sample:
        leads = {}
        for kind in self.design.controls:
            pairs = paired(group, self._score, kind)
            clusters = [dependence.clusters.get(result.feature, -1 - i) for i, (result, *_) in enumerate(pairs)]
            values = np.array([own - control for _, own, control in pairs], np.float64)
            leads[kind] = Scores(values, np.array(clusters, np.int64))
        return Sample(dependence.scores(group, self._score), leads)

    def indices(self, features: Mapping[str, int]) -> list[int]:
        """Return the indices of each dictionary's first features, so many of each."""
        return [index for name, n in features.items() for index in self._order[name][:n]]


def in_rounds(
    config: Config, method: Method, work: Work, features: Sequence[FeatureRecord], report: Report
) -> Iterator[str]:
    """Limit the work to what is to be scored next, again and again; yield what tells the titles of a round apart.

    Without --until-resolved that is everything, at once.
    """
    if not config.stopping.until_resolved:
        yield ""
        return
    rounds, dependence = Rounds(config, method, features), Dependence()
    while True:
        with report("comparing") as progress:
            own = rounds.compared(work.results())
            dependence = dependence_of(method, features, own, {**dependence.influences, **work.influences})
            made = rounds.resolution(own, dependence)
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


def resolution_of(
    config: Config,
    method: Method,
    features: Sequence[FeatureRecord],
    results: Sequence[FeatureResult],
    dependence: Dependence,
) -> Resolved | None:
    """Return what a run has resolved; None if it scores all features whatever they say."""
    if not config.stopping.until_resolved:
        return None
    rounds = Rounds(config, method, features)
    return Resolved(rounds.design, rounds.resolution(results, dependence))
