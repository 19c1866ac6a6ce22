"""Says what the scores of a run's features have in common: the documents that move them, and their directions; and
which features have chance levels of their own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from autointerp.records import FeatureId, FeatureRecord, FeatureResult
from autointerp.statistics.clusters import Influence, Scores
from sae.common.seeds import derive_seed

SAME_DIRECTION = 0.7
"""Features whose decoder rows have at least this cosine, or its negative, are one cluster: they are paired between
dictionaries, and the halves of one direction are not two draws."""
ROWS_AT_ONCE = 1024


@dataclass(frozen=True, eq=False)
class Dependence:
    """Holds what features' scores have in common."""

    clusters: Mapping[FeatureId, int] = field(default_factory=dict)
    """A number per direction. A feature that is not listed is a cluster of its own."""
    influences: Mapping[tuple[FeatureId, str], Mapping[str, Influence]] = field(default_factory=dict)
    """How much each document moves each score of a feature's result, by feature and explainer."""
    chances: Mapping[FeatureId, Mapping[str, float | None]] = field(default_factory=dict)
    """The chance levels of a feature's scores, by name. A feature that is not listed has those of the run."""

    def chance(self, results: Sequence[FeatureResult], score: str, usual: float | None) -> float | None:
        """Return the mean chance level of a score over the features that have it; None if there is none.

        Args:
            usual: the run's.
        """
        known = [one.feature for one in results if one.scores.get(score) is not None]
        own = [self.chances[one].get(score, usual) if one in self.chances else usual for one in known]
        if all(level == usual for level in own):
            return usual
        levels = [level for level in own if level is not None]
        return float(np.mean(levels)) if levels else None

    def scores(self, results: Sequence[FeatureResult], score: str) -> Scores:
        """Take a score of some features, each with one result; those without a value are left out."""
        known = [result for result in results if result.scores.get(score) is not None]
        parts = [self.influences.get((one.feature, one.explainer), {}).get(score) for one in known]
        influences = [part for part in parts if part is not None]
        return Scores(
            np.array([one.scores[score] for one in known], np.float64),
            self.cluster_numbers(known),
            influences if len(influences) == len(known) else None,
        )

    def cluster_numbers(self, results: Iterable[FeatureResult]) -> NDArray[np.int64]:
        """Return the number of each result's cluster. A feature that is not listed has one of its own, a hash of its
        name below 0: features of two dictionaries do not share it."""
        own = (self.clusters.get(one.feature, -1 - derive_seed(0, "cluster", str(one.feature))) for one in results)
        return np.array([*own], np.int64)


INDEPENDENT = Dependence()
"""Nothing is known of what scores have in common: intervals are over features only."""


def clusters_of(features: Sequence[FeatureRecord]) -> dict[FeatureId, int]:
    """Number the features by their direction: those that cosines of SAME_DIRECTION connect get one number.

    Directions are compared where they are of the same hook points. A feature whose direction is not kept has a number
    of its own.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(features)
    edges = [*_edges(features)]
    first_E, second_E = (np.concatenate([edge[side] for edge in edges]) if edges else np.empty(0) for side in (0, 1))
    graph = coo_array((np.ones(len(first_E), np.bool_), (first_E, second_E)), shape=(n, n))
    _, label_F = connected_components(graph, directed=False)
    return {feature.id: int(label) for feature, label in zip(features, label_F, strict=True)}


def _edges(features: Sequence[FeatureRecord]) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """List the pairs of features of one direction, as two arrays of their indices."""
    spaces: dict[tuple[str, int], list[int]] = {}
    for index, feature in enumerate(features):
        if feature.direction is not None:
            spaces.setdefault((feature.writes, len(feature.direction)), []).append(index)
    for indices in spaces.values():
        rows_FD = np.array([features[index].direction for index in indices], np.float32)
        lengths_F = np.linalg.norm(rows_FD, axis=1)
        rows_FD /= np.where(lengths_F > 0, lengths_F, 1)[:, None]
        index_F = np.array(indices)
        for start in range(0, len(indices), ROWS_AT_ONCE):
            cosine_RF = rows_FD[start : start + ROWS_AT_ONCE] @ rows_FD.T
            first, second = np.nonzero(np.abs(cosine_RF) >= SAME_DIRECTION)
            yield index_F[first + start], index_F[second]
