"""Scores explanations that a person has edited, by a run's simulator and judge; the run's files stay as they are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from autointerp.config import Config
from autointerp.evaluate import Case, Explained, Method, evaluate
from autointerp.llm.types import LLMTask, Usage
from autointerp.records import Explanation, FeatureId, FeatureRecord, FeatureResult
from autointerp.runs.offline import Offline
from autointerp.runs.opening import config_of
from autointerp.runs.requests import request_settings
from autointerp.runs.work import Resolver
from autointerp.store import RunFolder
from sae.common.errors import UserError
from sae.common.settings import cache_folder

T = TypeVar("T")
EDITED = "edited"
"""What an edited explanation is called where others name their prompt and model."""


@dataclass(frozen=True)
class Cost:
    """Holds what scoring would ask of language models."""

    calls: int
    usd: float | None
    """What it costs at the usual length of answers; None if no price is known."""
    most_usd: float | None
    """The same if every answer is as long as it may be."""

    @property
    def words(self) -> str:
        """Say what it costs."""
        if self.usd is None or self.most_usd is None:
            return "at a price that is not known"
        return f"about ${self.usd:.4f}, at most ${self.most_usd:.4f}"


class Rescorer:
    """Scores edited explanations of one run's features."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder

    @cached_property
    def _features(self) -> list[FeatureRecord]:
        return self._folder.read_features()

    @cached_property
    def _config(self) -> Config:
        return config_of(self._folder)

    @cached_property
    def _method(self) -> Method:
        return Method.of(self._config)

    @property
    def ids(self) -> list[FeatureId]:
        """The run's features, in the order of their indices here."""
        return [feature.id for feature in self._features]

    def cost(self, index: int, explainer: str, text: str) -> Cost:
        """Count what scoring would ask, from its real prompts and without a call; cached answers cost nothing."""
        if not self._method.models:
            return Cost(0, 0.0, 0.0)
        from autointerp.llm.estimate import Estimator

        estimator = Estimator(self._config.runtime, cache_folder("autointerp"), request_settings(self._config))
        _resolved(self._task(index, explainer, text), estimator)
        usage = sum((stage.usage for stage in estimator.stages), Usage())
        most = [stage.most_usd for stage in estimator.stages]
        known = None if None in most else sum(value for value in most if value is not None)
        return Cost(sum(stage.calls for stage in estimator.stages), usage.cost_usd, known)

    def score(self, index: int, explainer: str, text: str, cost: Cost) -> FeatureResult:
        """Score an explanation; no more is spent than `cost` says at most. Raises UserError as a run does."""
        task = self._task(index, explainer, text)
        if not self._method.models:
            return _resolved(task, Offline())
        from autointerp.llm.resolver import LiveResolver

        changes = {"max_cost": cost.most_usd, "batch": False}
        runtime = self._config.runtime.model_copy(update=changes)
        settings = request_settings(self._config)
        with LiveResolver(self._method.models, runtime, cache_folder("autointerp"), settings) as resolver:
            return _resolved(task, resolver)

    def _task(self, index: int, explainer: str, text: str) -> LLMTask[FeatureResult]:
        if explainer not in [one.name for one in self._method.explainers]:
            raise UserError(f"the run has no explainer {explainer!r}")
        explained = Explained(Explanation(text, EDITED, EDITED), Usage())
        scorers = tuple(one for one in self._method.scorers_for(explainer) if one.needs.explanation)
        if not scorers:
            raise UserError("no scorer of the run reads explanations")
        return evaluate(Case(self._features[index], explainer, explained, {}, scorers))


def _resolved(task: LLMTask[T], resolver: Resolver) -> T:
    results: list[T] = []
    resolver.resolve([task], lambda _, value: results.append(value), lambda: None)
    return results[0]
