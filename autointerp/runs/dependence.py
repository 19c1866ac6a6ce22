"""Computes what the scores of a run's results have in common: while they are scored, or afterwards on all cores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from autointerp.evaluate import Case, Method, evaluate
from autointerp.llm.types import LLMTask
from autointerp.records import FeatureId, FeatureRecord, FeatureResult
from autointerp.reporting.dependence import Dependence, clusters_of
from autointerp.runs.offline import Offline
from autointerp.statistics.clusters import Influence

Influences = Mapping[str, Influence]
"""The documents' influences on a result's scores, by score."""
Key = tuple[FeatureId, str]
"""A result's feature and explainer."""


def scored_with_influences(method: Method | None, case: Case) -> LLMTask[tuple[FeatureResult, Influences]]:
    """Score a case, and compute the documents' influences on its scores while its predictions are at hand.

    Args:
        method: None where influences are not needed: there are none then.
    """
    result = yield from evaluate(case)
    return result, method.influences(case.feature, result) if method else {}


def dependence_of(
    method: Method,
    features: Sequence[FeatureRecord],
    results: Sequence[FeatureResult],
    known: Mapping[Key, Influences] | None = None,
) -> Dependence:
    """Compute by how much each document moves each score, which features are of one direction, and chance levels.

    Args:
        known: the influences on some of the results. For the others, predictions on whole texts are made once more,
            which takes as long as scoring by rules.
    """
    influences = {**(known or {})}
    missing = [result for result in results if (result.feature, result.explainer) not in influences]
    by_id = {feature.id: feature for feature in features}

    def task(result: FeatureResult) -> LLMTask[Influences]:
        yield from ()  # asks nobody
        return method.influences(by_id[result.feature], result)

    def done(index: int, value: Influences) -> None:
        influences[missing[index].feature, missing[index].explainer] = value

    Offline().resolve([task(result) for result in missing], done, lambda: None)
    scored = {result.feature for result in results}
    chances = method.own_chances([feature for feature in features if feature.id in scored])
    return Dependence(clusters_of(features), influences, chances)
