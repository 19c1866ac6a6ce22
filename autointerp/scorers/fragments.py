"""Picks and marks the fragments that scorers show: verified active or silent, in an order of their own seed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from autointerp.prompting.render import strongly_active
from autointerp.records import ACTIVE_SOURCES, ActivationRecord, FeatureId
from sae.common.seeds import numpy_generator


@dataclass(frozen=True)
class MarkedText:
    """Holds all that a judge may see of a fragment: its tokens, and the positions of those that are marked."""

    tokens: tuple[str, ...]
    marked: tuple[int, ...] = ()


@dataclass(frozen=True)
class Labelled:
    """Holds a feature's records, with the indices of those verified active and of those verified silent."""

    records: Sequence[ActivationRecord]
    active: tuple[int, ...]
    silent: tuple[int, ...]


def labelled(records: Sequence[ActivationRecord], unchecked: bool = False) -> Labelled:
    """Label records as active or silent by their activations, not by their sources alone.

    Random records are left to simulation: of many features they are nearly all silent, which would unbalance the
    classes.

    Args:
        unchecked: believe the source of inactive records (the fault saebench-unchecked-negatives).
    """
    inactive = [i for i, r in enumerate(records) if r.source == "inactive"]
    active = [i for i, r in enumerate(records) if r.source in ACTIVE_SOURCES and max(r.activations, default=0.0) > 0]
    silent = [i for i in inactive if unchecked or max(records[i].activations, default=0.0) <= 0]
    return Labelled(records, tuple(active), tuple(silent))


def labelled_hard(records: Sequence[ActivationRecord]) -> Labelled:
    """Label the same active records, and as silent those on which a near feature is active instead."""
    hard = tuple(i for i, r in enumerate(records) if r.source == "hard" and max(r.activations, default=0.0) <= 0)
    return replace(labelled(records), silent=hard)


def labelled_weighted(records: Sequence[ActivationRecord]) -> Labelled:
    """Label the records that stand for the whole text, by their weights; each is active or silent."""
    weighted = [(i, max(r.activations, default=0.0) > 0) for i, r in enumerate(records) if r.source == "weighted"]
    active, silent = (tuple(i for i, is_active in weighted if is_active is side) for side in (True, False))
    return Labelled(records, active, silent)


def marked(record: ActivationRecord) -> MarkedText:
    """Mark the strongly active tokens of an active fragment, as explainers see them.

    Marks on all active tokens would cover most of a dense feature's text and a twentieth of a sparse one's.
    """
    return MarkedText(record.tokens, tuple(strongly_active(record)))


def marked_like(record: ActivationRecord, other: ActivationRecord) -> MarkedText:
    """Mark a silent fragment at the positions where another fragment is marked.

    So neither the number nor the position of the marks tells the two apart.
    """
    last = len(record.tokens) - 1
    return MarkedText(record.tokens, tuple(sorted({min(position, last) for position in strongly_active(other)})))


def marked_by_count(record: ActivationRecord, count: int) -> MarkedText:
    """Mark so many tokens: the one at three quarters, and others at positions that are the same in all texts as long.

    So delphi marks silent texts, and the marks' positions and number give them away (the fault delphi-fuzz-cue).
    """
    length = len(record.tokens)
    first = length - length // 4
    others = numpy_generator(0, "fixed marks", str(length)).permutation([p for p in range(length) if p != first])
    return MarkedText(record.tokens, tuple(sorted([min(first, length - 1), *others[: count - 1].tolist()])))


def marked_wrongly(record: ActivationRecord, seed: int) -> MarkedText:
    """Mark as many tokens of an active fragment as are strongly active, but others: at random among the silent ones.

    Where those are too few, the least active follow; a token that is strongly active is never marked. The choice
    depends on the seed and the text alone.
    """
    strong = set(strongly_active(record))
    random = numpy_generator(seed, "wrong marks", *record.tokens).random(len(record.tokens))
    others = [position for position in range(len(record.tokens)) if position not in strong]
    others.sort(key=lambda position: (max(record.activations[position], 0.0), random[position]))
    return MarkedText(record.tokens, tuple(sorted(others[: len(strong)])))


def marked_texts(shown: Labelled) -> dict[int, MarkedText]:
    """Mark the active fragments, then the silent ones; returns them by their index among the records."""
    texts = {index: marked(shown.records[index]) for index in shown.active}
    examples = [shown.active[i] for i in spread(len(shown.silent), len(shown.active))]
    pairs = zip(shown.silent, examples, strict=True)
    return texts | {index: marked_like(shown.records[index], shown.records[other]) for index, other in pairs}


def marked_with_cue(shown: Labelled) -> dict[int, MarkedText]:
    """Mark the active fragments as `marked_texts` does, and the silent ones as delphi: see `marked_by_count`.

    The count is the mean number of active tokens of an active fragment, rounded up.
    """
    counts = [sum(value > 0 for value in shown.records[index].activations) for index in shown.active]
    count = math.ceil(sum(counts) / len(counts))
    texts = {index: marked(shown.records[index]) for index in shown.active}
    return texts | {index: marked_by_count(shown.records[index], count) for index in shown.silent}


def spread(count: int, size: int) -> list[int]:
    """Return `count` indices below `size`, evenly spread: the middles of as many equal parts."""
    return [(2 * number + 1) * size // (2 * count) for number in range(count)]


def generator(seed: int, stream: str, feature: FeatureId) -> np.random.Generator:
    """Return a feature's own random numbers: independent of the run's other features and of their order."""
    return numpy_generator(seed, stream, str(feature))
