"""Runs the method: samples, explains and scores, saving feature by feature; resumes; stops when too much fails.

Needs no torch: sampling and the language models are imported only where they are used.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from autointerp.config import Config
from autointerp.llm.types import Usage
from autointerp.records import FeatureRecord, FeatureResult, Status
from autointerp.reporting import leaderboard
from autointerp.runs.plan import Plan, make_plan
from autointerp.runs.work import Offline, Resolver, Work
from autointerp.sampling import sample
from autointerp.store import RunFolder
from sae.common.errors import UserError
from sae.common.files import alone
from sae.common.progress import Report
from sae.common.settings import cache_folder

if TYPE_CHECKING:
    from autointerp.runs.savings import Estimate


def run(config: Config, report: Report) -> RunFolder:
    """Run an experiment, or continue it where it stopped; a finished one is only opened.

    Raises UserError for the user's mistakes, before anything is written where that can be known, if another process
    works on the same run folder, if the budget is reached, and if too many results are errors.
    """
    plan = make_plan(config)
    folder = folder_of(plan)
    with alone(folder.path, cache_folder("autointerp") / "locks"):
        known = folder.find(plan.identity)
        if not known or known["status"] != "complete":
            with open_models(plan) as resolver:
                features = records_of(folder, plan, report)
                results = score(folder, features, plan, resolver, report)
            leaderboard.write(folder, results, plan.method.chances)
            folder.update(status="complete", totals=totals(results))
    return folder


def estimate(config: Config, report: Report) -> Estimate:
    """Count what a run would still ask of language models, by stage, without a call, from its real prompts.

    Records are drawn if they are not there yet, and kept: the run itself continues from them.
    """
    from autointerp.llm.estimate import Estimator
    from autointerp.runs.savings import Estimate, savings, without_populations

    plan = make_plan(config)
    folder = folder_of(plan)
    with alone(folder.path, cache_folder("autointerp") / "locks"):
        folder.find(plan.identity)
        features = records_of(folder, plan, report)
        estimator = Estimator(config.runtime, cache_folder("autointerp"))
        work = Work(without_populations(features), plan.config, plan.method, without_errors(folder))
        with report("rendering prompts") as progress:
            work.explain(estimator, progress)
            work.evaluate(estimator, progress, lambda results: None)
    saved = savings(plan.config, features) if any(stage.calls for stage in estimator.stages) else []
    return Estimate(estimator.stages, estimator.prices, len(features), saved)


def open_models(plan: Plan) -> AbstractContextManager[Resolver]:
    """Open the language models of a run; missing keys and unknown prices are refused here, before anything slow."""
    if not plan.method.models:
        return nullcontext(Offline())
    from autointerp.llm.resolver import LiveResolver

    return LiveResolver(plan.method.models, plan.config.runtime, cache_folder("autointerp"))


def folder_of(plan: Plan) -> RunFolder:
    """Return the run's folder: the one the user names, else runs/NAME-IDENTITY here."""
    return RunFolder(Path(plan.config.runtime.out or f"runs/{plan.config.name}-{plan.identity[:8]}"))


def records_of(folder: RunFolder, plan: Plan, report: Report) -> Sequence[FeatureRecord]:
    """Read the records, or draw them; the run folder is made only once they exist."""
    if folder.is_sampled:
        features = folder.read_features()
        if plan.config.sampling.population and any(feature.population is None for feature in features):
            raise UserError(f"{folder.path} lacks its population; the same command with another --out starts over")
        return features
    drawn = sample(plan, cache_folder("autointerp"), report)
    dictionaries = [asdict(summary) for summary in drawn.dictionaries]
    folder.begin(plan.about | {"sampling": drawn.facts, "dictionaries": dictionaries})
    folder.write_features(drawn.features)
    return drawn.features


def score(
    folder: RunFolder,
    features: Sequence[FeatureRecord],
    plan: Plan,
    resolver: Resolver,
    report: Report,
) -> list[FeatureResult]:
    """Evaluate what is not finished yet, each result on disk as it ends; return all, in their order on disk.

    Results that hold an error are computed again, which is what a user who resumes after an outage expects.
    """
    folder.recover()
    finished = without_errors(folder)
    if len(finished) < sum(1 for _ in folder.results()):
        folder.write_results(finished)
    work = Work(features, plan.config, plan.method, finished)
    with report("explaining") as progress:
        work.explain(resolver, progress)
    with report("scoring") as progress:
        work.evaluate(resolver, progress, folder.append)
    if not work.is_ordered:
        folder.write_results(work.results())
    return work.results()


def without_errors(folder: RunFolder) -> list[FeatureResult]:
    """Return the results that hold no error."""
    return [
        result
        for result in folder.results()
        if not result.errors and not any(control.errors for control in result.controls.values())
    ]


def totals(results: Iterable[FeatureResult]) -> dict[str, Any]:
    """Count results by status, and sum the usage of all LLM calls behind them."""
    counts = dict.fromkeys(get_args(Status), 0)
    usage = Usage()
    for result in results:
        counts[result.status] += 1
        usage += Usage(**result.usage)  # type: ignore[arg-type]  # as it was written by vars()
    return counts | vars(usage)
