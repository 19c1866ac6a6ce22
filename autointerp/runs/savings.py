"""Holds a dry run's estimate, with what other settings would save: prompts rendered again for some of the features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from autointerp import config as configs
from autointerp.config import Config
from autointerp.evaluate import Method
from autointerp.llm import specs
from autointerp.llm.estimate import Estimator, Stage
from autointerp.llm.pricing import Prices
from autointerp.records import FeatureRecord
from autointerp.runs.requests import request_settings
from autointerp.runs.work import Work
from autointerp.simulators.settings import SimulationSettings
from sae.common.errors import UserError
from sae.common.progress import Silent
from sae.common.settings import cache_folder

FEATURES = 12
"""Features whose prompts are rendered for a comparison, evenly spread."""
MOST = 3
"""Changes that are named."""
CHEAPEST = {"anthropic": "anthropic/claude-haiku-5-5", "openai": "openai/gpt-6-luna"}
"""Each provider's cheapest model that is not about to be shut down, by `llm/prices.yaml` (2026-11-10)."""
NUMBERED: dict[str, Any] = {"method": "text", "format": "numbered", "fragments": None}
FEW_CONTROLS, MANY_TEXTS = 0.2, 20


@dataclass(frozen=True)
class Saving:
    """Holds the flags that change a run, and the share of its cost that they save."""

    flags: str
    share: float


@dataclass(frozen=True)
class Expected:
    """Holds what a run in rounds would ask if the scores were those that rules get."""

    features: int
    calls: int
    cost_usd: float | None
    """None if no price is known."""


@dataclass(frozen=True)
class Estimate:
    """Holds what a run would still ask of language models."""

    stages: Sequence[Stage]
    """Calls, tokens and cost by stage and model."""
    prices: Prices
    """What the costs were computed from."""
    features: int
    """The run's features."""
    savings: Sequence[Saving]
    """The changes that would save most."""
    expected: Expected | None = None
    """With --until-resolved: what is to be expected; the rest is then what it takes to score all features."""


def without_populations(features: Sequence[FeatureRecord]) -> list[FeatureRecord]:
    """Drop what no prompt depends on but takes long to score; the first feature keeps its text's words."""
    return [*features[:1], *(replace(feature, population=None) for feature in features[1:])]


def savings(config: Config, features: Sequence[FeatureRecord]) -> list[Saving]:
    """Return the changes that save most, at most MOST of them; none where no price is known.

    Args:
        config: resolved, with at least one language model.
    """
    some = without_populations(features[:: max(1, len(features) // FEATURES)])
    now = _cost(config, some)
    if not now:
        return []
    cheaper = []
    for flags, changes in _changes(config):
        cost = _cost(configs.build(config.model_dump(), changes, flags), some)
        if cost is not None and cost < now:
            cheaper.append(Saving(flags, 1 - cost / now))
    return sorted(cheaper, key=lambda saving: -saving.share)[:MOST]


def _changes(config: Config) -> Iterator[tuple[str, dict[str, Any]]]:
    """List what a run may change, by its flags."""
    models = [model for model in Method.of(config).models if specs.is_spec(model)]
    if not config.runtime.batch and any(specs.parse(model).has_batches for model in models):
        yield "--batch", {"runtime.batch": True}
    if config.controls > FEW_CONTROLS:
        yield f"--set controls={FEW_CONTROLS}", {"controls": FEW_CONTROLS}
    now = config.section(SimulationSettings)
    numbered = {name: value for name, value in NUMBERED.items() if getattr(now, name) != value}
    if numbered and specs.is_spec(config.simulator):
        changes = {f"simulation.{name}": value for name, value in numbered.items()}
        yield " ".join(f"--set {name}={'null' if value is None else value}" for name, value in changes.items()), changes
    texts = {f"{name}.texts": MANY_TEXTS for name in ("detection", "fuzzing") if name in config.scorers}
    if texts:
        yield " ".join(f"--set {name}={value}" for name, value in texts.items()), texts
    roles = {"explainer": config.explainers[0], "simulator": config.simulator}
    roles |= {"judge": config.judge} if config.judge else {}
    cheaper = {role: _cheapest(spec) for role, spec in roles.items() if _cheapest(spec) not in (None, spec)}
    if cheaper:
        fields: dict[str, Any] = {role: spec for role, spec in cheaper.items() if role != "explainer"}
        fields |= {"explainers": [cheaper["explainer"]]} if "explainer" in cheaper else {}
        yield " ".join(f"--{role} {spec}" for role, spec in cheaper.items()), fields


def _cheapest(spec: str) -> str | None:
    """Return the cheapest model of a language model's provider; None if it is none, or has no known provider."""
    return CHEAPEST.get(specs.parse(spec).provider) if specs.is_spec(spec) else None


def _cost(config: Config, features: Sequence[FeatureRecord]) -> float | None:
    """Estimate the USD of judging some features; None if a price is not known, or the settings do not go together."""
    try:
        work = Work(features, config, Method.of(config), [])
    except UserError:
        return None
    estimator = Estimator(config.runtime, cache_folder("autointerp"), request_settings(config))
    with Silent("") as progress:
        work.explain(estimator, progress)
        work.evaluate(estimator, progress)
    costs = [stage.usage.cost_usd for stage in estimator.stages]
    return None if None in costs else sum(cost for cost in costs if cost is not None)
