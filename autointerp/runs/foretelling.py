"""Foretells how many features a run in rounds (`--until-resolved`) scores, and what that costs.

No score is known before a model is asked, so rules explain and score the same features in its place, and the rounds are
gone through with their scores. The free scores that help to judge fewer features are then those of single rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from autointerp.config import Config
from autointerp.evaluate import Method
from autointerp.llm.estimate import Estimator
from autointerp.records import FeatureRecord, FeatureResult
from autointerp.runs.free_scores import by_rules, free_scores
from autointerp.runs.offline import Offline
from autointerp.runs.requests import request_settings
from autointerp.runs.rounds import Rounds, in_rounds, judged_pool
from autointerp.runs.savings import Expected, without_populations
from autointerp.runs.work import Work
from sae.common.progress import Report, Silent
from sae.common.settings import cache_folder

FREE = "rules-1"
"""The explainer of a dry run's free scores: a single rule, because the rules that stand in for the model would agree
with themselves wholly."""


def foretold(
    config: Config,
    method: Method,
    features: Sequence[FeatureRecord],
    finished: Sequence[FeatureResult],
    report: Report,
) -> Expected | None:
    """Estimate what a run in rounds would still ask; None for a run that scores all features.

    Args:
        finished: the results that there are, which are not asked for again.
    """
    if not config.stopping.until_resolved:
        return None
    indices = _expected_indices(config, method, features, report)
    work = Work(without_populations(judged_pool(config, features)), config, method, finished)
    work.limit_to(indices)
    estimator = Estimator(config.runtime, cache_folder("autointerp"), request_settings(config))
    with report("rendering the prompts of the rounds") as progress:
        work.explain(estimator, progress)
        work.evaluate(estimator, progress)
    costs = [stage.usage.cost_usd for stage in estimator.stages]
    known = None if None in costs else sum(cost for cost in costs if cost is not None)
    return Expected(len(indices), sum(stage.calls for stage in estimator.stages), known)


def _expected_indices(config: Config, method: Method, features: Sequence[FeatureRecord], report: Report) -> list[int]:
    """Go through the rounds with rules; return the indices of the features that they score, in the judged pool."""
    rules = by_rules(config)
    free = partial(free_scores, by_rules(config, FREE), features, Silent) if method.models else None
    rules_method = Method.of(rules)
    rounds = Rounds(rules, rules_method, features, free)
    work = Work(judged_pool(config, features), rules, rules_method, ())
    with report("rounds by rules") as progress:
        for _ in in_rounds(rounds, work, Silent):
            work.explain(Offline(), progress)
            work.evaluate(Offline(), progress, lambda results: None)
    return work.indices
