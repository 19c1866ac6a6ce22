"""Keeps track of a run's features times explainers: what is finished, what is explained, what is left to do."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Protocol, TypeVar

from autointerp import evaluate
from autointerp.calibration.controls import WordExchange, mismatched_features, permuted, with_controls
from autointerp.config import Config
from autointerp.evaluate import Case, Explained, Method
from autointerp.llm.later import Later
from autointerp.llm.types import LLMTask, Usage
from autointerp.llm.uses import Use
from autointerp.records import AnswerError, Explanation, FeatureId, FeatureRecord, FeatureResult
from autointerp.runs.dependence import Influences, scored_with_influences
from sae.common.errors import UserError
from sae.common.progress import Progress

T = TypeVar("T")


class Resolver(Protocol):
    """Completes LLM tasks: `autointerp.llm.resolver.LiveResolver`, the dry run's Estimator, or `Offline`."""

    def resolve(self, tasks: Sequence[LLMTask[T]], done: Callable[[int, T], None], tick: Callable[[], None]) -> None:
        """Run all tasks; `done` receives the index and the result of each as it ends, `tick` is called now and then."""
        ...

    def note(self) -> str:
        """Return what was done and spent so far, for the progress line."""
        ...

    def check(self, uses: Sequence[Use]) -> list[bool]:
        """Ask for one token for each use; return whether the log-probabilities that it needs are there.

        Raises UserError if a model does not answer.
        """
        ...


class TooManyErrors(UserError):
    """Stops a run as soon as more results are errors than --fail-on-error allows."""

    status = 1


Key = tuple[int, str]
"""A feature's index among the records, and an explainer's name."""


class ByFeature:
    """Holds results back until a feature has all of its own: syncing one to disk takes as long as syncing all."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self._held: dict[int, dict[Key, FeatureResult | None]] = {}
        for key in keys:
            self._held.setdefault(key[0], {})[key] = None

    def add(self, key: Key, result: FeatureResult) -> dict[Key, FeatureResult]:
        """Return all results of the feature, in the keys' order, if this was its last one; else none."""
        held = self._held[key[0]]
        held[key] = result
        ready = {other: value for other, value in held.items() if value is not None}
        if len(ready) < len(held):
            return {}
        del self._held[key[0]]
        return ready

    def rest(self) -> dict[Key, FeatureResult]:
        """Return all results that are still held back."""
        return {key: value for held in self._held.values() for key, value in held.items() if value is not None}


class Work:
    """Explains and scores what is not finished yet.

    Args:
        finished: the results that an earlier invocation left; they are kept as they are.
    """

    def __init__(
        self, features: Sequence[FeatureRecord], config: Config, method: Method, finished: Iterable[FeatureResult]
    ) -> None:
        self._features, self._config, self._method = features, config, method
        index_of = {feature.id: index for index, feature in enumerate(features)}
        self._finished = {(index_of[result.feature], result.explainer): result for result in finished}
        self._kinds = config.control_kinds
        self._controlled = with_controls(features, config.seed, config.controls)
        self._mismatched = mismatched_features(features, config.seed)
        self._permuted: dict[Key, Explained] = {}
        self._explained: dict[Key, Explained] = {
            key: Explained(result.explanation, Usage())
            for key, result in self._finished.items()
            if isinstance(result.explanation, Explanation)
        }
        self.influences: dict[tuple[FeatureId, str], Influences] = {}
        """The documents' influences on the results of this invocation."""
        self._errors = 0
        self.limit_to(range(len(features)))

    def limit_to(self, indices: Iterable[int]) -> None:
        """Leave all features but these out, from now on: they are not scored, and have no results."""
        self.indices = sorted(indices)
        self._pending = [key for key in self._all() if key not in self._finished]

    def _all(self) -> list[Key]:
        names = [explainer.name for explainer in self._method.explainers]
        return [(index, name) for index in self.indices for name in names]

    def explain(self, resolver: Resolver, progress: Progress) -> None:
        """Explain every unfinished feature and every one whose explanation is a control, each once."""
        by_name = {explainer.name: explainer for explainer in self._method.explainers}
        others = [(other, name) for i, name in self._pending if (other := self._mismatched_of(i)) is not None]
        own = [key for key in dict.fromkeys([*self._pending, *others]) if key not in self._explained]
        shuffled = [key for key in self._pending if self._has("permuted", key)]
        seed, faults = self._config.seed, self._config.peer_faults
        tasks = [Later(evaluate.explain, self._features[index], by_name[name], faults) for index, name in own]
        shuffles = ((permuted(self._features[index], seed), by_name[name]) for index, name in shuffled)
        tasks += [Later(evaluate.explain, *shuffle, faults) for shuffle in shuffles]
        ended = 0

        def done(index: int, explained: Explained) -> None:
            nonlocal ended
            ended += 1
            if index < len(own):
                self._explained[own[index]] = explained
            else:
                self._permuted[shuffled[index - len(own)]] = explained

        resolver.resolve(tasks, done, lambda: progress.update(ended, len(tasks), resolver.note()))

    def evaluate(
        self, resolver: Resolver, progress: Progress, append: Callable[[list[FeatureResult]], None] | None = None
    ) -> None:
        """Score every unfinished feature. Raises TooManyErrors as soon as too many errors are certain.

        Args:
            append: receives results as they end; None where they are not kept, as in a dry run: then no influences are
                computed.
        """
        method = self._method if append else None
        tasks = [Later(scored_with_influences, method, self._case(key)) for key in self._pending]
        allowed = math.floor(self._config.runtime.fail_on_error * len(self._all()))
        held = ByFeature(self._pending)
        ended = 0

        def write(ready: Mapping[Key, FeatureResult]) -> None:
            if ready:
                if append:
                    append(list(ready.values()))
                self._finished.update(ready)

        def done(index: int, scored: tuple[FeatureResult, Influences]) -> None:
            nonlocal ended
            ended += 1
            result, influences = scored
            if method:
                self.influences[result.feature, result.explainer] = influences
            self._errors += bool(result.errors)
            write(held.add(self._pending[index], result))
            if self._errors > allowed:
                write(held.rest())
                share = self._config.runtime.fail_on_error
                raise TooManyErrors(_too_many(result, self._errors, len(self._all()), share))

        def tick() -> None:
            notes = [f"{self._errors} errors", resolver.note()]
            progress.update(ended, len(tasks), ", ".join(filter(None, notes)))

        resolver.resolve(tasks, done, tick)

    def _case(self, key: Key) -> Case:
        index, name = key
        explained, controls = self._explained[key], dict[str, Explanation | AnswerError]()
        if (other := self._mismatched_of(index)) is not None:
            controls["mismatched"] = self._explained[other, name].outcome
        if key in self._permuted:
            controls["permuted"] = self._permuted[key].outcome
            explained = Explained(explained.outcome, explained.usage + self._permuted[key].usage)
        if self._has("exchanged", key) and isinstance(explained.outcome, Explanation):
            controls["exchanged"] = self._words.exchanged(explained.outcome, self._features[index], self._config.seed)
        return Case(self._features[index], name, explained, controls, self._method.scorers_for(name))

    def _mismatched_of(self, index: int) -> int | None:
        """Return the feature whose explanation is another's mismatched one; None if that feature gets no control."""
        return self._mismatched[index] if "mismatched" in self._kinds and index in self._controlled else None

    def _has(self, kind: str, key: Key) -> bool:
        """Tell whether an explanation gets a control of a kind that is made for the main explainer only."""
        index, name = key
        main = self._method.explainers[0]
        made = kind in self._kinds and (main.learns or kind != "permuted")
        return made and index in self._controlled and name == main.name

    @cached_property
    def _words(self) -> WordExchange:
        """The words of the population: without one, `exchanged` is refused when the method is made."""
        population = self._features[0].population
        assert population is not None
        return WordExchange(population.text)

    @property
    def is_ordered(self) -> bool:
        """Tell whether results ended in the features' order."""
        return list(self._finished) == self._all()

    def results(self) -> list[FeatureResult]:
        """Return all finished results, in the features' order."""
        return [self._finished[key] for key in self._all() if key in self._finished]


def _too_many(result: FeatureResult, errors: int, total: int, share: float) -> str:
    scorer, reason = next(iter(result.errors.items()))
    return (
        f"stopped: {errors} of {total} results are errors, more than --fail-on-error {share:g} allows; the last, "
        f"{result.feature} {scorer}: {reason}; everything is kept, and the same command continues"
    )
