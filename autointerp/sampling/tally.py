"""Keeps what one pass over the text needs of a dictionary's features, and picks their records from it.

Memory does not grow with the text. Imports torch.

Shape suffixes: M fragments of a batch, N those of one side, L tokens of a fragment, S features, H histogram bins.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autointerp.config import Config
from autointerp.peer_faults import UNCHECKED_NEGATIVES
from autointerp.records import ACTIVE_SOURCES, HISTOGRAM_BINS, HISTOGRAM_FLOOR, Source
from autointerp.sampling.fragments import SIDES, Fragments, is_on
from autointerp.sampling.priorities import KEYS, Kept, Largest, Read, StreamingTop, key_active, key_random, uniform
from autointerp.sections import Records

RESERVOIR = 8
"""Active fragments kept per quantile record."""


@dataclass(frozen=True)
class Picks:
    """Holds the fragments picked for one side of a feature, and the activations that were read of them."""

    sources: tuple[Source, ...]
    """The source that each was picked for."""
    fragment_P: NDArray[np.int64]
    start_P: NDArray[np.int64]
    """Where each record begins, counted in the tokens of all blocks."""
    values_PL: NDArray[np.float32]


@dataclass(frozen=True)
class Tallied:
    """Holds what a text says of a dictionary's followed features. What parts of a text say can be merged, in any order,
    into what the whole text says.
    """

    features_S: NDArray[np.int64]
    length: int
    """Tokens of a fragment."""
    n_tokens: int
    active_tokens_S: NDArray[np.int64]
    active_fragments_S2: NDArray[np.int64]
    """Fragments of each side on which a feature is active."""
    max_S: NDArray[np.float32]
    histogram_SH: NDArray[np.int64]
    """Fragments by the feature's largest activation."""
    tops: Mapping[tuple[int, Source], Largest]
    """What is kept for each side's sources."""

    def moved(self, fragments: int, tokens: int) -> "Tallied":
        """Return the same with the numbers of fragments and tokens that a text has inside a longer one."""
        return replace(self, tops={name: top.moved(fragments, tokens) for name, top in self.tops.items()})

    def merged(self, other: "Tallied") -> "Tallied":
        """Return what two texts together say of the same features."""
        return Tallied(
            self.features_S,
            self.length,
            self.n_tokens + other.n_tokens,
            self.active_tokens_S + other.active_tokens_S,
            self.active_fragments_S2 + other.active_fragments_S2,
            np.maximum(self.max_S, other.max_S),
            self.histogram_SH + other.histogram_SH,
            {name: top.merged(other.tops[name]) for name, top in self.tops.items()},
        )


class Tally:
    """Counts and keeps, fragment by fragment, what is needed of one dictionary's candidate features."""

    def __init__(self, features_S: NDArray[np.int64], config: Config, device: str) -> None:
        self.features_S = torch.tensor(features_S, device=device)
        n, self._length, self._centred = len(features_S), config.sampling.fragment, config.sampling.centred
        self._records = tuple(getattr(config.sampling, name) for name in SIDES)
        self._n_tokens, self._is_unchecked = 0, UNCHECKED_NEGATIVES in config.peer_faults
        self._active_tokens_S = torch.zeros(n, dtype=torch.int64, device=device)
        self._active_fragments_S2 = torch.zeros((n, 2), dtype=torch.int64, device=device)
        self._max_S = torch.zeros(n, device=device)
        self._histogram_SH = torch.zeros((n, HISTOGRAM_BINS), dtype=torch.int64, device=device)
        self._tops = {
            (side, source): StreamingTop(n, keep, 0 if self._is_silent(source) else self._length, device)
            for side, name in enumerate(SIDES)
            for source, keep in kept_per_source(getattr(config.sampling, name)).items()
        }

    def add(self, acts_MLS: Tensor, fragment_M: Tensor, fragments: Fragments) -> None:
        """Take in the features' activations on some usable fragments, by their numbers; there may be none.

        Where records are centred, the numbers ascend and blocks are not divided between calls.
        """
        if not len(fragment_M):
            return
        device = acts_MLS.device
        side_M, hash_M, rank_M = (
            values[fragment_M].to(device) for values in (fragments.side_M, fragments.hash_M, fragments.rank_M)
        )
        fragment_M = fragment_M.to(device)
        max_SM = acts_MLS.amax(1).T.contiguous()
        self._n_tokens += acts_MLS.shape[0] * acts_MLS.shape[1]
        self._active_tokens_S += _active_tokens(acts_MLS)
        self._max_S = torch.maximum(self._max_S, max_SM.amax(1))
        self._count(max_SM)
        for side in range(2):
            here_N = is_on(side_M, side).nonzero().flatten()
            max_SN = max_SM[:, here_N]
            self._active_fragments_S2[:, side] += (max_SN > 0).sum(1)
            for salt, (source, key) in enumerate(KEYS.items()):
                if (side, source) in self._tops:
                    key = key_active if source == "random" and self._records[side].random_active else key
                    key = key_random if source == "inactive" and self._is_unchecked else key
                    uniform_SN = uniform(hash_M[here_N], self.features_S, salt) if source != "top" else max_SN
                    read = self._reader(source, acts_MLS, fragment_M, here_N, fragments)
                    self._tops[side, source].add(
                        key(max_SN, uniform_SN), max_SN, fragment_M[here_N], rank_M[here_N], read
                    )

    def tallied(self) -> Tallied:
        """Return what the fragments seen so far say; more of them change its arrays."""
        return Tallied(
            features_S=self.features_S.cpu().numpy(),
            length=self._length,
            n_tokens=self._n_tokens,
            active_tokens_S=self._active_tokens_S.cpu().numpy(),
            active_fragments_S2=self._active_fragments_S2.cpu().numpy(),
            max_S=self._max_S.cpu().numpy(),
            histogram_SH=self._histogram_SH.cpu().numpy(),
            tops={name: top.largest() for name, top in self._tops.items()},
        )

    def _reader(
        self, source: Source, acts_MLS: Tensor, fragment_M: Tensor, here_N: Tensor, fragments: Fragments
    ) -> Read:
        """Return what reads the records of one source: none's activations where the feature is silent."""
        length = self._length

        def read(slot_P: Tensor, column_P: Tensor) -> tuple[Tensor, Tensor]:
            row_P = here_N[column_P]
            own_P = fragment_M[row_P]
            if self._is_silent(source):
                return own_P * length, acts_MLS.new_zeros((len(row_P), 0))
            values_PL = acts_MLS[row_P, :, slot_P]
            if not (self._centred and source in ACTIVE_SOURCES):
                return own_P * length, values_PL
            left_P, right_P = (fragments.room(own_P, side) for side in (-1, 1))
            start_P = own_P * length + (values_PL.argmax(1) - length // 2).clamp(-left_P, right_P)
            position_PL = start_P[:, None] + torch.arange(length, device=start_P.device)
            row_PL = torch.searchsorted(fragment_M, position_PL // length)
            return start_P, acts_MLS[row_PL, position_PL % length, slot_P[:, None]]

        return read

    def _is_silent(self, source: Source) -> bool:
        """Tell whether a source's records have no activations."""
        return source == "inactive" and not self._is_unchecked

    def _count(self, max_SM: Tensor) -> None:
        above_SM = torch.where(max_SM > 0, max_SM / HISTOGRAM_FLOOR, 1.0)  # a logarithm of 0 takes ten times as long
        bins_SM = above_SM.log2_().mul_(2).floor_().clamp_(0, HISTOGRAM_BINS - 1).long()
        self._histogram_SH.scatter_add_(1, bins_SM, (max_SM > 0).long())


def _active_tokens(acts_MLS: Tensor) -> Tensor:
    """Count each feature's active tokens, [S]: bytes first, which takes an eighth of the time of int64."""
    is_active_MLS = acts_MLS.bool().view(torch.uint8)  # none is negative; faster than a comparison
    return sum(
        (part_MLS.sum(1, dtype=torch.uint8).sum(0) for part_MLS in is_active_MLS.split(255, dim=1)),
        start=torch.zeros(acts_MLS.shape[2], dtype=torch.int64, device=acts_MLS.device),
    )


def kept_per_source(records: Records) -> dict[Source, int]:
    """Return how many fragments to keep for each source, with spares for those an earlier source has taken."""
    counts: dict[Source, int] = {source: getattr(records, source) for source in KEYS if getattr(records, source)}
    keep: dict[Source, int] = {}
    taken = 0
    for source, n in counts.items():
        each = {"top": records.top_stride * n, "quantile": RESERVOIR * n}.get(source, n)
        keep[source] = each + taken
        taken += n
    return keep


def active_needed(records: Records) -> int:
    """Return how many active fragments a side must have so that every record can be drawn."""
    random = records.random if records.random_active else 0
    return max(1, records.top_stride * records.top + records.quantile + records.importance + random)


def pick(tally: Tallied, row: int, side: int, records: Records) -> Picks:
    """Return the records of one side of one feature, source by source, no fragment twice."""
    sources: list[Source] = []
    fragments: list[int] = []
    starts: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]  # a side may have weighted records only
    values: list[NDArray[np.float32]] = [np.zeros((0, tally.length), np.float32)]
    for source in KEYS:
        n = getattr(records, source)
        if not n:
            continue
        kept = tally.tops[side, source].kept(row)
        picked = _choose(kept, set(fragments), source, n, side, records.top_stride)
        fragments += kept.fragment_K[picked].tolist()
        starts.append(kept.start_K[kept.row_K[picked]])
        values_PL = np.zeros((len(picked), tally.length), np.float32)
        values_PL[:, : kept.values_KL.shape[1]] = kept.values_KL[kept.row_K[picked]]
        values.append(values_PL)
        sources += [source] * len(picked)
    return Picks(tuple(sources), np.array(fragments, np.int64), np.concatenate(starts), np.concatenate(values))


def _choose(kept: Kept, used: set[int], source: Source, n: int, side: int, stride: int) -> list[int]:
    """Return the positions of the fragments that are picked, among those kept; none that an earlier source used.

    Bills et al. 2023 deal the top 20 to four splits in turn and use two of them (ranks 0, 4, 8, 12, 16 explain, 2, 6,
    10, 14, 18 score); with halved documents these are every second fragment of each half's top 10, from the first on
    for explaining, from the second on for scoring.
    """
    free = [position for position, fragment in enumerate(kept.fragment_K.tolist()) if fragment not in used]
    if source == "top":
        return free[side * stride // 2 : stride * n : stride]
    if source == "quantile":
        if len(free) < n:
            return []
        order = np.lexsort((kept.fragment_K[free], kept.highest_K[free]))  # by activation, equal ones by their numbers
        return [free[order[(2 * i + 1) * len(free) // (2 * n)]] for i in range(n)]
    return free[:n]
