"""The texts that judging scorers show: label-checked active and silent records, marks, and their seeded order."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autointerp.prompting import render
from autointerp.records import ActivationRecord, FeatureId
from sae.common.files import sha256_of

ACTIVE_SOURCES = frozenset({"top", "quantile", "importance"})


@dataclass(frozen=True)
class Windows:
    """Places among the score records (or others): those verified active, those verified silent."""

    records: tuple[ActivationRecord, ...]
    active: tuple[int, ...]
    silent: tuple[int, ...]


def windows(records: tuple[ActivationRecord, ...]) -> Windows:
    """Labels come from the activations themselves, not from the sources. Random records are left to simulation: of
    many features they are nearly all silent, which would unbalance the classes."""
    active = [i for i, r in enumerate(records) if r.source in ACTIVE_SOURCES and max(r.activations, default=0.0) > 0]
    silent = [i for i, r in enumerate(records) if r.source == "inactive" and max(r.activations, default=0.0) <= 0]
    return Windows(records, tuple(active), tuple(silent))


def active_tokens(record: ActivationRecord) -> list[int]:
    """Positions where the feature is active."""
    return [place for place, value in enumerate(record.activations) if value > 0]


def marked_like(record: ActivationRecord, other: ActivationRecord) -> str:
    """A silent text marked at the positions where another one is active: neither number nor place of the marks tells
    them apart."""
    last = len(record.tokens) - 1
    return render.marked(record.tokens, [min(place, last) for place in active_tokens(other)])


def lenders(shown: Windows) -> list[ActivationRecord]:
    """For each silent text the active one it is marked like."""
    return [shown.records[shown.active[i]] for i in spread(len(shown.silent), len(shown.active))]


def spread(count: int, size: int) -> list[int]:
    """`count` places among `size`, evenly: the middles of as many equal parts."""
    return [(2 * number + 1) * size // (2 * count) for number in range(count)]


def generator(seed: int, stream: int, feature: FeatureId) -> np.random.Generator:
    """A feature's own random numbers: independent of which other features a run has, and of their order."""
    return np.random.default_rng([seed, stream, int(sha256_of([str(feature).encode()])[:15], 16)])


def chunks(places: Sequence[int], size: int) -> list[list[int]]:
    """In their order, `size` at a time."""
    return [list(places[start : start + size]) for start in range(0, len(places), size)]


def auroc(positive: Sequence[float], negative: Sequence[float]) -> float | None:
    """Probability that a positive ranks above a negative, ties half (the Mann-Whitney statistic); None if one is
    empty."""
    from scipy import stats

    if not positive or not negative:
        return None
    ranks = stats.rankdata([*positive, *negative])
    lowest = len(positive) * (len(positive) + 1) / 2
    return float((ranks[: len(positive)].sum() - lowest) / (len(positive) * len(negative)))
