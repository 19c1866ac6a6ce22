"""Scores all sampled features by rules, offline, so that language models need to judge fewer (`--until-resolved`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from autointerp import config as configs
from autointerp.config import Config
from autointerp.evaluate import Method
from autointerp.records import FeatureId, FeatureRecord, FeatureResult
from autointerp.runs.dependence import Influences
from autointerp.runs.offline import Offline
from autointerp.runs.work import Work
from sae.common.progress import Report

RULES = "rules-5"
"""The explainer that stands in for one that rules cannot read."""
READABLE = ("rules", "token-table")
"""Explainers that rules can read, by the beginnings of their names."""


@dataclass(frozen=True, eq=False)
class FreeScores:
    """Holds what rules made of all sampled features."""

    score: str
    """The main score of the rules."""
    results: Mapping[str, Sequence[FeatureResult]]
    """By dictionary."""
    influences: Mapping[tuple[FeatureId, str], Influences]
    """The documents' influences on the scores."""


def by_rules(config: Config, explainer: str | None = None) -> Config:
    """Return the config with rules instead of language models, and the main scorer alone if they can answer it.

    Args:
        explainer: the rules' explainer; None: the run's own if rules can read it, else RULES.
    """
    own = config.explainers[0]
    explainer = explainer or (own if own.startswith(READABLE) else RULES)
    changes = {"explainers": [explainer], "simulator": "rules", "judge": None}
    changed = configs.build(config.model_dump(), changes | {"scorers": list(config.scorers[:1])}, "config")
    if not Method.of(changed).models:
        return changed
    return configs.build(changed.model_dump(), {"scorers": ["simulation"]}, "config")


def free_scores(config: Config, features: Sequence[FeatureRecord], report: Report) -> FreeScores:
    """Explain and score every feature by rules; all with controls, where the run has any.

    Args:
        config: by rules.
    """
    config, method = config.model_copy(update={"controls": float(config.controls > 0)}), Method.of(config)
    work = Work(features, config, method, ())
    with report("explaining by rules") as progress:
        work.explain(Offline(), progress)
    with report("scoring by rules") as progress:
        work.evaluate(Offline(), progress, lambda results: None)
    results: dict[str, list[FeatureResult]] = {}
    for result in work.results():
        results.setdefault(result.feature.dictionary, []).append(result)
    return FreeScores(next(iter(method.chances)), results, work.influences)
