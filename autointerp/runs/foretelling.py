"""Foretells how many features a run in rounds (`--until-resolved`) scores, and what that costs.

No score is known before a model is asked, so rules explain and score the same features, which costs nothing, and the
rounds are gone through with their scores.
"""

from __future__ import annotations

from collections.abc import Sequence

from autointerp import config as configs
from autointerp.config import Config
from autointerp.evaluate import Method
from autointerp.llm import specs
from autointerp.llm.estimate import Estimator
from autointerp.records import FeatureRecord, FeatureResult
from autointerp.runs.offline import Offline
from autointerp.runs.requests import request_settings
from autointerp.runs.rounds import in_rounds
from autointerp.runs.savings import Expected, without_populations
from autointerp.runs.work import Work
from sae.common.progress import Report, Silent
from sae.common.settings import cache_folder

RULES = "rules-5"
"""The explainer that stands in for a language model."""


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
    indices = _expected_indices(_by_rules(config), features, report)
    work = Work(without_populations(features), config, method, finished)
    work.limit_to(indices)
    estimator = Estimator(config.runtime, cache_folder("autointerp"), request_settings(config))
    with report("rendering the prompts of the rounds") as progress:
        work.explain(estimator, progress)
        work.evaluate(estimator, progress)
    costs = [stage.usage.cost_usd for stage in estimator.stages]
    known = None if None in costs else sum(cost for cost in costs if cost is not None)
    return Expected(len(indices), sum(stage.calls for stage in estimator.stages), known)


def _by_rules(config: Config) -> Config:
    """Return the config with rules in the place of language models, and the main scorer alone if they can answer it."""
    explainer = config.explainers[0]
    changes = {"explainers": [RULES if specs.is_spec(explainer) else explainer], "simulator": "rules", "judge": None}
    changed = configs.build(config.model_dump(), changes | {"scorers": list(config.scorers[:1])}, "config")
    if not Method.of(changed).models:
        return changed
    return configs.build(changed.model_dump(), {"scorers": ["simulation"]}, "config")


def _expected_indices(config: Config, features: Sequence[FeatureRecord], report: Report) -> list[int]:
    """Go through the rounds with rules; return the indices of the features that they score."""
    method = Method.of(config)
    work = Work(features, config, method, ())
    with report("rounds by rules") as progress:
        for _ in in_rounds(config, method, work, features, Silent):
            work.explain(Offline(), progress)
            work.evaluate(Offline(), progress, lambda results: None)
    return work.indices
