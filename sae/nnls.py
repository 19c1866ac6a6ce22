"""Solves many problems of non-negative least squares at once that have one matrix in common.

Shape suffixes: B problems, R of them still being solved, F unknowns of each, S unknowns of one block.
"""

import torch
from torch import Tensor

BLOCK = 32
"""Unknowns between two matrix products; results depend on it by rounding only."""
SWEEPS = 200
"""The most sweeps over all unknowns (scikit-learn's NMF has the same limit); parts of real activations take 30."""
TOLERANCE = 1e-5
"""A problem is solved when a sweep moves none of its unknowns by more than this share of its largest."""


@torch.no_grad()
def solve(p_BF: Tensor, gram_FF: Tensor) -> Tensor:
    """Compute argmin over h >= 0 of h' gram h / 2 - h' p for each row p: [B, F], with exact zeros and no gradient.

    With p = x W' and gram = W W' it is the least-squares weights of W's rows. Cyclic coordinate descent, as in
    scikit-learn's `NMF.transform`; each problem stops by itself, so that its answer depends on no other.

    Measured on 512 MLP neurons of the demo's model, one CPU core: 0.15 s for 1,000 problems of 256 unknowns (parts of
    condition 100, 17 sweeps each, errors below 2e-5 of the largest unknown), half the time of accelerated projected
    gradients. 512 overlapping parts (condition 1,500) run into SWEEPS: 3.8 s, errors of 3e-3.
    """
    solved_BF = torch.zeros_like(p_BF)
    rows_R, p_FR = torch.arange(len(p_BF), device=p_BF.device), p_BF.T.contiguous()
    h_FR = torch.zeros_like(p_FR)
    for _ in range(SWEEPS):
        moved_R = _sweep(h_FR, p_FR, gram_FF)
        left_R = ~(moved_R <= TOLERANCE * h_FR.amax(0))
        solved_BF[rows_R[~left_R]] = h_FR[:, ~left_R].T
        rows_R, p_FR, h_FR = rows_R[left_R], p_FR[:, left_R], h_FR[:, left_R]
        if not len(rows_R):
            return solved_BF
    solved_BF[rows_R] = h_FR.T
    return solved_BF


def _sweep(h_FR: Tensor, p_FR: Tensor, gram_FF: Tensor) -> Tensor:
    """Improve every unknown once, in place. Returns the largest change within each problem, [R]."""
    moved_R = torch.zeros_like(h_FR[0])
    for first in range(0, len(h_FR), BLOCK):
        block = slice(first, first + BLOCK)
        before_SR = h_FR[block].clone()
        residual_SR = torch.addmm(p_FR[block], gram_FF[block], h_FR, alpha=-1)
        _descend(h_FR[block], residual_SR, gram_FF[block, block])
        moved_R = torch.maximum(moved_R, (h_FR[block] - before_SR).abs().amax(0))
    return moved_R


def _descend(h_SR: Tensor, residual_SR: Tensor, gram_SS: Tensor) -> None:
    """Set each unknown of a block to its best value given the others, in place, one after the other."""
    length_S = gram_SS.diagonal()
    step_S = torch.where(length_S > 0, 1 / length_S, 0.0)  # a row of zeros explains nothing: it stays at 0
    for i in range(len(h_SR)):
        best_R = (h_SR[i] + residual_SR[i] * step_S[i]).relu_()
        residual_SR[i + 1 :].addr_(gram_SS[i + 1 :, i], best_R - h_SR[i], alpha=-1)
        h_SR[i] = best_R
