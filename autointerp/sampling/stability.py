"""Finds the dictionaries of a run, or of several, that differ in their seed, and measures how stable features are.

Imports torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from autointerp.records import Stability
from sae.common.progress import Report
from sae.dictionary import Dictionary
from sae.measuring import stability as measuring

OF_TRAINING = ("corpus", "steps", "batch")
"""What `sae train` records of a training beside the recipe, which dictionaries of several seeds have in common."""
Indices = Mapping[str, Sequence[int]]
"""The sampled features, by dictionary."""


def within(dictionaries: Sequence[Dictionary], sampled: Indices, report: Report) -> dict[str, Stability]:
    """Measure the stability of the dictionaries whose recipes differ in nothing but name and seed, by dictionary."""
    groups: dict[str, list[Dictionary]] = {}
    for one in dictionaries:
        recipe = one.metadata.get("recipe")
        if isinstance(recipe, Mapping) and "seed" in recipe and one.n_features <= measuring.MOST_FEATURES:
            groups.setdefault(_key(one, recipe), []).append(one)
    several = [group for group in groups.values() if len({one.metadata["recipe"]["seed"] for one in group}) > 1]
    return {name: value for group in several for name, value in _measured(group, sampled, report).items()}


def _key(dictionary: Dictionary, recipe: Mapping[str, Any]) -> str:
    """Write down what dictionaries of several seeds have in common."""
    common = {name: value for name, value in recipe.items() if name not in ("name", "seed")}
    training = {name: dictionary.metadata.get(name) for name in OF_TRAINING}
    shapes = [list(dictionary.W_enc_DF.shape), list(dictionary.W_dec_FD.shape)]
    return json.dumps([common, training, shapes, dictionary.reads, dictionary.writes, dictionary.model], sort_keys=True)


def _measured(group: Sequence[Dictionary], sampled: Indices, report: Report) -> dict[str, Stability]:
    return {
        one.name: _of_sampled(value, sampled[one.name], [other.name for other in group if other is not one])
        for one, value in zip(group, measuring.stability(group, report), strict=True)
    }


def over_runs(
    runs: Sequence[Sequence[Dictionary]], sampled: Sequence[Indices], report: Report
) -> list[dict[str, Stability]]:
    """Measure the stability of the dictionaries that runs of several seeds have in common, by run and dictionary.

    Args:
        runs: the dictionaries of each run, those of one recipe under one name.
        sampled: the features of each run.
    """
    made: list[dict[str, Stability]] = [{} for _ in runs]
    by_name = [{one.name: one for one in run} for run in runs]
    for name, first in by_name[0].items():
        group = [run.get(name) for run in by_name]
        same = [one for one in group if one is not None and one.W_dec_FD.shape == first.W_dec_FD.shape]
        if len(same) == len(runs) and first.n_features <= measuring.MOST_FEATURES:
            for number, value in enumerate(measuring.stability(same, report)):
                made[number][name] = _of_sampled(value, sampled[number][name], [name] * (len(runs) - 1))
    return made


def _of_sampled(value: measuring.Stability, features: Sequence[int], others: Sequence[str]) -> Stability:
    return Stability(
        others=tuple(others),
        pw_mcc=value.pw_mcc,
        mean=float(value.reappears_F.mean()),
        features={index: float(value.reappears_F[index]) for index in features},
        cosines={index: float(value.cosine_F[index]) for index in features},
    )
