"""Lists the activations of a batch that are not zero, and multiplies with only those, in numpy and scipy.

Few features are active on a token: the products of two sides' activations then take a hundredth of the time of the
dense matrix product. Arithmetic is in double precision.

Shape suffixes: B tokens, F and G features of two sides, N activations that are not zero, P features of few zeros.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

MOST_ACTIVE = 1 / 8
"""Share of all activations above which they are multiplied as dense matrices, which is then faster."""
ROWS = 512
"""Rows of products that are added at once."""
CACHED, FEWEST = 2**21, 256
"""Tokens times features that a CPU computes at once, as many as its caches hold; but not fewer tokens than these."""


def rows_in_cache(n_features: int) -> int:
    """Return how many tokens' features a CPU should compute at once: what its caches do not hold takes longer."""
    return max(FEWEST, CACHED // n_features)


@dataclass(frozen=True)
class Active:
    """Lists what is not zero of a batch [B, F], row by row; row b's entries begin at offsets_B[b]."""

    values_N: NDArray[np.float64]
    features_N: NDArray[np.int64]
    offsets_B: NDArray[np.int64]
    n_features: int

    @classmethod
    def of(cls, acts_BF: Tensor) -> "Active | None":
        """List them; None if there are too many for that to pay, or they are not in the CPU's memory."""
        if acts_BF.device.type != "cpu" or not acts_BF.numel():
            return None
        acts_BF = acts_BF.detach().contiguous()
        index_N = np.flatnonzero((acts_BF != 0).numpy())
        if len(index_N) > MOST_ACTIVE * acts_BF.numel():
            return None
        n_rows, n_features = acts_BF.shape
        values_N = acts_BF.numpy().reshape(-1)[index_N].astype(np.float64)
        offsets_B = np.searchsorted(index_N, np.arange(n_rows) * n_features)
        return cls(values_N, index_N % n_features, offsets_B, n_features)

    @classmethod
    def of_largest(cls, values_BK: Tensor, features_BK: Tensor, n_features: int) -> "Active":
        """List what is not zero among the features that can be active, which ascend in each row; on the CPU."""
        is_active_BK = values_BK != 0
        counts_B = is_active_BK.sum(1).numpy()
        values_N = values_BK[is_active_BK].numpy().astype(np.float64)
        return cls(values_N, features_BK[is_active_BK].numpy(), np.cumsum(counts_B) - counts_B, n_features)

    def __len__(self) -> int:
        """Return the number of tokens."""
        return len(self.offsets_B)

    def everywhere(self) -> NDArray[np.float64]:
        """Return the first token's activation of features that are active on all tokens, and zero of the others."""
        origin_F = np.zeros(self.n_features)
        if len(self):
            first_N = slice(0, self.offsets_B[1] if len(self) > 1 else len(self.values_N))
            origin_F[self.features_N[first_N]] = self.values_N[first_N]
            origin_F[self.sums() < len(self)] = 0
        return origin_F

    def columns(self, features_P: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the activations of some features, zeros included, [B, P]."""
        column_F = np.full(self.n_features, -1)
        column_F[features_P] = np.arange(len(features_P))
        listed_N = np.flatnonzero(column_F[self.features_N] >= 0)
        acts_BP = np.zeros((len(self), len(features_P)))
        rows_N = np.searchsorted(self.offsets_B, listed_N, side="right") - 1
        acts_BP[rows_N, column_F[self.features_N[listed_N]]] = self.values_N[listed_N]
        return acts_BP

    def sums(self, weights_N: NDArray[np.float64] | None = None) -> NDArray[Any]:
        """Return the sum of each feature's weights, [F]; without weights, how many entries it has."""
        return np.bincount(self.features_N, weights_N, self.n_features)

    def matrix(self) -> Any:
        """Return them as scipy's CSR matrix [B, F]."""
        from scipy.sparse import csr_array

        offsets = np.append(self.offsets_B, len(self.values_N)).astype(np.int32)  # products of int32 indices are faster
        indices_N = self.features_N.astype(np.int32)
        return csr_array((self.values_N, indices_N, offsets), shape=(len(self.offsets_B), self.n_features))

    def without(self, features_P: NDArray[np.int64]) -> "Active":
        """Return them without some features."""
        if not len(features_P):
            return self
        kept_N = ~np.isin(self.features_N, features_P)
        before_N = np.append(0, np.cumsum(kept_N))
        return Active(self.values_N[kept_N], self.features_N[kept_N], before_N[self.offsets_B], self.n_features)


@dataclass(frozen=True)
class Side:
    """Holds one side's activations as differences from an origin, which is zero but for few features."""

    sparse: Any
    """CSR matrix [B, F] of the features whose origin is zero."""
    dense_BP: NDArray[np.float64]
    """Differences of the others."""
    dense_P: NDArray[np.int64]

    @classmethod
    def of(cls, active: Active, origin_F: NDArray[np.float64]) -> "Side":
        """Take the differences. Features with an origin are few, or it does not pay."""
        dense_P = np.flatnonzero(origin_F)
        return cls(active.without(dense_P).matrix(), active.columns(dense_P) - origin_F[dense_P], dense_P)

    def sums(self, power: int) -> NDArray[np.float64]:
        """Return each feature's sum of the differences' powers, [F]."""
        sum_F = np.bincount(self.sparse.indices, self.sparse.data**power, self.sparse.shape[1]).astype(np.float64)
        sum_F[self.dense_P] = (self.dense_BP**power).sum(0)
        return sum_F


def joined(sides: Sequence[Side]) -> Side:
    """Return the activations of one side on several batches of tokens."""
    from scipy.sparse import vstack

    sparse = vstack([side.sparse for side in sides], format="csr")
    return Side(sparse, np.concatenate([side.dense_BP for side in sides]), sides[0].dense_P)


def add_products(product_FG: NDArray[np.float64], a: Side, b: Side) -> None:
    """Add the products of both sides' differences, summed over the tokens, in place."""
    product = (a.sparse.T.tocsr() @ b.sparse).tocsr()
    for start in range(0, len(product_FG), ROWS):
        product_FG[start : start + ROWS] += product[start : start + ROWS].toarray()
    product_FG[a.dense_P] += (b.sparse.T @ a.dense_BP).T
    product_FG[:, b.dense_P] += a.sparse.T @ b.dense_BP
    product_FG[np.ix_(a.dense_P, b.dense_P)] += a.dense_BP.T @ b.dense_BP
