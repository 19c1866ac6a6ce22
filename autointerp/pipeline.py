"""Runs the method: samples, explains, scores, on disk feature by feature; resumes; stops when it is hopeless.

Needs no torch: sampling is behind its room's door, and so are the language models behind theirs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from autointerp import identity, leaderboard, method
from autointerp.asking import Asking, Usage, answered_by
from autointerp.config import Config
from autointerp.method import Case, Explained, Method
from autointerp.records import Explanation, FeatureRecord, FeatureResult
from autointerp.sampling import inputs, sample
from autointerp.store import RunFolder
from sae.errors import UserError
from sae.files import alone
from sae.progress import Progress, Report
from sae.settings import cache_folder

if TYPE_CHECKING:
    from autointerp.llm.estimate import Estimator

T = TypeVar("T")


class Resolver(Protocol):
    """Who answers: drives askings to their ends and tells `done` each one's place and value."""

    def resolve(
        self, askings: Sequence[Asking[T]], done: Callable[[int, T], None], tick: Callable[[], None]
    ) -> None: ...

    def note(self) -> str:
        """What was done and spent so far, for the progress line."""
        ...


class Offline:
    """For the rules, which ask nobody."""

    def resolve(self, askings: Sequence[Asking[T]], done: Callable[[int, T], None], tick: Callable[[], None]) -> None:
        for place, asking in enumerate(askings):
            done(place, answered_by(asking, _nobody))
            tick()

    def note(self) -> str:
        return ""


def _nobody(question: object) -> Any:
    raise AssertionError(f"asked without a judge: {question}")


class Hopeless(UserError):
    """More errors than --fail-on-error allows are certain."""

    status = 1


def run(config: Config, report: Report) -> RunFolder:
    """Run an experiment, or take it up where it stopped; a finished one is only opened.

    Raises UserError for the user's mistakes, before anything is written where that can be known, if another process
    is at work on the same run folder, if the budget is reached, and if too many results are errors.
    """
    chosen = Method.of(config)
    config = inputs.resolve(config)
    about = identity.describe(config, chosen)
    folder = folder_of(config, about)
    with alone(folder.path, cache_folder() / "locks"):
        known = folder.find(about["identity"])
        if not known or known["status"] != "complete":
            with judges(config) as resolver:
                features = records_of(folder, config, about, report)
                results = score(folder, features, config, chosen, resolver, report)
            leaderboard.write(folder, results, chosen.chances)
            folder.update(status="complete", totals=totals(results))
    return folder


def estimate(config: Config, report: Report) -> Estimator:
    """What a run would still ask, by stage, without asking: prompts are rendered from real records.

    Records are drawn if they are not there yet, and kept: the run itself goes on from them.
    """
    from autointerp.llm.estimate import Estimator

    chosen = Method.of(config)
    config = inputs.resolve(config)
    about = identity.describe(config, chosen)
    folder = folder_of(config, about)
    with alone(folder.path, cache_folder() / "locks"):
        folder.find(about["identity"])
        features = records_of(folder, config, about, report)
        estimator = Estimator(config.runtime, cache_folder())
        work = Work(features, config, chosen, unharmed(folder))
        with report("rendering prompts") as progress:
            work.explain(estimator, progress)
            work.evaluate(estimator, progress, lambda results: None)
    return estimator


def judges(config: Config) -> AbstractContextManager[Resolver]:
    """Whom the config asks: keys and prices are checked here, before anything slow starts."""
    models = method.judges(config)
    if not models:
        return nullcontext(Offline())
    from autointerp.llm.session import Session

    return Session(models, config.runtime, cache_folder())


def folder_of(config: Config, about: dict[str, Any]) -> RunFolder:
    """Where a run lies."""
    return RunFolder(Path(config.runtime.out or f"runs/{config.name}-{about['identity'][:8]}"))


def records_of(folder: RunFolder, config: Config, about: dict[str, Any], report: Report) -> Sequence[FeatureRecord]:
    """Read the records, or draw them; the run folder is made only once they exist."""
    if folder.is_sampled:
        return folder.read_features()
    drawn = sample(config, about["inputs"], cache_folder(), report)
    folder.begin(about | {"sampling": drawn.facts, "dictionaries": [asdict(d) for d in drawn.dictionaries]})
    folder.write_features(drawn.features)
    return drawn.features


def score(
    folder: RunFolder,
    features: Sequence[FeatureRecord],
    config: Config,
    chosen: Method,
    resolver: Resolver,
    report: Report,
) -> list[FeatureResult]:
    """Evaluate what is not finished yet, each result on disk as it ends; returns all, in their order on disk.

    Results that hold an error are asked for again: whoever resumes after an outage wants them.
    """
    folder.recover()
    finished = unharmed(folder)
    if len(finished) < sum(1 for _ in folder.results()):
        folder.write_results(finished)
    work = Work(features, config, chosen, finished)
    with report("explaining") as progress:
        work.explain(resolver, progress)
    with report("scoring") as progress:
        work.evaluate(resolver, progress, folder.append)
    if not work.is_ordered:
        folder.write_results(work.results())
    return work.results()


def unharmed(folder: RunFolder) -> list[FeatureResult]:
    """Results without an error."""
    return [result for result in folder.results() if not result.errors and not result.control_errors]


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
        place_of = {feature.feature: place for place, feature in enumerate(features)}
        self._finished = {(place_of[result.feature], result.explainer): result for result in finished}
        self._partners = method.partners(features, config.seed, config.controls)
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
        """Explain every unfinished feature and every partner, each once."""
        by_name = {explainer.name: explainer for explainer in self._method.explainers}
        wanted = [*self._pending, *((p, name) for i, name in self._pending if (p := self._partners[i]) is not None)]
        missing = [key for key in dict.fromkeys(wanted) if key not in self._explained]
        askings = [method.explain(self._features[place], by_name[name]) for place, name in missing]
        ended = 0

        def done(number: int, explained: Explained) -> None:
            nonlocal ended
            ended += 1
            self._explained[missing[number]] = explained

        resolver.resolve(askings, done, lambda: progress.update(ended, len(askings), resolver.note()))

    def evaluate(self, resolver: Resolver, progress: Progress, append: Callable[[list[FeatureResult]], None]) -> None:
        """Score every unfinished feature. Raises Hopeless as soon as too many errors are certain."""
        askings = [method.evaluate(self._case(place, name)) for place, name in self._pending]
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
                raise Hopeless(_hopeless(result, errors, len(self._all()), self._config.runtime.fail_on_error))

        def tick() -> None:
            said = [f"{errors} errors", resolver.note()]
            progress.update(ended, len(askings), ", ".join(filter(None, said)))

        resolver.resolve(askings, done, tick)

    def _case(self, place: int, name: str) -> Case:
        partner = self._partners[place]
        stranger = None if partner is None else self._explained[partner, name].outcome
        return Case(self._features[place], name, self._explained[place, name], stranger, self._method.scorers_for(name))

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


def totals(results: Iterable[FeatureResult]) -> dict[str, Any]:
    """Counts by status, and the usage of all answers."""
    counts = {"ok": 0, "undefined": 0, "error": 0}
    usage = Usage()
    for result in results:
        counts[result.status] += 1
        usage += Usage(**result.usage)  # type: ignore[arg-type]  # as it was written by vars()
    return counts | vars(usage)
