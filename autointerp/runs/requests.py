"""Reads from a config how its models are asked: by which of them what is done, with what effort and further fields."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from autointerp import judges
from autointerp.config import Config, build
from autointerp.explainers.settings import ExplanationSettings
from autointerp.llm import specs
from autointerp.llm.efforts import Effort, Purpose, RequestSettings
from autointerp.llm.types import Question
from autointerp.llm.uses import Use, probe
from autointerp.runs.work import Resolver
from autointerp.scorers import SCORERS
from autointerp.scorers.embedding import EmbeddingSettings
from autointerp.simulators.settings import SimulationSettings
from sae.common.errors import UserError

log = logging.getLogger(__name__)
COUNTED_ON = frozenset({
    "model", "messages", "prompt", "stream", "n", "best_of", "max_tokens", "max_completion_tokens", "max_output_tokens",
})  # fmt: skip
"""Fields of a request's body that no config changes: the readers of answers count on them, or the budget."""


def request_settings(config: Config) -> RequestSettings:
    """Return what a config says about requests in general.

    Raises UserError for fields of a model without an API, and for those that the run itself sets.
    """
    for model, fields in config.extra_body.items():
        if specs.parse(model).is_free:
            raise UserError(f"{model} runs in this process and takes no extra_body; remove it there")
        if taken := sorted(COUNTED_ON & set(fields)):
            raise UserError(
                f"extra_body of {model}: leave {taken[0]} out, which the run sets, and by which it keeps its budget; "
                "lengths and numbers of answers have their own settings: autointerp config explanation"
            )
    varied: set[Purpose] = set()
    if config.section(ExplanationSettings).candidates > 1:
        varied.add("explaining")
    if config.section(SimulationSettings).samples > 1:
        varied.add("simulating")
    effort = config.effort
    by_purpose: dict[Purpose, Effort | None] = {
        "explaining": effort.explaining,
        "simulating": effort.simulating,
        "judging": effort.judging,
    }
    return RequestSettings(by_purpose, config.extra_body, frozenset(varied))


def models_by_purpose(config: Config) -> list[tuple[Purpose, str]]:
    """Return which model is asked for what, by specs, each pair once; parts that ask no model are left out."""
    needs = [SCORERS.get(name).needs for name in config.scorers]
    pairs: list[tuple[Purpose, str]] = [("explaining", explainer) for explainer in config.explainers]
    if any(need.simulator for need in needs) or config.section(ExplanationSettings).candidates > 1:
        pairs.append(("simulating", config.simulator))
    if any(need.judge for need in needs):
        pairs.append(("judging", judges.spec_of(config)))
    return [(purpose, name) for purpose, name in dict.fromkeys(pairs) if specs.is_spec(name)]


def embedder_of(config: Config) -> str | None:
    """Return the spec of the model that hard records are drawn by; None if they are not drawn by embedding."""
    return config.section(EmbeddingSettings).spec if config.sampling.score.embeds else None


def described(config: Config) -> dict[str, Any]:
    """Return what is added to the requests of each purpose and model, for run.json and the run's identity.

    Raises UserError for an effort that a model does not take.
    """
    settings = request_settings(config)
    return {f"{purpose} {model}": settings.described(model, purpose) for purpose, model in models_by_purpose(config)}


def uses_of(config: Config) -> list[Use]:
    """Return what the models of APIs are asked for; a model that is asked in one way for several purposes once."""
    settings, uses = request_settings(config), dict[Question, Use]()
    for purpose, model in models_by_purpose(config):
        if not specs.is_free(model):
            use = Use(model, purpose, _needs_logprobs(config, purpose, model), _needs_echo(config, purpose, model))
            plain = settings.prepared(probe(Use(model, purpose)))
            same = uses.get(plain, use)
            uses[plain] = replace(use, logprobs=use.logprobs or same.logprobs, echo=use.echo or same.echo)
    return list(uses.values())


def _needs_logprobs(config: Config, purpose: Purpose, model: str) -> bool:
    if purpose == "judging":
        return bool(_graded_scorers(config))
    method, spec = config.section(SimulationSettings).method, specs.parse(model)
    return purpose == "simulating" and (method == "logprobs" or (method == "auto" and spec.has_logprobs))


def _needs_echo(config: Config, purpose: Purpose, model: str) -> bool:
    return purpose == "simulating" and config.section(SimulationSettings).method == "all_at_once"


def _graded_scorers(config: Config) -> list[str]:
    """Return the run's scorers that read probabilities from log-probabilities."""
    return [name for name in config.scorers if getattr(getattr(config, name, None), "logprobs", False)]


def without_logprobs(config: Config, models: Collection[str]) -> Config:
    """Return a config that reads the answers of these models as text."""
    changes: dict[str, Any] = {}
    if config.simulator in models:
        changes["simulation.method"] = "text"
    if judges.spec_of(config) in models:
        changes |= {f"{name}.logprobs": False for name in _graded_scorers(config)}
    return build(config.model_dump(), changes, "config")


def refusing_logprobs(config: Config, resolver: Resolver) -> list[str]:
    """Ask each model of an API for one token; return those that refuse the log-probabilities that the run needs.

    Raises UserError if a model does not answer.
    """
    if not config.runtime.check:
        return []
    uses = uses_of(config)
    refusing = [use.model for use, has in zip(uses, resolver.check(uses), strict=True) if not has]
    for model in refusing:
        log.warning("autointerp: %s refuses log-probabilities; its answers are read as text in this run", model)
    return list(dict.fromkeys(refusing))
