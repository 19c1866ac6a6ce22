"""Computes how alike features are: of two dictionaries, by direction or by activation, or of one dictionary.

Similarities are computed in tiles of `chunk` x `chunk`, each once, on the device of what is compared. Correlations are
in double precision; directions are normalised in it and multiplied in single, which leaves six digits of a cosine. What
has no similarity (a zero direction, a constant activation) is NaN in a tile, is nobody's nearest, and stays NaN in the
result.

Shape suffixes: B tokens, D width of a direction, F features of A, G features of B, T tiles.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sae.common.progress import Progress, Report, Silent
from sae.measuring.active import MOST_ACTIVE, Active, Side, add_products
from sae.measuring.active import joined as joined_sides

CHUNK = 2048
"""Features of either side in a tile, which is then 16 MiB of cosines or 32 MiB of correlations."""
ROWS = 4096
"""Tokens turned to double precision at once."""
WAITING_PAIRS = 2**25
"""Pairs of active features that are multiplied together: at most 400 MiB."""
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
    _refuse_non_finite(directions_of_a=a_FD, directions_of_b=b_GD)
    a_FD, b_GD = _unit(a_FD, chunk), _unit(b_GD, chunk)
    with report("cosines of both sides' decoder directions") as progress:
        return _both(lambda rows, columns: _product(a_FD[rows], b_GD[columns]), a_FD, len(b_GD), chunk, progress)


@torch.no_grad()
def max_cosine_within(w_FD: Tensor, chunk: int = CHUNK, report: Report = Silent) -> Nearest:
    """Return the largest cosine of every direction with another one of the same dictionary."""
    _refuse_non_finite(directions=w_FD)
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
    _refuse_non_finite(directions_of_a=a_FD, directions_of_b=b_FD)
    parts = zip(a_FD.split(CHUNK), b_FD.split(CHUNK), strict=True)
    cosine_F = torch.cat([(_unit_double(a) * _unit_double(b)).sum(1).clamp(-1, 1) for a, b in parts])
    itself_F = torch.arange(len(cosine_F), device=cosine_F.device)
    return Nearest(cosine_F, itself_F.masked_fill(cosine_F.isnan(), -1))


class Finite(NamedTuple):
    """Says for each side whether all activations it was given were finite."""

    a: bool
    b: bool


class Correlation:
    """Correlates (Pearson) the features of A with those of B, over a stream of tokens that both have seen.

    With `nearest`, universality as in Towards Monosemanticity: for every feature of A the largest correlation with a
    feature of B. Sums only are kept, [F, G] doubles, whatever the number of tokens; where that is too large, slices of
    A's features by themselves are `joined`.

    Activations of a feature that is active on every token of the first batch are summed as differences from the first
    token's. Correlations do not change by that; but a mean far from zero then costs no digits, and the variance of a
    constant feature is exactly zero. Where few features are active, only pairs of active ones are multiplied.
    """

    def __init__(self, n_a: int, n_b: int, device: str | torch.device = "cpu") -> None:
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float64, device=device)

        self.tokens = 0
        self._origin_F, self._sum_F, self._square_F = zeros(n_a), zeros(n_a), zeros(n_a)
        self._origin_G, self._sum_G, self._square_G = zeros(n_b), zeros(n_b), zeros(n_b)
        self._product_FG = zeros(n_a, n_b)
        self._waiting: list[tuple[Side, Side]] = []
        self._waiting_pairs = 0

    @torch.no_grad()
    def add(self, a_BF: Tensor, b_BG: Tensor) -> None:
        """Count activations of both on the same tokens, in the same order."""
        if len(a_BF) != len(b_BG):
            raise ValueError(f"activations on {len(a_BF)} and on {len(b_BG)} tokens are not aligned")
        if not self.tokens and len(a_BF):
            self._origin_F.copy_(_origin(a_BF))
            self._origin_G.copy_(_origin(b_BG))
        for part_BF, part_BG in zip(a_BF.split(ROWS), b_BG.split(ROWS), strict=True):
            if not self._add_active(part_BF, part_BG):
                self._add(part_BF.double() - self._origin_F, part_BG.double() - self._origin_G)
        self.tokens += len(a_BF)

    @property
    def finite(self) -> Finite:
        """Of the tokens seen so far. There are no correlations otherwise."""
        return Finite(_all_finite(self._square_F), _all_finite(self._square_G))

    @torch.no_grad()
    def nearest(self, chunk: int = CHUNK) -> Similarity:
        """Return the largest correlation of every feature with any of the other side, over the tokens seen so far."""
        _refuse_non_finite(activations_of_a=self._square_F, activations_of_b=self._square_G)
        self._multiply()
        n = max(self.tokens, 1)
        deviation_F = _deviation(self._sum_F, self._square_F, n)
        deviation_G = _deviation(self._sum_G, self._square_G, n)

        def tile(rows: slice, columns: slice) -> Tensor:
            product = self._product_FG[rows, columns] - torch.outer(self._sum_F[rows] / n, self._sum_G[columns])
            return (product / deviation_F[rows, None] / deviation_G[columns]).clamp_(-1, 1)

        return _both(tile, deviation_F, len(deviation_G), chunk, Silent("correlations"))

    def _add_active(self, a_BF: Tensor, b_BG: Tensor) -> bool:
        """Count activations if few are active on both sides; tell whether they are."""
        if max(_share(self._origin_F), _share(self._origin_G)) > MOST_ACTIVE:
            return False
        active_a, active_b = Active.of(a_BF), Active.of(b_BG)
        if active_a is None or active_b is None:
            return False
        a, b = Side.of(active_a, a_BF, self._origin_F), Side.of(active_b, b_BG, self._origin_G)
        for sum_F, square_F, side in ((self._sum_F, self._square_F, a), (self._sum_G, self._square_G, b)):
            sum_F += torch.from_numpy(side.sums(1))
            square_F += torch.from_numpy(side.sums(2))
        self._waiting.append((a, b))
        self._waiting_pairs += len(active_a.values_N) * len(active_b.values_N) // len(a_BF)
        if self._waiting_pairs > max(WAITING_PAIRS, self._product_FG.numel() // 8):
            self._multiply()
        return True

    def _multiply(self) -> None:
        """Multiply what waits: of many tokens together, as adding to all pairs takes as long as multiplying."""
        if self._waiting:
            add_products(self._product_FG.numpy(), *(joined_sides(sides) for sides in zip(*self._waiting, strict=True)))
        self._waiting, self._waiting_pairs = [], 0

    def _add(self, a_BF: Tensor, b_BG: Tensor) -> None:
        self._product_FG.addmm_(a_BF.T, b_BG)
        self._sum_F += a_BF.sum(0)
        self._sum_G += b_BG.sum(0)
        self._square_F += a_BF.square_().sum(0)
        self._square_G += b_BG.square_().sum(0)


def _origin(acts_BF: Tensor) -> Tensor:
    """Return the first token's activation of features that are active on all tokens, and zero of the others, [F]."""
    return torch.where((acts_BF == 0).any(0), 0, acts_BF[0])


def _share(values_F: Tensor) -> float:
    """Return the share of values that are not zero."""
    return int(values_F.count_nonzero()) / max(1, len(values_F))


def _deviation(sum_F: Tensor, square_F: Tensor, n: int) -> Tensor:
    """Return the root of the summed squared deviations from the mean; NaN where it is zero."""
    variation_F = square_F - sum_F.square() / n
    return torch.where(variation_F > 0, variation_F, torch.nan).sqrt()


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


def _both(tile: Tile, like_F: Tensor, n_b: int, chunk: int, progress: Progress) -> Similarity:
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


def _refuse_non_finite(**values: Tensor) -> None:
    for name, value in values.items():
        if not _all_finite(value):
            raise ValueError(f"{name.replace('_', ' ')} are not all finite")


def _all_finite(value: Tensor) -> bool:
    return all(bool(part.isfinite().all()) for part in value.split(CHUNK))
