"""Computes how alike features are by direction: of two dictionaries, or of one dictionary with itself.

Directions are normalised in double precision and multiplied in single, which leaves six digits of a cosine.

Shape suffixes: D width of a direction, F features of A, G features of B.
"""

import torch
from torch import Tensor

from sae.common.progress import Report, Silent
from sae.measuring.nearest import CHUNK, Best, Nearest, Similarity, both_nearest, defined, refuse_non_finite, slices


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
        return both_nearest(lambda rows, columns: _product(a_FD[rows], b_GD[columns]), a_FD, len(b_GD), chunk, progress)


@torch.no_grad()
def max_cosine_within(w_FD: Tensor, chunk: int = CHUNK, report: Report = Silent) -> Nearest:
    """Return the largest cosine of every direction with another one of the same dictionary."""
    refuse_non_finite(directions=w_FD)
    n, w_FD = len(w_FD), _unit(w_FD, chunk)
    best = Best(n, w_FD)
    with report("cosines of decoder directions") as progress:
        for rows in slices(n, chunk):
            for columns in slices(n, chunk, rows.start):
                cosine = _product(w_FD[rows], w_FD[columns])
                if rows == columns:
                    best.add(rows, columns, defined(cosine.fill_diagonal_(torch.nan)))
                else:
                    best.add(rows, columns, defined(cosine))
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
