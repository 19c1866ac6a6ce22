"""Computes what the scores of a run's results have in common, on all cores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from autointerp.evaluate import Method
from autointerp.llm.types import LLMTask
from autointerp.records import FeatureId, FeatureRecord, FeatureResult
from autointerp.reporting.dependence import Dependence, clusters_of
from autointerp.runs.offline import Offline
from autointerp.statistics.clusters import Influence

Influences = Mapping[str, Influence]


def dependence_of(
    method: Method,
    features: Sequence[FeatureRecord],
    results: Sequence[FeatureResult],
    known: Dependence | None = None,
) -> Dependence:
    """Compute by how much each document moves each score, and which features are of one direction.

    Predictions on whole texts are made once more, so that this takes as long as scoring by rules.

    Args:
        known: the same of the same features and some of the results, which are then passed over.
    """
    known = known or Dependence(clusters_of(features))
    results = [result for result in results if (result.feature, result.explainer) not in known.influences]
    by_id = {feature.id: feature for feature in features}

    def task(result: FeatureResult) -> LLMTask[Influences]:
        yield from ()  # asks nobody
        return method.influences(by_id[result.feature], result)

    influences: dict[tuple[FeatureId, str], Influences] = {**known.influences}

    def done(index: int, value: Influences) -> None:
        influences[results[index].feature, results[index].explainer] = value

    Offline().resolve([task(result) for result in results], done, lambda: None)
    return Dependence(known.clusters, influences)
