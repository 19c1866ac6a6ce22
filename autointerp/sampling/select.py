"""Selects features and the fragments of their records, in one or two passes of the model, whatever share is rare.

The first pass follows twice as many candidates as are asked for, which is mostly enough. Of dictionaries so wide that
all the others could not be followed together, it also counts on how many fragments every feature is active: a second
pass then follows exactly those that are missing. Of the narrower ones, a second pass follows all the others.

Imports torch. Shape suffixes: F features of a dictionary, Q features in the order in which they are taken.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from autointerp.config import Config
from autointerp.peer_faults import SPLIT_LEAK
from autointerp.population import Population, PopulationText
from autointerp.records import ANY, entry_of
from autointerp.sampling.census import population
from autointerp.sampling.dictionaries import Measured
from autointerp.sampling.engines import Engine
from autointerp.sampling.follow import Followed, Pass
from autointerp.sampling.fragments import SIDES, Fragments, make_fragments
from autointerp.sampling.prepare import Prepared
from autointerp.sampling.shards import SampledText
from autointerp.sampling.tally import Picks, active_needed, pick
from sae.common.errors import UserError
from sae.common.progress import Report
from sae.common.seeds import torch_generator

OVERSAMPLE = 2
"""Candidates that the first pass follows, per feature that is to be sampled."""
FOLLOWED = 4096
"""Other features that may be followed together in the second pass; where there are more, all are counted first."""


@dataclass(frozen=True)
class SelectedFeature:
    """Holds a feature with its statistics over the whole pass, and the fragments selected for each side."""

    index: int
    density: float
    max_activation: float
    histogram: tuple[int, ...]
    explain: Picks
    score: Picks
    population: Population | None


@dataclass(frozen=True)
class SelectedDictionary:
    """Holds a dictionary's selected features, and how many candidates were passed over."""

    measured: Measured
    features: tuple[SelectedFeature, ...]
    n_candidates: int
    n_dead: int
    n_rare: int


@dataclass(frozen=True)
class Selection:
    fragments: Fragments
    dictionaries: tuple[SelectedDictionary, ...]
    population: PopulationText | None


def select(prepared: Prepared, config: Config, engine: Engine, report: Report) -> Selection:
    """Choose `sampling.features` live features of every dictionary and the fragments of their records.

    Features are taken in a seeded random order (or by their index) of all features, or of those that may be drawn; one
    that is active on too few fragments is counted and passed over. Raises UserError if the text gives no dictionary any
    feature, or a feature that may be drawn does not exist.

    Args:
        engine: runs the passes.
    """
    text = SampledText.of(prepared, make_fragments(prepared, config), config)
    queues = [_order(measured, config, len(prepared.dictionaries) == 1) for measured in prepared.dictionaries]
    at_once = OVERSAMPLE * config.sampling.features
    wide = frozenset(i for i, queue in enumerate(queues) if len(queue) - at_once > FOLLOWED)
    candidates = {i: queue[:at_once] for i, queue in enumerate(queues) if len(queue)}
    first = engine.follow(text, Pass(candidates, wide), config, report)
    missing = {i: _missing(queues[i], followed, config) for i, followed in first.items()}
    missing = {i: features_S for i, features_S in missing.items() if len(features_S)}
    second = engine.follow(text, Pass(missing), config, report) if missing else {}
    selected = [
        _selected(measured, queue, [passes[i] for passes in (first, second) if i in passes], text.population, config)
        for i, (measured, queue) in enumerate(zip(prepared.dictionaries, queues, strict=True))
    ]
    if not any(one.features for one in selected):
        raise UserError(
            f"the sampled text ({prepared.text.n_tokens:,} tokens) activates no feature often enough; "
            "give more text or ask for fewer records (sampling.explain, sampling.score)"
        )
    return Selection(text.fragments, tuple(selected), text.population)


def _order(measured: Measured, config: Config, is_only: bool) -> NDArray[np.int64]:
    dictionary, listed = measured.dictionary, dict(config.sampling.feature_ids)
    if dictionary.kind != "sae" and not is_only:
        listed.pop(ANY, None)
    generator = torch_generator(config.seed, "order of features", measured.key, *dictionary.reads)
    by_index = config.sampling.draw == "first"
    n_features = dictionary.n_features
    order_F = np.arange(n_features) if by_index else torch.randperm(n_features, generator=generator).numpy()
    allowed = entry_of(listed, dictionary.name)
    if allowed is not None:
        if max(allowed) >= n_features:
            raise UserError(f"{dictionary.name} has features 0 to {n_features - 1}, and no {max(allowed)}")
        order_F = order_F[np.isin(order_F, allowed)]
    return order_F[: config.sampling.features] if by_index else order_F


@dataclass(frozen=True)
class _Choice:
    """Holds the features that are taken from a queue, in its order, and how many were looked at and passed over."""

    features: list[int]
    n_candidates: int
    n_dead: int
    n_rare: int


def _choose(queue: NDArray[np.int64], passes: list[Followed], config: Config) -> _Choice:
    """Take features in the queue's order until there are enough, as far as the passes have counted them."""
    n_features = int(queue.max()) + 1 if len(queue) else 0
    active_F2 = np.full((n_features, 2), -1, np.int64)
    for one in passes:
        if one.active_fragments_F2 is not None:
            active_F2 = one.active_fragments_F2[:n_features].copy()
        active_F2[one.tally.features_S] = one.tally.active_fragments_S2
    active_Q2 = active_F2[queue]
    active_Q2 = active_Q2[active_Q2[:, 0] >= 0]  # the others stand behind these in the queue
    needs = np.array([active_needed(getattr(config.sampling, side)) for side in SIDES])
    is_dead_Q = active_Q2.sum(1) == 0
    total_Q = active_Q2.max(1, initial=0) if SPLIT_LEAK in config.peer_faults else active_Q2.sum(1)
    is_rare_Q = (active_Q2 < needs).any(1) | (total_Q < config.sampling.min_active)
    taken = np.flatnonzero(~is_rare_Q)[: config.sampling.features]
    n = int(taken[-1]) + 1 if len(taken) == config.sampling.features else len(active_Q2)
    n_dead = int(is_dead_Q[:n].sum())
    return _Choice(queue[taken].tolist(), n, n_dead, int(is_rare_Q[:n].sum()) - n_dead)


def _missing(queue: NDArray[np.int64], first: Followed, config: Config) -> NDArray[np.int64]:
    """Return the features that the second pass is to follow; none if the first has followed enough."""
    followed = first.tally.features_S
    features = _choose(queue, [first], config).features
    if first.active_fragments_F2 is None:
        return queue[len(followed) :] if len(features) < config.sampling.features else queue[:0]
    features_S = np.array(features, np.int64)
    return features_S[~np.isin(features_S, followed)]


def _selected(
    measured: Measured,
    queue: NDArray[np.int64],
    passes: list[Followed],
    text: PopulationText | None,
    config: Config,
) -> SelectedDictionary:
    choice = _choose(queue, passes, config)
    row_of = {index: (one, row) for one in passes for row, index in enumerate(one.tally.features_S.tolist())}
    features = tuple(_feature(*row_of[index], index, text, config) for index in sorted(choice.features))
    return SelectedDictionary(measured, features, choice.n_candidates, choice.n_dead, choice.n_rare)


def _feature(followed: Followed, row: int, index: int, text: PopulationText | None, config: Config) -> SelectedFeature:
    tally = followed.tally
    picks = [pick(tally, row, side, getattr(config.sampling, name)) for side, name in enumerate(SIDES)]
    return SelectedFeature(
        index=index,
        density=float(tally.active_tokens_S[row]) / tally.n_tokens,
        max_activation=float(tally.max_S[row]),
        histogram=tuple(tally.histogram_SH[row].tolist()),
        explain=picks[0],
        score=picks[1],
        population=population(text, followed.census, row) if text else None,
    )
