"""Multiplies by weights that may be stored in fewer bits than they are computed with (bf16, fp16), piece by piece.

Such weights are large and lie in a memory-mapped file: converted at once, they would take twice the file's size.

Shape suffixes: B vectors, D their width, F features, E the width of what is written, N values that are not zero.
"""

import ctypes
import mmap
import sys
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

PIECE = 2**24
"""Numbers of a matrix that are converted, and worked on, together."""
PAGE_OUT = 21
"""Linux's MADV_PAGEOUT: unlike MADV_DONTNEED it loses nothing, whatever the memory is."""


def slices(length: int, width: int) -> Iterator[slice]:
    """Yield slices of so many rows, `width` numbers each; a piece has as many as PIECE holds, at least one."""
    step = max(1, PIECE // width)
    for start in range(0, length, step):
        yield slice(start, start + step)


def encoded(b_F: Tensor, x_BD: Tensor, W_DF: Tensor) -> Tensor:
    """Return x W + b, [B, F], computed with the numbers of x."""
    if W_DF.dtype == x_BD.dtype:
        return torch.addmm(b_F, x_BD, W_DF)
    at = slices(W_DF.shape[1], W_DF.shape[0])
    return torch.cat([torch.addmm(b_F[part], x_BD, W_DF[:, part].to(x_BD.dtype)) for part in at], dim=1)


def decoded(b_E: Tensor, features_BF: Tensor, W_FE: Tensor) -> Tensor:
    """Return features W + b, [B, E], computed with the numbers of the features."""
    if W_FE.dtype == features_BF.dtype:
        return torch.addmm(b_E, features_BF, W_FE)
    y_BE = b_E
    for part in slices(*W_FE.shape):
        y_BE = torch.addmm(y_BE, features_BF[:, part], W_FE[part].to(features_BF.dtype))
    return y_BE


def decoded_active(values_N: Tensor, features_N: Tensor, offsets_B: Tensor, W_FE: Tensor) -> Tensor:
    """Return the sums [B, E] of the rows of W by which values are multiplied; row b's begin at offsets_B[b].

    Rows of other numbers, or that lie apart in memory (a file's matrix, transposed), are copied piece by piece, only
    those that are needed.
    """
    if W_FE.dtype == values_N.dtype and W_FE.is_contiguous():
        return embedding_bag(features_N, W_FE, offsets_B, mode="sum", per_sample_weights=values_N)
    used_U, index_N = features_N.unique(return_inverse=True)
    y_BE = values_N.new_zeros((len(offsets_B), W_FE.shape[1]))
    for part in slices(len(used_U), W_FE.shape[1]):
        rows_UE = W_FE[used_U[part]].to(values_N.dtype).contiguous()
        at_N = ((index_N >= part.start) & (index_N < part.stop)).nonzero().flatten()
        starts_B = torch.searchsorted(at_N, offsets_B)
        y_BE += embedding_bag(
            index_N[at_N] - part.start, rows_UE, starts_B, mode="sum", per_sample_weights=values_N[at_N]
        )
    return y_BE


def row_norms(W_FE: Tensor) -> Tensor:
    """Return the norm of each row, [F], in fp32 where the weights have fewer bits."""
    if W_FE.dtype.itemsize >= torch.float32.itemsize:
        norm_F: Tensor = W_FE.norm(dim=1)
        return norm_F
    return torch.cat([W_FE[part].float().norm(dim=1) for part in slices(*W_FE.shape)])


def side_by_side(W_LFD: Tensor) -> Tensor:
    """Return L matrices side by side, [F, L * D]; what lies in a file is not kept in memory besides."""
    layers, m, d = W_LFD.shape
    W_FE = W_LFD.new_empty(m, layers * d)
    for layer, W_FD in enumerate(W_LFD):
        for part in slices(m, d):
            W_FE[part, layer * d : (layer + 1) * d] = W_FD[part]
            _page_out(W_FD[part])
    return W_FE


def _page_out(contiguous: Tensor) -> None:
    """Tell Linux that the pages on which a tensor lies are not needed soon; those of a file leave memory at once."""
    if sys.platform != "linux" or not contiguous.is_contiguous():
        return
    start = -(-contiguous.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
    length = contiguous.data_ptr() + contiguous.nbytes - start
    if length > 0:
        ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), PAGE_OUT)
