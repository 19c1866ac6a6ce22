"""Runs the method: samples, explains and scores, saving feature by feature; resumes; stops when too much fails.

Needs no torch: sampling and the language models are imported only where they are used.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, get_args

from autointerp.config import Config
from autointerp.llm.types import Usage
from autointerp.records import FeatureRecord, FeatureResult, Status
from autointerp.reporting import leaderboard
from autointerp.runs.dependence import dependence_of
from autointerp.runs.log import logged
from autointerp.runs.offline import Offline
from autointerp.runs.on_ray import OnRay
from autointerp.runs.opening import repair
from autointerp.runs.plan import READ_AS_TEXT, Plan, make_plan
from autointerp.runs.records import records_of
from autointerp.runs.requests import refusing_logprobs, request_settings, uses_of
from autointerp.runs.rounds import Rounds, in_rounds, judged_pool, rounds_of
from autointerp.runs.work import Resolver, Work
from autointerp.store import SITE, RunFolder
from sae.common.files import alone
from sae.common.progress import Report
from sae.common.resources import path_of
from sae.common.settings import cache_folder

if TYPE_CHECKING:
    from autointerp.llm.budget import Budget
    from autointerp.llm.preflight import Abilities
    from autointerp.runs.savings import Estimate


def run(config: Config, report: Report, budget: Budget | None = None) -> RunFolder:
    """Run an experiment, or continue it where it stopped; a finished one is only opened.

    Args:
        budget: money that several runs share; None: `runtime.max_cost` is for this one.

    Raises UserError for the user's mistakes, before anything is written where that can be known, if another process
    works on the same run folder, if the budget is reached, and if too many results are errors.
    """
    plan = make_plan(config)
    folder = folder_of(plan)
    known = folder.find(plan.identity)
    if known and known["status"] == "complete":
        repair(folder)
        return folder
    with alone(folder.path), logged(folder.path, plan.identity, bool(plan.method.models)):
        known = folder.find(plan.identity)
        if not known or known["status"] != "complete":
            plan = plan.reading_text((known or {}).get(READ_AS_TEXT, ()))
            with open_models(plan, budget) as resolver:
                plan = plan.reading_text([*plan.read_as_text, *refusing_logprobs(plan.config, resolver)])
                features = records_of(folder, plan, report)
                if plan.read_as_text:
                    folder.update(**plan.about)
                rounds = rounds_of(plan.config, plan.method, features, report)
                work = score(folder, features, plan, resolver, report, rounds)
            results = work.results()
            dependence = dependence_of(plan.method, features, results, work.influences)
            resolved = rounds.resolved(results, dependence) if rounds else None
            leaderboard.write(folder, results, plan.method.chances, dependence, config.runtime.pictures, resolved)
            folder.seal(status="complete", totals=totals(results))
            if config.runtime.site:
                _write_site(folder, features, results, report)
    return folder


def _write_site(
    folder: RunFolder, features: Sequence[FeatureRecord], results: Sequence[FeatureResult], report: Report
) -> None:
    from autointerp.reporting.site import runs, write  # jinja2 is needed for pages only

    with report("writing the pages") as progress:
        write.write_runs([runs.site_run(folder, folder.path.resolve().name, features, results)], folder.path / SITE)
        progress.update(1, 1)


def estimate(config: Config, report: Report) -> Estimate:
    """Count what a run would still ask of language models, by stage, without a call, from its real prompts.

    Records are drawn if they are not there yet, and kept: the run itself continues from them.
    """
    from autointerp.llm.estimate import Estimator
    from autointerp.runs.foretelling import foretold
    from autointerp.runs.savings import Estimate, savings, without_populations

    plan = make_plan(config)
    folder = folder_of(plan)
    with alone(folder.path):
        folder.find(plan.identity)
        features = records_of(folder, plan, report)
        estimator = Estimator(config.runtime, cache_folder("autointerp"), request_settings(config))
        judged = judged_pool(plan.config, features)
        work = Work(without_populations(judged), plan.config, plan.method, without_errors(folder))
        with report("rendering prompts") as progress:
            work.explain(estimator, progress)
            work.evaluate(estimator, progress)
        expected = foretold(plan.config, plan.method, features, without_errors(folder), report)
    saved = savings(plan.config, judged) if any(stage.calls for stage in estimator.stages) else []
    return Estimate(estimator.stages, estimator.prices, len(judged), saved, expected)


def abilities(config: Config) -> list[Abilities]:
    """Find out what the models of a config's APIs can do, by a few requests of one token to each.

    Raises UserError if one does not answer.
    """
    from autointerp.llm.resolver import LiveResolver

    models = list(dict.fromkeys(use.model for use in uses_of(config)))
    with LiveResolver(models, config.runtime, cache_folder("autointerp"), request_settings(config)) as resolver:
        return resolver.abilities(models)


def open_models(plan: Plan, budget: Budget | None = None) -> AbstractContextManager[Resolver]:
    """Open the language models of a run; missing keys and unknown prices are refused here, before anything slow."""
    if not plan.method.models:
        runtime = plan.config.runtime
        return OnRay(runtime.ray_address) if runtime.engine == "ray" else nullcontext(Offline())
    from autointerp.llm.resolver import LiveResolver

    settings = request_settings(plan.config)
    return LiveResolver(plan.method.models, plan.config.runtime, cache_folder("autointerp"), settings, budget)


def folder_of(plan: Plan) -> RunFolder:
    """Return the run's folder: the one the user names, else runs/NAME-IDENTITY here."""
    return RunFolder(path_of(plan.config.runtime.out or f"runs/{plan.config.name}-{plan.identity[:8]}"))


def score(
    folder: RunFolder,
    features: Sequence[FeatureRecord],
    plan: Plan,
    resolver: Resolver,
    report: Report,
    rounds: Rounds | None,
) -> Work:
    """Evaluate what is not finished yet, each result on disk as it ends, and all in their order at the end.

    Results that hold an error are computed again, which is what a user who resumes after an outage expects.

    Args:
        rounds: decides which features are scored; None: all.
    """
    folder.recover()
    finished = without_errors(folder)
    if len(finished) < sum(1 for _ in folder.results()):
        folder.write_results(finished)
    work = Work(judged_pool(plan.config, features), plan.config, plan.method, finished)
    for label in in_rounds(rounds, work, report):
        with report(f"explaining{label}") as progress:
            work.explain(resolver, progress)
        with report(f"scoring{label}") as progress:
            work.evaluate(resolver, progress, folder.append)
    if not work.is_ordered:
        folder.write_results(work.results())
    return work


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
