"""Foretells what language models cost for a feature: real prompts, rendered for made-up records of a config's shape."""

from __future__ import annotations

import numpy as np

from autointerp.config import Config
from autointerp.evaluate import Method
from autointerp.llm.estimate import Estimator
from autointerp.population import Population, PopulationText
from autointerp.records import ActivationRecord, FeatureId, FeatureRecord, Source
from autointerp.runs.requests import request_settings
from autointerp.runs.savings import without_populations
from autointerp.runs.work import Work
from sae.common.progress import Silent
from sae.common.seeds import numpy_generator
from sae.common.settings import cache_folder

FEATURES = 6
"""Made-up features: enough for controls and intruders."""
WORDS = (
    "the", "of", "and", "to", "in", "model", "language", "feature", "active", "text", "value", "where", "first", "word",
    "number", "other",
)  # fmt: skip
"""Tokens of the made-up text, about as long as English ones."""
SOURCES: tuple[Source, ...] = ("top", "quantile", "importance", "random", "inactive", "hard", "weighted")
DENSITY = 0.05
"""Share of the tokens of records on which a made-up feature is active."""


def usd_per_feature(config: Config) -> float | None:
    """Return the USD of explaining and judging one feature, nothing cached; None if a model's price is not known."""
    method = Method.of(config)
    if not method.models:
        return 0.0
    estimator = Estimator(config.runtime, cache_folder("autointerp"), request_settings(config))
    work = Work(without_populations(_features(config)), config, method, [])
    with Silent("") as progress:
        work.explain(estimator, progress)
        work.evaluate(estimator, progress)
    costs = [stage.usage.cost_usd for stage in estimator.stages]
    return None if None in costs else sum(cost for cost in costs if cost is not None) / FEATURES


def _features(config: Config) -> list[FeatureRecord]:
    rng, length = numpy_generator(config.seed, "made-up records"), config.sampling.fragment
    ids_ML = rng.integers(len(WORDS), size=(4, length)).astype(np.int32)
    text = PopulationText(tuple(f" {word}" for word in WORDS), ids_ML, np.arange(4, dtype=np.int32))

    def records(side: str) -> tuple[ActivationRecord, ...]:
        counts = getattr(config.sampling, side)
        sources = [source for source in SOURCES for _ in range(getattr(counts, source, 0))]
        return tuple(record(source, number) for number, source in enumerate(sources))

    def record(source: Source, number: int) -> ActivationRecord:
        tokens = tuple(f" {WORDS[index]}" for index in rng.integers(len(WORDS), size=length))
        values = rng.random(length) * (rng.random(length) < DENSITY)
        values[0] = 1.0
        activations = np.zeros(length) if source in ("inactive", "hard") else values
        return ActivationRecord(tokens, tuple(activations.tolist()), number, source, 1.0)

    return [
        FeatureRecord(
            FeatureId("dictionary", index), records("explain"), records("score"), DENSITY, 1.0, (0,) * 64, 1.0, 0.5,
            tuple(f" {word}" for word in WORDS[:5]), tuple(f" {word}" for word in WORDS[5:10]),
            population=Population(text, np.zeros(1, np.int32), np.ones(1, np.float32)),
        )
        for index in range(FEATURES)
    ]  # fmt: skip
