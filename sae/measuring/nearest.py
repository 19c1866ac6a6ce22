"""Finds every feature's most similar one of the other side, from a matrix of similarities that exists tile by tile.

Tiles are `chunk` x `chunk`, each computed once, on the device of what is compared. What has no similarity (a zero
direction, a constant activation) is NaN in a tile, is never another one's nearest, and is NaN in the result.

Shape suffixes: F features of A, G features of B, T slices of A's features.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from sae.common.progress import Progress

CHUNK = 2048
"""Features of either side in a tile, which is then 16 MiB of cosines or 32 MiB of correlations."""
LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
Tile = Callable[[slice, slice], Tensor]
"""A new matrix of the similarities of a slice of A's features with a slice of B's."""


@dataclass(frozen=True)
class Nearest:
    """Holds, for every feature, the most similar one of the other side.

    similarity_F: the largest cosine or correlation, in [-1, 1]; NaN where the feature has none.
    match_F: the index of the feature it is reached with (any of those that tie); -1 where there is none.
    """

    similarity_F: Tensor
    match_F: Tensor

    @property
    def undefined(self) -> int:
        """Features left out of the mean and the quantiles, because they have no similarity."""
        return len(self.similarity_F) - len(self._defined)

    @property
    def mean(self) -> float | None:
        """Over the features that have a similarity; None if none has."""
        return float(self._defined.mean()) if len(self._defined) else None

    def quantiles(self, levels: Sequence[float] = LEVELS) -> dict[float, float]:
        """Return linearly interpolated quantiles by level, over the features that have one; empty if none has."""
        if not len(self._defined):
            return {}
        values = self._defined.quantile(self._defined.new_tensor(levels)).tolist()
        return dict(zip(levels, values, strict=True))

    def to_json(self) -> dict[str, Any]:
        """Return mean, quantiles by level (null where there are none) and how many features have no similarity."""
        quantiles = {str(level): value for level, value in self.quantiles().items()} or None
        return {"mean": self.mean, "quantiles": quantiles, "undefined": self.undefined}

    @cached_property
    def _defined(self) -> Tensor:
        return self.similarity_F[~self.similarity_F.isnan()]


@dataclass(frozen=True)
class Similarity:
    """Holds for every feature of A the nearest of B (a_to_b), and for every feature of B the nearest of A (b_to_a)."""

    a_to_b: Nearest
    b_to_a: Nearest

    def to_json(self) -> dict[str, Any]:
        return {"a_to_b": self.a_to_b.to_json(), "b_to_a": self.b_to_a.to_json()}


def joined(parts: Sequence[Similarity]) -> Similarity:
    """Return the whole of consecutive slices of A's features, each compared with all of B's."""
    sizes = [len(part.a_to_b.match_F) for part in parts]
    starts = [sum(sizes[:part]) for part in range(len(sizes))]
    similarity_GT = torch.stack([part.b_to_a.similarity_F for part in parts], 1)
    match_GT = torch.stack([_moved(part.b_to_a.match_F, by) for part, by in zip(parts, starts, strict=True)], 1)
    best = similarity_GT.nan_to_num(-torch.inf).max(1)
    return Similarity(
        Nearest(*(torch.cat([getattr(part.a_to_b, name) for part in parts]) for name in ("similarity_F", "match_F"))),
        Nearest(*(values_GT.gather(1, best.indices[:, None]).squeeze(1) for values_GT in (similarity_GT, match_GT))),
    )


def _moved(match_F: Tensor, by: int) -> Tensor:
    return torch.where(match_F < 0, match_F, match_F + by)


class Best:
    """Keeps the largest similarity so far of each of n features, from tiles with undefined entries at -inf."""

    def __init__(self, n: int, like: Tensor) -> None:
        self._similarity_F = like.new_full((n,), -torch.inf)
        self._match_F = torch.full((n,), -1, device=like.device)

    def add(self, rows: slice, columns: slice, tile: Tensor) -> None:
        """Take the similarities of a slice of the features with a slice of the others."""
        largest = tile.max(1)
        better = largest.values > self._similarity_F[rows]
        self._similarity_F[rows] = torch.where(better, largest.values, self._similarity_F[rows])
        self._match_F[rows] = torch.where(better, largest.indices + columns.start, self._match_F[rows])

    def nearest(self) -> Nearest:
        similarity_F = self._similarity_F.double()
        return Nearest(similarity_F.masked_fill(self._match_F < 0, torch.nan), self._match_F)


def both_nearest(tile: Tile, like_F: Tensor, n_b: int, chunk: int, progress: Progress) -> Similarity:
    """Return each side's nearest of a matrix [n_a, n_b] that exists one tile at a time, in `like_F`'s precision."""
    n_a = len(like_F)
    if not n_a or not n_b:
        raise ValueError(f"nothing to compare: {n_a} features with {n_b}")
    a, b = Best(n_a, like_F), Best(n_b, like_F)
    for rows in slices(n_a, chunk):
        for columns in slices(n_b, chunk):
            similarity = defined(tile(rows, columns))
            a.add(rows, columns, similarity)
            b.add(columns, rows, similarity.T)
        progress.update(rows.stop, n_a)
    return Similarity(a.nearest(), b.nearest())


def defined(tile: Tensor) -> Tensor:
    return tile.masked_fill_(tile.isnan(), -torch.inf)


def slices(n: int, chunk: int, start: int = 0) -> Iterator[slice]:
    return (slice(at, min(at + chunk, n)) for at in range(start, n, chunk))


def refuse_non_finite(**values: Tensor) -> None:
    for name, value in values.items():
        if not all_finite(value):
            raise ValueError(f"{name.replace('_', ' ')} are not all finite")


def all_finite(value: Tensor) -> bool:
    return all(bool(part.isfinite().all()) for part in value.split(CHUNK))
