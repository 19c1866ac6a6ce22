"""Runs a method's explainer and scorers on planted features: the same tasks and resolver as those of a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from autointerp import evaluate, scorers
from autointerp.config import Config
from autointerp.evaluate import Case, Explained, Method
from autointerp.llm.types import LLMTask, T, Usage
from autointerp.prompting import rules, templates
from autointerp.records import AnswerError, Explanation, FeatureRecord, FeatureResult
from autointerp.runs.offline import Offline
from autointerp.runs.requests import refusing_logprobs, request_settings, without_logprobs
from autointerp.runs.work import Resolver
from autointerp.scorers import SCORERS, Scorer
from sae.common.errors import UserError
from sae.common.progress import Report, Silent
from sae.common.settings import cache_folder

MISMATCHED = "mismatched"
"""Names the control, which is the explanation of an unrelated concept."""


@dataclass(frozen=True)
class Harness:
    """Holds a method with the resolver of its calls."""

    method: Method
    resolver: Resolver
    report: Report

    @property
    def main(self) -> str:
        """The name of the main score."""
        return next(iter(self.method.chances))

    @property
    def compared_scores(self) -> tuple[str, ...]:
        """The scores that are compared: every one of simulation, the main one of others that judge an explanation."""
        return tuple(name for s in self.judging for name in list(s.chances)[: None if s.needs.simulator else 1])

    @property
    def judging(self) -> tuple[Scorer, ...]:
        """The scorers that judge an explanation."""
        return tuple(scorer for scorer in self.method.scorers if scorer.needs.explanation)

    def explain(self, features: Sequence[FeatureRecord]) -> list[Explained]:
        """Explain every feature with the main explainer."""
        explainer = self.method.explainers[0]
        return self._resolve("explaining", [evaluate.explain(feature, explainer) for feature in features])

    def score(
        self,
        features: Sequence[FeatureRecord],
        explained: Sequence[Explained],
        mismatched: Sequence[Explanation | AnswerError | None] | None = None,
        by: tuple[Scorer, ...] | None = None,
    ) -> list[FeatureResult]:
        """Score each feature with its explanation by all scorers or some, and with a mismatched one as the control."""
        controls = mismatched or [None] * len(features)
        name = self.method.explainers[0].name
        cases = [
            Case(feature, name, own, {} if control is None else {MISMATCHED: control}, by or self.method.scorers)
            for feature, own, control in zip(features, explained, controls, strict=True)
        ]
        return self._resolve("scoring", [evaluate.evaluate(case) for case in cases])

    def _resolve(self, title: str, tasks: Sequence[LLMTask[T]]) -> list[T]:
        results: dict[int, T] = {}
        with self.report(title) as progress:
            self.resolver.resolve(
                tasks,
                lambda index, result: results.update({index: result}),
                lambda: progress.update(len(results), len(tasks), self.resolver.note()),
            )
        return [results[index] for index in range(len(tasks))]


@contextmanager
def opened(config: Config, report: Report) -> Iterator[Harness]:
    """Open the models of a config's method. Raises UserError for missing keys and unknown models."""
    method = Method.of(config)
    if not method.models:
        yield Harness(method, Offline(), Silent)  # takes no time worth showing
        return
    from autointerp.llm.resolver import LiveResolver

    settings = request_settings(config)
    with LiveResolver(method.models, config.runtime, cache_folder("autointerp"), settings) as resolver:
        refusing = refusing_logprobs(config, resolver)
        yield Harness(Method.of(without_logprobs(config, refusing)) if refusing else method, resolver, report)


def available_scorers(config: Config) -> tuple[str, ...]:
    """Return the scorers that work with the config's simulator and judge, without a sentence embedding model."""
    return tuple(name for name in SCORERS.names if not SCORERS.get(name).needs.embedder and _works(name, config))


def _works(name: str, config: Config) -> bool:
    try:
        scorers.make(name, config)
    except UserError:
        return False
    return True


def given(text: str) -> Explained:
    """Make an explanation of a text that no explainer wrote."""
    return Explained(Explanation(text, templates.load(rules.PROMPT).label, "given"), Usage())
