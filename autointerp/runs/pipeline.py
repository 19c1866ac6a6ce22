"""Runs the method: samples, explains and scores, saving feature by feature; resumes; stops when too much fails.

Needs no torch: sampling and the language models are imported only where they are used.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autointerp import evaluate
from autointerp.config import Config
from autointerp.evaluate import Method
from autointerp.llm.types import Usage
from autointerp.records import FeatureRecord, FeatureResult
from autointerp.reporting import leaderboard
from autointerp.runs import identity
from autointerp.sampling import inputs, sample
from autointerp.store import RunFolder
from sae.common.files import alone
from sae.common.progress import Report
from sae.common.settings import cache_folder

if TYPE_CHECKING:
    from autointerp.llm.estimate import Estimator
from autointerp.runs.work import Offline, Resolver, Work


def run(config: Config, report: Report) -> RunFolder:
    """Run an experiment, or take it up where it stopped; a finished one is only opened.

    Raises UserError for the user's mistakes, before anything is written where that can be known, if another process
    is at work on the same run folder, if the budget is reached, and if too many results are errors.
    """
    chosen = Method.of(config)
    config = inputs.resolve(config)
    about = identity.describe(config, chosen)
    folder = folder_of(config, about)
    with alone(folder.path, cache_folder("autointerp") / "locks"):
        known = folder.find(about["identity"])
        if not known or known["status"] != "complete":
            with judges(config) as resolver:
                features = records_of(folder, config, about, report)
                results = score(folder, features, config, chosen, resolver, report)
            leaderboard.write(folder, results, chosen.chances)
            folder.update(status="complete", totals=totals(results))
    return folder


def estimate(config: Config, report: Report) -> Estimator:
    """What a run would still ask, by stage, without task: prompts are rendered from real records.

    Records are drawn if they are not there yet, and kept: the run itself goes on from them.
    """
    from autointerp.llm.estimate import Estimator

    chosen = Method.of(config)
    config = inputs.resolve(config)
    about = identity.describe(config, chosen)
    folder = folder_of(config, about)
    with alone(folder.path, cache_folder("autointerp") / "locks"):
        folder.find(about["identity"])
        features = records_of(folder, config, about, report)
        estimator = Estimator(config.runtime, cache_folder("autointerp"))
        work = Work(features, config, chosen, unharmed(folder))
        with report("rendering prompts") as progress:
            work.explain(estimator, progress)
            work.evaluate(estimator, progress, lambda results: None)
    return estimator


def judges(config: Config) -> AbstractContextManager[Resolver]:
    """Whom the config asks: keys and prices are checked here, before anything slow starts."""
    models = evaluate.models_of(config)
    if not models:
        return nullcontext(Offline())
    from autointerp.llm.resolver import LiveResolver

    return LiveResolver(models, config.runtime, cache_folder("autointerp"))


def folder_of(config: Config, about: dict[str, Any]) -> RunFolder:
    """Where a run lies."""
    return RunFolder(Path(config.runtime.out or f"runs/{config.name}-{about['identity'][:8]}"))


def records_of(folder: RunFolder, config: Config, about: dict[str, Any], report: Report) -> Sequence[FeatureRecord]:
    """Read the records, or draw them; the run folder is made only once they exist."""
    if folder.is_sampled:
        return folder.read_features()
    drawn = sample(config, about["inputs"], cache_folder("autointerp"), report)
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


def totals(results: Iterable[FeatureResult]) -> dict[str, Any]:
    """Counts by status, and the usage of all answers."""
    counts = {"ok": 0, "undefined": 0, "error": 0}
    usage = Usage()
    for result in results:
        counts[result.status] += 1
        usage += Usage(**result.usage)  # type: ignore[arg-type]  # as it was written by vars()
    return counts | vars(usage)
