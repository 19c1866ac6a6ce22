"""How alike features are: those of two dictionaries, by direction or by activation, and those of one among themselves.

Sees matrices of directions and batches of activations; knows nothing about dictionaries, files or language models.

Similarities are computed in tiles of `chunk` x `chunk`, in double precision, on the device of what is compared. What
has no similarity (a zero direction, a constant activation) is NaN in a tile, is nobody's nearest, and stays NaN in the
result.

Shape suffixes: B tokens, D width of a direction, F features of A, G features of B, T tiles.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

CHUNK = 2048
"""Features of either side in a tile, which is then 32 MiB."""
ROWS = 4096
"""Tokens turned to double precision at once."""
LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
Tile = Callable[[slice, slice], Tensor]
"""A new matrix of the similarities of a slice of A's features with a slice of B's."""


@dataclass(frozen=True)
class Nearest:
    """For every feature, the most similar one of the other side.

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
        """Mean, quantiles by their level (null where there are none) and how many features have no similarity."""
        quantiles = {str(level): value for level, value in self.quantiles().items()} or None
        return {"mean": self.mean, "quantiles": quantiles, "undefined": self.undefined}

    @cached_property
    def _defined(self) -> Tensor:
        return self.similarity_F[~self.similarity_F.isnan()]


@dataclass(frozen=True)
class Similarity:
    """a_to_b: for every feature of A the nearest of B; b_to_a: for every feature of B the nearest of A."""

    a_to_b: Nearest
    b_to_a: Nearest

    def to_json(self) -> dict[str, Any]:
        return {"a_to_b": self.a_to_b.to_json(), "b_to_a": self.b_to_a.to_json()}


def joined(parts: Sequence[Similarity]) -> Similarity:
    """The whole of consecutive slices of A's features, each compared with all of B's."""
    sizes = [len(part.a_to_b.match_F) for part in parts]
    starts = [sum(sizes[:place]) for place in range(len(sizes))]
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
def max_cosine(a_FD: Tensor, b_GD: Tensor, chunk: int = CHUNK) -> Similarity:
    """Largest cosine of every direction with any of the other side; a side's `mean` is its MMCS.

    Mean max cosine similarity is Sharkey et al.'s (2022), used between dictionaries by Cunningham et al. (2023). It is
    signed, as features are: a direction and its negative do not match. It is not symmetric.
    """
    if a_FD.shape[1] != b_GD.shape[1]:
        raise ValueError(f"directions of width {a_FD.shape[1]} and {b_GD.shape[1]} have no cosine")
    _refuse_non_finite(directions_of_a=a_FD, directions_of_b=b_GD)
    return _both(lambda rows, columns: _cosine(a_FD[rows], b_GD[columns]), len(a_FD), len(b_GD), chunk)


@torch.no_grad()
def max_cosine_within(w_FD: Tensor, chunk: int = CHUNK) -> Nearest:
    """Largest cosine of every direction with another one of the same dictionary."""
    _refuse_non_finite(directions=w_FD)

    def tile(rows: slice, columns: slice) -> Tensor:
        cosine = _cosine(w_FD[rows], w_FD[columns])
        return cosine.fill_diagonal_(torch.nan) if rows == columns else cosine

    return _nearest(tile, len(w_FD), len(w_FD), chunk)


@torch.no_grad()
def paired_cosine(a_FD: Tensor, b_FD: Tensor) -> Nearest:
    """Cosine of every direction with its own counterpart on the other side, as encoder with decoder."""
    if a_FD.shape != b_FD.shape:
        raise ValueError(f"directions {list(a_FD.shape)} and {list(b_FD.shape)} are no pairs")
    _refuse_non_finite(directions_of_a=a_FD, directions_of_b=b_FD)
    cosine_F = (_unit(a_FD) * _unit(b_FD)).sum(1).clamp(-1, 1)
    itself_F = torch.arange(len(cosine_F), device=cosine_F.device)
    return Nearest(cosine_F, itself_F.masked_fill(cosine_F.isnan(), -1))


class Correlation:
    """Pearson correlations of the features of A with those of B, over a stream of tokens that both have seen.

    With `nearest`, universality as in Towards Monosemanticity: for every feature of A the largest correlation with a
    feature of B. Sums only are kept, [F, G] doubles, whatever the number of tokens; where that is too large, slices of
    A's features by themselves are `joined`.

    Activations are summed as differences from the first token's. Correlations do not change by that; but a mean far
    from zero then costs no digits, and the variance of a constant feature is exactly zero.
    """

    def __init__(self, n_a: int, n_b: int, device: str | torch.device = "cpu") -> None:
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float64, device=device)

        self.tokens = 0
        self._first_F, self._sum_F, self._square_F = zeros(n_a), zeros(n_a), zeros(n_a)
        self._first_G, self._sum_G, self._square_G = zeros(n_b), zeros(n_b), zeros(n_b)
        self._product_FG = zeros(n_a, n_b)

    @torch.no_grad()
    def add(self, a_BF: Tensor, b_BG: Tensor) -> None:
        """Count activations of both on the same tokens, in the same order."""
        if len(a_BF) != len(b_BG):
            raise ValueError(f"activations on {len(a_BF)} and on {len(b_BG)} tokens are not aligned")
        if not self.tokens and len(a_BF):
            self._first_F.copy_(a_BF[0])
            self._first_G.copy_(b_BG[0])
        for part_BF, part_BG in zip(a_BF.split(ROWS), b_BG.split(ROWS), strict=True):
            self._add(part_BF.double() - self._first_F, part_BG.double() - self._first_G)
        self.tokens += len(a_BF)

    @torch.no_grad()
    def nearest(self, chunk: int = CHUNK) -> Similarity:
        """Largest correlation of every feature with any of the other side, over the tokens seen so far."""
        _refuse_non_finite(activations_of_a=self._square_F, activations_of_b=self._square_G)
        n = max(self.tokens, 1)
        deviation_F = _deviation(self._sum_F, self._square_F, n)
        deviation_G = _deviation(self._sum_G, self._square_G, n)

        def tile(rows: slice, columns: slice) -> Tensor:
            product = self._product_FG[rows, columns] - torch.outer(self._sum_F[rows] / n, self._sum_G[columns])
            return (product / deviation_F[rows, None] / deviation_G[columns]).clamp_(-1, 1)

        return _both(tile, len(deviation_F), len(deviation_G), chunk)

    def _add(self, a_BF: Tensor, b_BG: Tensor) -> None:
        self._product_FG.addmm_(a_BF.T, b_BG)
        self._sum_F += a_BF.sum(0)
        self._sum_G += b_BG.sum(0)
        self._square_F += a_BF.square_().sum(0)
        self._square_G += b_BG.square_().sum(0)


def _deviation(sum_F: Tensor, square_F: Tensor, n: int) -> Tensor:
    """Root of the summed squared deviations from the mean; NaN where it is zero."""
    variation_F = square_F - sum_F.square() / n
    return torch.where(variation_F > 0, variation_F, torch.nan).sqrt()


def _cosine(a_FD: Tensor, b_GD: Tensor) -> Tensor:
    """Cosines [F, G]; NaN with a zero direction."""
    return (_unit(a_FD) @ _unit(b_GD).T).clamp_(-1, 1)


def _unit(w_FD: Tensor) -> Tensor:
    return w_FD.double() / w_FD.double().square().sum(1, keepdim=True).sqrt()


def _both(tile: Tile, n_a: int, n_b: int, chunk: int) -> Similarity:
    """Each side's nearest; every tile is computed twice, so that one direction's state is kept at a time."""
    return Similarity(
        a_to_b=_nearest(tile, n_a, n_b, chunk),
        b_to_a=_nearest(lambda rows, columns: tile(columns, rows).T, n_b, n_a, chunk),
    )


def _nearest(tile: Tile, n_a: int, n_b: int, chunk: int) -> Nearest:
    """The largest entry of every row of a matrix that exists one tile at a time."""
    if not n_a or not n_b:
        raise ValueError(f"nothing to compare: {n_a} features with {n_b}")
    parts = [_row_maxima(tile, rows, n_b, chunk) for rows in _slices(n_a, chunk)]
    similarity_F = torch.cat([part.similarity_F for part in parts])
    none_F = similarity_F.isinf()
    match_F = torch.cat([part.match_F for part in parts])
    return Nearest(similarity_F.masked_fill(none_F, torch.nan), match_F.masked_fill(none_F, -1))


def _row_maxima(tile: Tile, rows: slice, n_b: int, chunk: int) -> Nearest:
    """Over all tiles of some rows; -inf where a row has only NaN."""
    columns = list(_slices(n_b, chunk))
    found = [_defined(tile(rows, some)).max(1) for some in columns]
    best = torch.stack([each.values for each in found], 1).max(1)
    match_FT = torch.stack([each.indices + some.start for each, some in zip(found, columns, strict=True)], 1)
    return Nearest(best.values, match_FT.gather(1, best.indices[:, None]).squeeze(1))


def _defined(tile: Tensor) -> Tensor:
    return tile.masked_fill_(tile.isnan(), -torch.inf)


def _slices(n: int, chunk: int) -> Iterator[slice]:
    return (slice(start, min(start + chunk, n)) for start in range(0, n, chunk))


def _refuse_non_finite(**values: Tensor) -> None:
    for name, value in values.items():
        if not value.isfinite().all():
            raise ValueError(f"{name.replace('_', ' ')} are not all finite")
