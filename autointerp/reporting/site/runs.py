"""Reads what the pages show of runs, finished or not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from autointerp import ratings
from autointerp.ratings import Rating
from autointerp.records import FeatureId, FeatureRecord, FeatureResult
from autointerp.reporting import human, leaderboard, tables
from autointerp.reporting.site.chunks import cut
from autointerp.reporting.site.neighbours import Neighbours, nearest, nearest_by_decoder
from autointerp.runs.replay import Asked, Exchange, asked
from autointerp.store import RunFolder
from sae.common.settings import cache_folder
from sae.common.tables import Table

Row = dict[str, Any]
MOST_ASKED = 20_000
"""Characters of a question to a language model, and of its answer, that the pages show."""


@dataclass(frozen=True)
class SiteRun:
    """Holds one run of a site."""

    label: str
    """The name of its folder, or its path where two folders share a name."""
    about: Row
    """run.json."""
    rows: Sequence[Row]
    """The leaderboard's."""
    features: Sequence[FeatureRecord]
    results: Mapping[FeatureId, Sequence[FeatureResult]]
    """Of each feature that has any, the main explainer's first."""
    together: Neighbours
    """The features active together with each."""
    alike: Neighbours
    """Those with a like decoder direction."""
    asked: Asked = field(default_factory=dict)
    """What language models were asked about each explanation, and answered."""
    human: Sequence[Table] = ()
    """What people said of the features."""

    @property
    def explainers(self) -> list[str]:
        """Name the explainers with results, the main one first."""
        return list(dict.fromkeys(result.explainer for results in self.results.values() for result in results))

    @property
    def scorers(self) -> list[str]:
        """Name the scores that exist, the main one first."""
        every = (result for results in self.results.values() for result in results)
        named = [row["scorer"] for row in self.rows]
        return list(dict.fromkeys([*named, *(name for result in every for name in result.scores)]))

    @property
    def n_expected(self) -> int:
        """Count the results that the finished run has or will have."""
        return len(self.features) * len(self.about["config"]["explainers"])

    @property
    def n_results(self) -> int:
        """Count the results that there are."""
        return sum(map(len, self.results.values()))

    @property
    def is_complete(self) -> bool:
        """Tell whether the run is finished."""
        return bool(self.about["status"] == "complete")


def read_all(folders: Sequence[RunFolder]) -> list[SiteRun]:
    """Read runs, each once. Raises UserError if a file cannot be read."""
    unique = {folder.path.resolve(): folder for folder in folders}
    names = [path.name for path in unique]
    return [read(folder, str(path) if names.count(path.name) > 1 else path.name) for path, folder in unique.items()]


def read(folder: RunFolder, label: str) -> SiteRun:
    """Read one run. Raises UserError if a file cannot be read."""
    return site_run(folder, label, folder.read_features() if folder.is_sampled else [], folder.results())


def site_run(
    folder: RunFolder,
    label: str,
    features: Sequence[FeatureRecord],
    results: Iterable[FeatureResult],
    rows: Sequence[Row] | None = None,
) -> SiteRun:
    """Describe a run whose features and results have been read. Raises UserError if another file cannot be read.

    Features that a finished run in rounds did not score are left out.

    Args:
        rows: the leaderboard's; None: those of the folder, or of what an unfinished run has.
    """
    about, rated, every = folder.about, ratings.read(folder.path), list(results)
    if about["status"] == "complete" and about["config"].get("stopping", {}).get("until_resolved"):
        scored = {result.feature for result in every}
        features = [feature for feature in features if feature.id in scored]
    if rows is None:
        rows = folder.read_leaderboard() if about["status"] == "complete" else _rows(about, features, every, rated)
    by_feature = dict[FeatureId, list[FeatureResult]]()
    for result in human.joined(every, rated):
        by_feature.setdefault(result.feature, []).append(result)
    near = (_together(features), nearest_by_decoder(features))
    questions = _shown(asked(folder, features, every, cache_folder("autointerp")))
    return SiteRun(label, about, rows, features, by_feature, *near, questions, tables.human_tables(rows))


def _shown(questions: Asked) -> Asked:
    """Cut questions and answers to what the pages show."""
    return {
        key: [Exchange(each.stage, cut(each.question, MOST_ASKED), cut(each.answer, MOST_ASKED)) for each in exchanges]
        for key, exchanges in questions.items()
    }


def _rows(
    about: Row, features: Sequence[FeatureRecord], results: Sequence[FeatureResult], rated: Sequence[Rating]
) -> list[Row]:
    """Make the leaderboard of what an unfinished run has; its chance levels are not known."""
    densities: dict[str, list[float]] = {}
    for feature in features:
        densities.setdefault(feature.id.dictionary, []).append(feature.density)
    scores = dict.fromkeys((name for result in results for name in [*result.scores, *result.errors]), None)
    return leaderboard.make_rows(about, densities, results, scores, rated=rated) if results else []


def _together(features: Sequence[FeatureRecord]) -> Neighbours:
    populations = [feature.population for feature in features if feature.population]
    if len(populations) < len(features):
        return Neighbours(0)
    return nearest(populations, [feature.id.dictionary for feature in features])
