"""Keeps what one pass over the text needs of a dictionary's features, and picks their records from it.

Memory does not grow with the text. Imports torch.

Shape suffixes: M fragments of a batch, N those of one side, L tokens of a fragment, S features, H histogram bins.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from autointerp.config import Config, Records
from autointerp.records import HISTOGRAM_BINS, HISTOGRAM_FLOOR, Source
from autointerp.sampling.fragments import SIDES, Fragments
from autointerp.sampling.priorities import KEYS, StreamingTop, uniform

TOP_STRIDE = 2
"""Of each side's top 2n fragments every second is taken. Bills et al. 2023 deal the top 20 to four splits in turn and
use two of them (ranks 0, 4, 8, 12, 16 explain, 2, 6, 10, 14, 18 score); with halved documents these are every second
fragment of each half's top 10, from the first on for explaining, from the second on for scoring."""
RESERVOIR = 8
"""Active fragments kept per quantile record."""


@dataclass(frozen=True)
class Picked:
    """Names a selected fragment and the source it was selected for."""

    fragment: int
    source: Source


class Tally:
    """Keeps what one pass needs of one dictionary's candidate features."""

    def __init__(self, features_S: Tensor, config: Config, device: str) -> None:
        self.features_S = features_S.to(device)
        n = len(features_S)
        self.n_tokens = 0
        self.active_tokens_S = torch.zeros(n, dtype=torch.int64, device=device)
        self.active_fragments_S2 = torch.zeros((n, 2), dtype=torch.int64, device=device)
        self.max_S = torch.zeros(n, device=device)
        self.histogram_SH = torch.zeros((n, HISTOGRAM_BINS), dtype=torch.int64, device=device)
        self.tops = {
            (side, source): StreamingTop(n, keep, device)
            for side, name in enumerate(SIDES)
            for source, keep in kept_per_source(getattr(config.sampling, name)).items()
        }

    def add(self, acts_MLS: Tensor, fragment_M: Tensor, fragments: Fragments) -> None:
        """Take in the features' activations on some usable fragments, by their numbers; there may be none."""
        if not len(fragment_M):
            return
        device = acts_MLS.device
        side_M, hash_M, rank_M = (
            values[fragment_M].to(device) for values in (fragments.side_M, fragments.hash_M, fragments.rank_M)
        )
        fragment_M = fragment_M.to(device)
        max_SM = acts_MLS.amax(1).T.contiguous()
        self.n_tokens += acts_MLS.shape[0] * acts_MLS.shape[1]
        self.active_tokens_S += (acts_MLS > 0).sum((0, 1))
        self.max_S = torch.maximum(self.max_S, max_SM.amax(1))
        self._count(max_SM)
        for side in range(2):
            here_M = side_M == side
            fragment_N, rank_N = fragment_M[here_M], rank_M[here_M]
            max_SN = max_SM[:, here_M]
            self.active_fragments_S2[:, side] += (max_SN > 0).sum(1)
            for salt, (source, key) in enumerate(KEYS.items()):
                if (side, source) in self.tops:
                    uniform_SN = uniform(hash_M[here_M], self.features_S, salt)
                    self.tops[side, source].add(key(max_SN, uniform_SN), max_SN, fragment_N, rank_N)

    def _count(self, max_SM: Tensor) -> None:
        bins_SM = (2 * (max_SM / HISTOGRAM_FLOOR).log2()).floor().clamp(0, HISTOGRAM_BINS - 1)
        bins_SM = torch.where(max_SM > 0, bins_SM, 0).long()
        self.histogram_SH.scatter_add_(1, bins_SM, (max_SM > 0).long())


def kept_per_source(records: Records) -> dict[Source, int]:
    """Return how many fragments to keep for each source, with spares for those an earlier source has taken."""
    counts: dict[Source, int] = {source: getattr(records, source) for source in KEYS if getattr(records, source)}
    keep: dict[Source, int] = {}
    taken = 0
    for source, n in counts.items():
        each = {"top": TOP_STRIDE * n, "quantile": RESERVOIR * n}.get(source, n)
        keep[source] = each + taken
        taken += n
    return keep


def active_needed(records: Records) -> int:
    """Return how many active fragments a side must have so that every record can be drawn."""
    return max(1, TOP_STRIDE * records.top + records.quantile + records.importance)


def pick(tally: Tally, row: int, side: int, records: Records) -> tuple[Picked, ...]:
    """Return the records of one side of one feature, source by source, no fragment twice."""
    taken: list[Picked] = []
    for source in KEYS:
        n = getattr(records, source)
        if not n:
            continue
        used = {picked.fragment for picked in taken}
        kept = [item for item in tally.tops[side, source].kept(row) if item[0] not in used]
        taken += [Picked(fragment, source) for fragment in _choose(kept, source, n, side)]
    return tuple(taken)


def _choose(kept: list[tuple[int, float]], source: Source, n: int, side: int) -> list[int]:
    if source == "top":
        return [fragment for fragment, _ in kept[side : TOP_STRIDE * n : TOP_STRIDE]]
    if source == "quantile":
        ascending = sorted(kept, key=lambda item: (item[1], item[0]))
        positions = [(2 * i + 1) * len(ascending) // (2 * n) for i in range(n)] if len(ascending) >= n else []
        return [ascending[position][0] for position in positions]
    return [fragment for fragment, _ in kept[:n]]
