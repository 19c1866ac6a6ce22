"""Selects the few active features among many, and multiplies with only those.

A batch's active features are a list sorted by row (a CSR matrix). Products with it read and write the rows of the few
active features only: 2 N D operations for N entries, where the dense product takes 2 B D F.

Shape suffixes: B activation vectors, F features, K kept per vector, N entries, R rows of the list (B, or a multiple of
it), D width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from sae.largest import GROUP


@dataclass(frozen=True)
class Entries:
    """Lists the active features of a batch: row rows_N[n] has feature features_N[n] at values_N[n] >= 0.

    Entries of one row follow each other; row r's begin at offsets_R[r].
    """

    values_N: Tensor
    features_N: Tensor
    rows_N: Tensor
    offsets_R: Tensor


def batch_top_k(pre_BF: Tensor, n: int, floor: Tensor) -> tuple[Tensor, Tensor]:
    """Return values and flat indices [n] of the whole batch's n largest, sorted by index.

    Only what exceeds `floor`, a guess somewhat below the n-th largest, is searched. On a CPU a guess that is too high
    costs a full search. On a GPU, where to look would be to wait for it, at most 3n are searched, and a wrong guess
    costs a few entries (as many zeros are given for them) until the guess has adapted.
    """
    flat = pre_BF.flatten()
    if pre_BF.is_cuda:
        indices_C = torch.nonzero_static(flat > floor, size=3 * n, fill_value=-1)[:, 0]
        values_C = flat[indices_C].masked_fill_(indices_C < 0, -torch.inf)
    else:
        indices_C = _promising(pre_BF, floor)
        values_C = flat[indices_C]
        if int((values_C > floor).count_nonzero()) < n:
            values_C, indices_C = flat.topk(n, sorted=False)
    largest = values_C.topk(n, sorted=False)
    indices_N, order_N = indices_C[largest.indices].clamp_min(0).sort()
    return largest.values[order_N], indices_N


def _promising(pre_BF: Tensor, floor: Tensor) -> Tensor:
    """Return flat indices of all members of the groups whose maximum exceeds `floor`."""
    b, n_features = pre_BF.shape
    group = GROUP if n_features % GROUP == 0 else 1
    stride = n_features // group
    groups_C = (pre_BF.view(b, group, stride).amax(1) > floor).flatten().nonzero()[:, 0]
    first_C = groups_C // stride * n_features + groups_C % stride
    return (first_C[:, None] + torch.arange(0, n_features, stride)).flatten()


def by_row(values_BK: Tensor, features_BK: Tensor) -> Entries:
    """Return entries of k features per vector."""
    b, k = values_BK.shape
    offsets_R = torch.arange(0, b * k, k, device=values_BK.device)
    rows_N = torch.arange(b, device=values_BK.device).repeat_interleave(k, output_size=b * k)
    return Entries(values_BK.flatten(), features_BK.flatten(), rows_N, offsets_R)


def by_index(values_N: Tensor, rows_N: Tensor, features_N: Tensor, n_rows: int) -> Entries:
    """Return entries that are given in any order."""
    sorted_N, order_N = rows_N.sort(stable=True)
    return Entries(values_N[order_N], features_N[order_N], sorted_N, _starts(sorted_N, n_rows))


@dataclass(frozen=True)
class Product:
    """Holds the list times a matrix, [R, D], and takes gradients back to the entries' values."""

    made_RD: Tensor
    _values_N: Tensor
    _graph_RD: Tensor

    @classmethod
    def of(cls, entries: Entries, matrix_FD: Tensor) -> "Product":
        with torch.enable_grad():  # only for `back`: its kernel gathers nothing into memory
            values_N = entries.values_N.detach().requires_grad_()
            graph_RD = embedding_bag(
                entries.features_N, matrix_FD, entries.offsets_R, per_sample_weights=values_N, mode="sum"
            )
        return cls(graph_RD.detach(), values_N, graph_RD)

    def back(self, gradient_RD: Tensor) -> Tensor:
        """Return gradient_RD[row] . matrix_FD[feature] of every entry: [N]."""
        return torch.autograd.grad(self._graph_RD, self._values_N, gradient_RD)[0]


@dataclass(frozen=True)
class Transposed:
    """Holds the same entries sorted by feature, for sums over the rows in which a feature is active."""

    order_N: Tensor
    rows_N: Tensor
    offsets_F: Tensor
    n_rows: int

    @classmethod
    def of(cls, entries: Entries, n_features: int) -> "Transposed":
        features_N, order_N = entries.features_N.sort(stable=True)
        return cls(order_N, entries.rows_N[order_N], _starts(features_N, n_features), len(entries.offsets_R))

    def times(self, values_N: Tensor, rows_RD: Tensor) -> Tensor:
        """Return the transposed list, with these values, times rows: [F, D].

        Where the list has several rows per vector, `rows_RD` may also be the vectors, which are then repeated.
        """
        rows_N = self.rows_N if len(rows_RD) == self.n_rows else self.rows_N % len(rows_RD)
        weights_N = values_N[self.order_N]
        return embedding_bag(rows_N, rows_RD, self.offsets_F, per_sample_weights=weights_N, mode="sum")


def _starts(sorted_N: Tensor, n: int) -> Tensor:
    """Return where each of 0..n-1 begins in a sorted list."""
    return torch.searchsorted(sorted_N, torch.arange(n, device=sorted_N.device, dtype=sorted_N.dtype))
