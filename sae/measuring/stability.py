"""Measures how stable features are: whether they reappear in dictionaries that were trained from other seeds.

Features of two dictionaries are matched one to one (the Hungarian method) such that the sum of the cosines of their
encoder and of their decoder directions is largest; a feature reappears if both cosines of its pair reach THRESHOLD, as
in Paulo and Belrose (2025, arXiv 2501.16615). The share of other seeds in which it does estimates the probability that
it reappears in an independent training, the stability of Gerasimov et al. (2026, arXiv 2606.12138). PW-MCC (Song et al.
2025, arXiv 2505.20254) is the mean absolute cosine of decoder directions, matched one to one such that it is largest,
over all pairs of dictionaries.

Shape suffixes: D width of a direction, F features of A, G features of B.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sae.common.progress import Report, Silent
from sae.dictionary import Dictionary
from sae.measuring.directions import read_directions, write_directions

THRESHOLD = 0.7
"""The cosine that encoder and decoder directions of a pair have to reach."""
MOST_FEATURES = 8192
"""Features of a dictionary that are matched: time grows with the third power, to half a minute a pair."""
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Stability:
    """Holds how far one dictionary's features reappear in those of the other seeds."""

    reappears_F: NDArray[np.float64]
    """Share of the others in which a feature reappears."""
    cosine_F: NDArray[np.float64]
    """The smaller cosine of its pair, of encoder and decoder directions; the mean over the others."""
    pw_mcc: float
    """Of all these dictionaries."""


def stability(dictionaries: Sequence[Dictionary], report: Report = Silent) -> list[Stability]:
    """Match every pair of at least two dictionaries that differ in their seed.

    Raises ValueError if one is of another width or size, or if they are too large to be matched.
    """
    shapes = {(tuple(one.W_enc_DF.shape), tuple(one.W_dec_FD.shape)) for one in dictionaries}
    if len(dictionaries) < 2 or len(shapes) > 1 or dictionaries[0].n_features > MOST_FEATURES:
        raise ValueError(f"no dictionaries that can be matched: {sorted(shapes)}")
    n, n_features = len(dictionaries), dictionaries[0].n_features
    sides = [(_unit(read_directions(one)), _unit(write_directions(one))) for one in dictionaries]
    smaller_NNF, correlations = np.zeros((n, n, n_features)), list[float]()
    pairs = list(combinations(range(n), 2))
    with report("matching features over seeds") as progress:
        for done, (a, b) in enumerate(pairs, start=1):
            encoder_FG, decoder_FG = (one @ other.T for one, other in zip(sides[a], sides[b], strict=True))
            match_F = matched(encoder_FG + decoder_FG)
            rows_F = np.arange(n_features)
            smaller_NNF[a, b] = np.minimum(encoder_FG, decoder_FG)[rows_F, match_F]
            smaller_NNF[b, a, match_F] = smaller_NNF[a, b]
            correlations.append(mean_correlation(decoder_FG))
            progress.update(done, len(pairs))
    others = [[b for b in range(n) if b != a] for a in range(n)]
    pw_mcc = float(np.mean(correlations))
    return [
        Stability((smaller_NNF[a, b] >= THRESHOLD).mean(0), smaller_NNF[a, b].mean(0), pw_mcc)
        for a, b in enumerate(others)
    ]


def matched(similarity_FG: Floats) -> NDArray[np.intp]:
    """Return the G that is paired with each F, where the sum over the pairs is largest; there are as many of both."""
    from scipy.optimize import linear_sum_assignment

    _, match_F = linear_sum_assignment(similarity_FG, maximize=True)
    return np.asarray(match_F)


def mean_correlation(cosine_FG: Floats) -> float:
    """Return the mean absolute cosine of the pairs by which it is largest (MCC)."""
    absolute_FG = np.abs(cosine_FG)
    return float(absolute_FG[np.arange(len(absolute_FG)), matched(absolute_FG)].mean())


def _unit(w_FD: Tensor) -> Floats:
    """Scale to length 1; a zero direction stays zero, whose cosines are then 0."""
    w_FD = w_FD.detach().to("cpu", torch.float32)
    unit_FD: Floats = (w_FD / w_FD.norm(dim=1, keepdim=True).clamp_min(1e-12)).numpy()
    return unit_FD
