"""Ranks the features that are active together: by Pearson's r of their activations over a run's population.

Shape suffixes: F features, B tokens of a block.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autointerp.population import Population

NEAREST = 5
"""Features listed of the same dictionary, and of all others."""
MOST_PRODUCTS, FEWEST_TOKENS, BLOCK = 2e10, 2000, 4096
"""Multiplications that this may take (a second or two), tokens below which r says little, tokens at a time."""
Ranked = tuple[tuple[int, float], ...]
"""Features by their index, with their r, largest first; none below 0."""


@dataclass(frozen=True)
class Neighbours:
    """Holds the features nearest to each feature of a run."""

    tokens: int
    """Tokens over which r was computed; 0 if there are too many features for that."""
    own: tuple[Ranked, ...] = ()
    """Of the same dictionary, for each feature."""
    others: tuple[Ranked, ...] = ()
    """Of all other dictionaries."""


def nearest(populations: Sequence[Population], dictionaries: Sequence[str]) -> Neighbours:
    """Rank the neighbours of each feature; a feature's dictionary stands at the same index as its population."""
    if not populations:
        return Neighbours(0)
    tokens = min(populations[0].text.ids_ML.size, int(MOST_PRODUCTS / len(populations) ** 2))
    if tokens < FEWEST_TOKENS:
        return Neighbours(0)
    r_FF = _correlations(populations, tokens)
    np.fill_diagonal(r_FF, -1.0)
    names = np.array(dictionaries, object)
    same = [names == name for name in dictionaries]
    own = tuple(_largest(np.where(mask, r_F, -1.0)) for r_F, mask in zip(r_FF, same, strict=True))
    others = tuple(_largest(np.where(mask, -1.0, r_F)) for r_F, mask in zip(r_FF, same, strict=True))
    return Neighbours(tokens, own, others)


def _correlations(populations: Sequence[Population], tokens: int) -> NDArray[np.float64]:
    """Correlate all pairs over the first tokens, [F, F]; 0 where a feature is active nowhere there."""
    n = len(populations)
    products_FF, sums_F = np.zeros((n, n)), np.zeros(n)
    for start in range(0, tokens, BLOCK):
        acts_FB = _block(populations, start, min(start + BLOCK, tokens))
        products_FF += acts_FB @ acts_FB.T
        sums_F += acts_FB.sum(1, dtype=np.float64)
    covariance_FF = products_FF - np.outer(sums_F, sums_F) / tokens
    deviation_F = np.sqrt(np.maximum(np.diag(covariance_FF), 0.0))
    inverse_F = np.divide(1.0, deviation_F, out=np.zeros(n), where=deviation_F > 0)
    return covariance_FF * inverse_F * inverse_F[:, None]


def _block(populations: Sequence[Population], start: int, end: int) -> NDArray[np.float32]:
    acts_FB = np.zeros((len(populations), end - start), np.float32)
    for acts_B, population in zip(acts_FB, populations, strict=True):
        low, high = np.searchsorted(population.position_A, [start, end])
        acts_B[population.position_A[low:high] - start] = population.value_A[low:high]
    return acts_FB


def _largest(r_F: NDArray[np.float64]) -> Ranked:
    order = np.argsort(-r_F, kind="stable")[:NEAREST].tolist()
    return tuple((index, round(float(r_F[index]), 3)) for index in order if r_F[index] > 0)
