"""Features times explainers: what is finished, what is explained, what is left."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from autointerp import evaluate
from autointerp.calibration.controls import mismatched_features
from autointerp.config import Config
from autointerp.evaluate import Case, Explained, Method
from autointerp.llm.ask import answered_by
from autointerp.llm.types import LLMTask, Usage
from autointerp.records import Explanation, FeatureRecord, FeatureResult
from sae.common.errors import UserError
from sae.common.progress import Progress

if TYPE_CHECKING:
    pass

T = TypeVar("T")


class Resolver(Protocol):
    """Who answers: drives tasks to their ends and tells `done` each one's place and value."""

    def resolve(
        self, tasks: Sequence[LLMTask[T]], done: Callable[[int, T], None], tick: Callable[[], None]
    ) -> None: ...

    def note(self) -> str:
        """What was done and spent so far, for the progress line."""
        ...


class Offline:
    """For the rules, which ask nobody."""

    def resolve(self, tasks: Sequence[LLMTask[T]], done: Callable[[int, T], None], tick: Callable[[], None]) -> None:
        for place, task in enumerate(tasks):
            done(place, answered_by(task, _nobody))
            tick()

    def note(self) -> str:
        return ""


def _nobody(question: object) -> Any:
    raise AssertionError(f"asked without a judge: {question}")


class TooManyErrors(UserError):
    """More errors than --fail-on-error allows are certain."""

    status = 1


Key = tuple[int, str]
"""A feature's place among the records, and an explainer's name."""


class ByFeature:
    """Holds results back until a feature's are all there: putting them on disk takes as long for one as for all."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self._held: dict[int, dict[Key, FeatureResult | None]] = {}
        for key in keys:
            self._held.setdefault(key[0], {})[key] = None

    def add(self, key: Key, result: FeatureResult) -> dict[Key, FeatureResult]:
        """All results of the feature, in the keys' order, if this was the last one; else none."""
        held = self._held[key[0]]
        held[key] = result
        found = {other: value for other, value in held.items() if value is not None}
        if len(found) < len(held):
            return {}
        del self._held[key[0]]
        return found

    def rest(self) -> dict[Key, FeatureResult]:
        """Whatever is held."""
        return {key: value for held in self._held.values() for key, value in held.items() if value is not None}


class Work:
    """Features times explainers: what is finished, what is explained, what is left."""

    def __init__(
        self, features: Sequence[FeatureRecord], config: Config, chosen: Method, finished: Iterable[FeatureResult]
    ) -> None:
        self._features, self._config, self._method = features, config, chosen
        place_of = {feature.id: place for place, feature in enumerate(features)}
        self._finished = {(place_of[result.feature], result.explainer): result for result in finished}
        self._mismatched = mismatched_features(features, config.seed, config.controls)
        self._explained: dict[tuple[int, str], Explained] = {
            key: Explained(result.explanation, Usage())
            for key, result in self._finished.items()
            if isinstance(result.explanation, Explanation)
        }
        self._pending = [key for key in self._all() if key not in self._finished]

    def _all(self) -> list[tuple[int, str]]:
        names = [explainer.name for explainer in self._method.explainers]
        return [(place, name) for place in range(len(self._features)) for name in names]

    def explain(self, resolver: Resolver, progress: Progress) -> None:
        """Explain every unfinished feature and every one whose explanation is a control, each once."""
        by_name = {explainer.name: explainer for explainer in self._method.explainers}
        wanted = [*self._pending, *((p, name) for i, name in self._pending if (p := self._mismatched[i]) is not None)]
        missing = [key for key in dict.fromkeys(wanted) if key not in self._explained]
        tasks = [evaluate.explain(self._features[place], by_name[name]) for place, name in missing]
        ended = 0

        def done(number: int, explained: Explained) -> None:
            nonlocal ended
            ended += 1
            self._explained[missing[number]] = explained

        resolver.resolve(tasks, done, lambda: progress.update(ended, len(tasks), resolver.note()))

    def evaluate(self, resolver: Resolver, progress: Progress, append: Callable[[list[FeatureResult]], None]) -> None:
        """Score every unfinished feature. Raises TooManyErrors as soon as too many errors are certain."""
        tasks = [evaluate.evaluate(self._case(place, name)) for place, name in self._pending]
        allowed = math.floor(self._config.runtime.fail_on_error * len(self._all()))
        held = ByFeature(self._pending)
        errors = ended = 0

        def write(ready: Mapping[Key, FeatureResult]) -> None:
            if ready:
                append(list(ready.values()))
                self._finished.update(ready)

        def done(number: int, result: FeatureResult) -> None:
            nonlocal errors, ended
            ended += 1
            errors += bool(result.errors)
            write(held.add(self._pending[number], result))
            if errors > allowed:
                write(held.rest())
                raise TooManyErrors(_hopeless(result, errors, len(self._all()), self._config.runtime.fail_on_error))

        def tick() -> None:
            said = [f"{errors} errors", resolver.note()]
            progress.update(ended, len(tasks), ", ".join(filter(None, said)))

        resolver.resolve(tasks, done, tick)

    def _case(self, place: int, name: str) -> Case:
        other = self._mismatched[place]
        mismatched = None if other is None else self._explained[other, name].outcome
        explained = self._explained[place, name]
        return Case(self._features[place], name, explained, mismatched, self._method.scorers_for(name))

    @property
    def is_ordered(self) -> bool:
        """Whether results ended in the features' order."""
        return list(self._finished) == self._all()

    def results(self) -> list[FeatureResult]:
        """All finished ones, in the features' order."""
        return [self._finished[key] for key in self._all() if key in self._finished]


def _hopeless(result: FeatureResult, errors: int, total: int, share: float) -> str:
    scorer, reason = next(iter(result.errors.items()))
    return (
        f"stopped: {errors} of {total} results are errors, more than --fail-on-error {share:g} allows; the last, "
        f"{result.feature} {scorer}: {reason}; everything is kept, the same command goes on"
    )
