"""Correlates the features of two dictionaries over a stream of tokens, in double precision.

Shape suffixes: B tokens, F features of A, G features of B.
"""

from collections.abc import Sized
from typing import NamedTuple

import torch
from torch import Tensor

from sae.common.progress import Silent
from sae.measuring.active import MOST_ACTIVE, Active, Side, add_products, joined
from sae.measuring.nearest import CHUNK, Similarity, all_finite, both_nearest, refuse_non_finite

ROWS = 4096
"""Tokens turned to double precision at once."""
WAITING_PAIRS = 2**25
"""Pairs of active features that are multiplied together, which takes at most 400 MiB; four times as many where all
pairs of features together are no more."""


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
        _refuse_other_length(a_BF, b_BG)
        if not self.tokens and len(a_BF):
            self._origin_F.copy_(_origin(a_BF))
            self._origin_G.copy_(_origin(b_BG))
        for part_BF, part_BG in zip(a_BF.split(ROWS), b_BG.split(ROWS), strict=True):
            active = self._few_active(part_BF, part_BG)
            if active is None:
                self._add(part_BF.double() - self._origin_F, part_BG.double() - self._origin_G)
            else:
                self._add_active(*active)
        self.tokens += len(a_BF)

    def add_active(self, a: Active, b: Active) -> None:
        """Count activations of both on the same tokens that are listed already: the same, to the last bit, as `add`."""
        _refuse_other_length(a, b)
        if not self.tokens:
            self._origin_F.copy_(torch.from_numpy(a.everywhere()))
            self._origin_G.copy_(torch.from_numpy(b.everywhere()))
        self._add_active(a, b)
        self.tokens += len(a)

    @property
    def finite(self) -> Finite:
        """Of the tokens seen so far. There are no correlations otherwise."""
        return Finite(all_finite(self._square_F), all_finite(self._square_G))

    @torch.no_grad()
    def nearest(self, chunk: int = CHUNK) -> Similarity:
        """Return the largest correlation of every feature with any of the other side, over the tokens seen so far."""
        refuse_non_finite(activations_of_a=self._square_F, activations_of_b=self._square_G)
        self._multiply()
        n = max(self.tokens, 1)
        deviation_F = _deviation(self._sum_F, self._square_F, n)
        deviation_G = _deviation(self._sum_G, self._square_G, n)

        def tile(rows: slice, columns: slice) -> Tensor:
            product = self._product_FG[rows, columns] - torch.outer(self._sum_F[rows] / n, self._sum_G[columns])
            return (product / deviation_F[rows, None] / deviation_G[columns]).clamp_(-1, 1)

        return both_nearest(tile, deviation_F, len(deviation_G), chunk, Silent("correlations"))

    def _few_active(self, a_BF: Tensor, b_BG: Tensor) -> tuple[Active, Active] | None:
        """List what is active; None if that is much on either side."""
        if max(_share(self._origin_F), _share(self._origin_G)) > MOST_ACTIVE:
            return None
        a, b = Active.of(a_BF), Active.of(b_BG)
        return None if a is None or b is None else (a, b)

    def _add_active(self, active_a: Active, active_b: Active) -> None:
        a, b = Side.of(active_a, self._origin_F.numpy()), Side.of(active_b, self._origin_G.numpy())
        for sum_F, square_F, side in ((self._sum_F, self._square_F, a), (self._sum_G, self._square_G, b)):
            sum_F += torch.from_numpy(side.sums(1))
            square_F += torch.from_numpy(side.sums(2))
        self._waiting.append((a, b))
        self._waiting_pairs += len(active_a.values_N) * len(active_b.values_N) // max(1, len(active_a))
        if self._waiting_pairs > WAITING_PAIRS * (4 if self._product_FG.numel() <= WAITING_PAIRS else 1):
            self._multiply()

    def _multiply(self) -> None:
        """Multiply what waits: of many tokens together, as adding to all pairs takes as long as multiplying."""
        if self._waiting:
            add_products(self._product_FG.numpy(), *(joined(sides) for sides in zip(*self._waiting, strict=True)))
        self._waiting, self._waiting_pairs = [], 0

    def _add(self, a_BF: Tensor, b_BG: Tensor) -> None:
        self._product_FG.addmm_(a_BF.T, b_BG)
        self._sum_F += a_BF.sum(0)
        self._sum_G += b_BG.sum(0)
        self._square_F += a_BF.square_().sum(0)
        self._square_G += b_BG.square_().sum(0)


def _refuse_other_length(a: Sized, b: Sized) -> None:
    if len(a) != len(b):
        raise ValueError(f"activations on {len(a)} and on {len(b)} tokens are not aligned")


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
