"""Computes how alike features are: of two dictionaries, by direction, or of one dictionary; finds the nearest ones.

Similarities are computed in tiles of `chunk` x `chunk`, each once, on the device of what is compared. Directions are
normalised in double precision and multiplied in single, which leaves six digits of a cosine. What has no similarity (a
zero direction, a constant activation) is NaN in a tile, is nobody's nearest, and stays NaN in the result.

Shape suffixes: D width of a direction, F features of A, G features of B, T tiles.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from sae.common.progress import Progress, Report, Silent

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
        """Level -> linearly interpolated quantile over the features that have a similarity; empty if none has."""
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


@torch.no_grad()
def max_cosine(a_FD: Tensor, b_GD: Tensor, chunk: int = CHUNK, report: Report = Silent) -> Similarity:
    """Return the largest cosine of every direction with any of the other side; a side's `mean` is its MMCS.

    Mean max cosine similarity is Sharkey et al.'s (2022), used between dictionaries by Cunningham et al. (2023). It is
    signed, as features are: a direction and its negative do not match. It is not symmetric.
    """
    if a_FD.shape[1] != b_GD.shape[1]:
        raise ValueError(f"directions of width {a_FD.shape[1]} and {b_GD.shape[1]} have no cosine")
    refuse_non_finite(directions_of_a=a_FD, directions_of_b=b_GD)
    a_FD, b_GD = _unit(a_FD, chunk), _unit(b_GD, chunk)
    with report("cosines of both sides' decoder directions") as progress:
        return nearest_of_both(
            lambda rows, columns: _product(a_FD[rows], b_GD[columns]), a_FD, len(b_GD), chunk, progress
        )


@torch.no_grad()
def max_cosine_within(w_FD: Tensor, chunk: int = CHUNK, report: Report = Silent) -> Nearest:
    """Return the largest cosine of every direction with another one of the same dictionary."""
    refuse_non_finite(directions=w_FD)
    n, w_FD = len(w_FD), _unit(w_FD, chunk)
    best = _Best(n, w_FD)
    with report("cosines of decoder directions") as progress:
        for rows in _slices(n, chunk):
            for columns in _slices(n, chunk, rows.start):
                cosine = _product(w_FD[rows], w_FD[columns])
                if rows == columns:
                    best.add(rows, columns, _defined(cosine.fill_diagonal_(torch.nan)))
                else:
                    best.add(rows, columns, _defined(cosine))
                    best.add(columns, rows, cosine.T)
            progress.update(rows.stop * (2 * n - rows.stop), n * n)  # of a triangle
    return best.nearest()


@torch.no_grad()
def paired_cosine(a_FD: Tensor, b_FD: Tensor) -> Nearest:
    """Return the cosine of every direction with its counterpart on the other side, as encoder with decoder."""
    if a_FD.shape != b_FD.shape:
        raise ValueError(f"directions {list(a_FD.shape)} and {list(b_FD.shape)} are no pairs")
    refuse_non_finite(directions_of_a=a_FD, directions_of_b=b_FD)
    parts = zip(a_FD.split(CHUNK), b_FD.split(CHUNK), strict=True)
    cosine_F = torch.cat([(_unit_double(a) * _unit_double(b)).sum(1).clamp(-1, 1) for a, b in parts])
    itself_F = torch.arange(len(cosine_F), device=cosine_F.device)
    return Nearest(cosine_F, itself_F.masked_fill(cosine_F.isnan(), -1))


def _product(a_FD: Tensor, b_GD: Tensor) -> Tensor:
    """Return the cosines [F, G] of unit vectors; NaN with a direction that has none."""
    return (a_FD @ b_GD.T).clamp_(-1, 1)


def _unit(w_FD: Tensor, chunk: int) -> Tensor:
    """Scale to unit length, in single precision; NaN for a zero direction."""
    return torch.cat([_unit_double(part).float() for part in w_FD.split(chunk)])


def _unit_double(w_FD: Tensor) -> Tensor:
    return w_FD.double() / w_FD.double().square().sum(1, keepdim=True).sqrt()


class _Best:
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


def nearest_of_both(tile: Tile, like_F: Tensor, n_b: int, chunk: int, progress: Progress) -> Similarity:
    """Return each side's nearest of a matrix [n_a, n_b] that exists one tile at a time, in `like_F`'s precision."""
    n_a = len(like_F)
    if not n_a or not n_b:
        raise ValueError(f"nothing to compare: {n_a} features with {n_b}")
    a, b = _Best(n_a, like_F), _Best(n_b, like_F)
    for rows in _slices(n_a, chunk):
        for columns in _slices(n_b, chunk):
            similarity = _defined(tile(rows, columns))
            a.add(rows, columns, similarity)
            b.add(columns, rows, similarity.T)
        progress.update(rows.stop, n_a)
    return Similarity(a.nearest(), b.nearest())


def _defined(tile: Tensor) -> Tensor:
    return tile.masked_fill_(tile.isnan(), -torch.inf)


def _slices(n: int, chunk: int, start: int = 0) -> Iterator[slice]:
    return (slice(at, min(at + chunk, n)) for at in range(start, n, chunk))


def refuse_non_finite(**values: Tensor) -> None:
    for name, value in values.items():
        if not all_finite(value):
            raise ValueError(f"{name.replace('_', ' ')} are not all finite")


def all_finite(value: Tensor) -> bool:
    return all(bool(part.isfinite().all()) for part in value.split(CHUNK))
