"""The method: explain a feature, simulate held-out text from the explanation alone, correlate; and its control.

`evaluate` is the method on one screen; `run` adds the run folder, resuming and progress. Needs no torch: sampling is
behind its room's door.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from autointerp import explainers, identity, leaderboard, simulators, statistics
from autointerp.config import Config, cache_folder
from autointerp.explainers import Explainer
from autointerp.records import AnswerError, Explanation, FeatureRecord, FeatureResult, Simulation, Status
from autointerp.sampling import inputs, sample
from autointerp.scorers import simulation
from autointerp.simulators import Simulator
from autointerp.store import RunFolder
from sae.errors import UserError
from sae.files import sha256_of
from sae.progress import Report

CONTROL_STREAM = 201


def evaluate(
    feature: FeatureRecord, explanation: Explanation, strangers: Explanation | None, name: str, simulator: Simulator
) -> FeatureResult:
    """Score one feature's explanation on its score records, and a stranger's explanation as its control."""
    try:
        simulations = simulate(feature, explanation, simulator)
        control = simulation.score(feature.score, simulate(feature, strangers, simulator)) if strangers else {}
    except AnswerError as error:
        return FeatureResult(feature.feature, name, "error", explanation, (), {}, error=str(error))
    scores = simulation.score(feature.score, simulations)
    status: Status = "undefined" if scores[simulation.MAIN] is None else "ok"
    return FeatureResult(feature.feature, name, status, explanation, simulations, scores, control)


def simulate(feature: FeatureRecord, explanation: Explanation, simulator: Simulator) -> tuple[Simulation, ...]:
    """The simulator sees the explanation and the tokens of the score records, nothing else."""
    predicted = simulator.simulate(explanation, [record.tokens for record in feature.score])
    return tuple(Simulation(place, values) for place, values in enumerate(predicted))


def evaluate_all(
    features: Sequence[FeatureRecord], config: Config, finished: Callable[[FeatureRecord, str], bool]
) -> Iterator[list[FeatureResult]]:
    """The results of every feature that are not finished yet, a list per feature, in the features' order."""
    simulator = simulators.make(config.simulator)
    judges = [explainers.make(spec) for spec in config.explainers]
    partners = _partners(features, config.seed)
    explain = _memoised(features)
    for place, (feature, partner) in enumerate(zip(features, partners, strict=True)):
        yield [
            evaluate(
                feature,
                explain(place, judge),
                None if partner is None else explain(partner, judge),
                judge.name,
                simulator,
            )
            for judge in judges
            if not finished(feature, judge.name)
        ]


def _memoised(features: Sequence[FeatureRecord]) -> Callable[[int, Explainer], Explanation]:
    """Explain each feature once by each explainer, whether first needed for itself or as another's control."""
    known: dict[tuple[int, str], Explanation] = {}

    def explain(place: int, judge: Explainer) -> Explanation:
        if (place, judge.name) not in known:
            known[place, judge.name] = judge.explain(features[place].explain)
        return known[place, judge.name]

    return explain


def _partners(features: Sequence[FeatureRecord], seed: int) -> list[int | None]:
    """For each feature the place of another one of the same dictionary, whose explanation is its control."""
    partners: list[int | None] = [None] * len(features)
    for dictionary in dict.fromkeys(feature.feature.dictionary for feature in features):
        places = [i for i, feature in enumerate(features) if feature.feature.dictionary == dictionary]
        rng = np.random.default_rng([seed, CONTROL_STREAM])
        for place, partner in zip(places, statistics.derangement(len(places), rng), strict=True):
            partners[place] = None if partner is None else places[partner]
    return partners


def run(config: Config, report: Report) -> RunFolder:
    """Run an experiment, or take it up where it stopped; a finished one is only opened.

    Raises UserError for the user's mistakes, before anything is written where that can be known, and if another process
    is at work on the same run folder.
    """
    _check_judges(config)
    config = inputs.resolve(config)
    about = identity.describe(config)
    folder = RunFolder(Path(config.runtime.out or f"runs/{config.name}-{about['identity'][:8]}"))
    with _alone(folder.path):
        known = folder.find(about["identity"])
        if not known or known["status"] != "complete":
            _finish(folder, config, about, report)
    return folder


def _finish(folder: RunFolder, config: Config, about: dict[str, Any], report: Report) -> None:
    """Do what the run folder still lacks."""
    features = folder.read_features() if folder.is_sampled else _sample(folder, config, about, report)
    results = _score(folder, features, config, report)
    leaderboard.write(folder, results)
    folder.update(status="complete", totals=_totals(results))


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the run folder's lock, which lies in the cache and ends with the process. UserError if it is taken."""
    import filelock

    place = cache_folder() / "locks" / f"{sha256_of([str(path.resolve()).encode()])[:16]}.lock"
    place.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(place)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise UserError(f"another process is working on {path}; wait for it or choose another --out") from error
    try:
        yield
    finally:
        lock.release()


def _sample(folder: RunFolder, config: Config, about: dict[str, Any], report: Report) -> Sequence[FeatureRecord]:
    """Draw the records; the run folder is made only once they exist."""
    drawn = sample(config, about["inputs"], cache_folder(), report)
    folder.begin(about | {"sampling": drawn.facts, "dictionaries": [asdict(d) for d in drawn.dictionaries]})
    folder.write_features(drawn.features)
    return drawn.features


def _score(folder: RunFolder, features: Sequence[FeatureRecord], config: Config, report: Report) -> list[FeatureResult]:
    """Evaluate what is not finished yet, on disk feature by feature; returns all results in their order on disk."""
    folder.recover()
    finished = list(folder.results())
    done = {(result.feature, result.explainer) for result in finished}
    failures = 0
    with report("explaining and scoring (features)") as progress:
        pending = evaluate_all(features, config, lambda feature, name: (feature.feature, name) in done)
        for count, results in enumerate(pending, start=1):
            if results:
                folder.append(results)
            finished += results
            failures += sum(result.status == "error" for result in results)
            progress.update(count, len(features), f"{failures} errors")
    return finished


def _check_judges(config: Config) -> None:
    """Refuse an unknown judge before anything slow starts."""
    simulators.make(config.simulator)
    for spec in config.explainers:
        explainers.make(spec)


def _totals(results: Iterable[FeatureResult]) -> dict[str, Any]:
    counts = {"ok": 0, "undefined": 0, "error": 0}
    usage: dict[str, float] = {"tokens_in": 0, "tokens_out": 0, "cost_usd": 0.0}
    for result in results:
        counts[result.status] += 1
        for name in usage:
            usage[name] += result.usage.get(name, 0)
    return counts | usage
