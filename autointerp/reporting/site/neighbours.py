"""Ranks the features nearest to each: those active together, and those with a like decoder direction.

Active together: by Pearson's r of the activations over a run's population. Sums are in double precision, so that every
machine shows the same digits (`autointerp verify` compares them). Shape suffixes: F features, B tokens of a block or
features of one, D the width of a decoder row.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autointerp.population import Population
from autointerp.records import FeatureRecord

NEAREST = 5
"""Features listed of the same dictionary, and of all others."""
MOST_PRODUCTS, FEWEST_TOKENS, BLOCK = 2e10, 2000, 4096
"""Multiplications that this may take (a second or two), tokens below which r says little, tokens at a time."""
ROWS, DECIMALS = 1024, 9
"""Decoder rows at a time, and decimals by which features are ranked: equal ones stay in their order."""
Floats = NDArray[np.float64]
LEAST = 0.005
"""Similarity below which none is listed; the pages would show it as 0.00."""
Ranked = tuple[tuple[int, float], ...]
"""Features by their index, with their r, largest first."""


@dataclass(frozen=True)
class Neighbours:
    """Holds the features nearest to each feature of a run."""

    size: int
    """Tokens over which r was computed, or the width of the decoder rows; 0 if nothing was computed."""
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
    return _ranked(tokens, [_correlations(populations, tokens)], dictionaries)


def nearest_by_decoder(features: Sequence[FeatureRecord]) -> Neighbours:
    """Rank features by the cosine of their decoder rows; rows are compared only where both write the same hook points.

    None are ranked if there are too many features, or if a feature of a run of an earlier version has no row.
    """
    rows = [feature.direction for feature in features if feature.direction is not None]
    if not rows or len(rows) < len(features) or len(rows) ** 2 * max(map(len, rows)) > MOST_PRODUCTS:
        return Neighbours(0)
    width, writes = max(map(len, rows)), np.array([feature.writes for feature in features], object)
    unit_FD = np.zeros((len(rows), width))
    for unit_D, row_D in zip(unit_FD, rows, strict=True):
        unit_D[: len(row_D)] = row_D
        unit_D /= max(float(np.linalg.norm(unit_D)), 1e-12)

    def blocks() -> Iterator[Floats]:
        for start in range(0, len(rows), ROWS):
            part = slice(start, start + ROWS)
            yield np.where(writes[part, None] == writes, unit_FD[part] @ unit_FD.T, -1.0)

    return _ranked(width, blocks(), [feature.id.dictionary for feature in features])


def _ranked(size: int, blocks: Iterable[Floats], dictionaries: Sequence[str]) -> Neighbours:
    """Rank the neighbours of features by similarity, which comes in blocks of rows [B, F]."""
    names, own, others = np.array(dictionaries, object), list[Ranked](), list[Ranked]()
    for similarity_BF in blocks:
        for similarity_F in similarity_BF.round(DECIMALS):
            is_same_F = names == names[len(own)]
            similarity_F[len(own)] = -1.0
            own.append(_largest(np.where(is_same_F, similarity_F, -1.0)))
            others.append(_largest(np.where(is_same_F, -1.0, similarity_F)))
    return Neighbours(size, tuple(own), tuple(others))


def _correlations(populations: Sequence[Population], tokens: int) -> NDArray[np.float64]:
    """Correlate all pairs over the first tokens, [F, F]; 0 where a feature is active nowhere there."""
    n = len(populations)
    products_FF, sums_F = np.zeros((n, n)), np.zeros(n)
    for start in range(0, tokens, BLOCK):
        acts_FB = _block(populations, start, min(start + BLOCK, tokens))
        products_FF += acts_FB @ acts_FB.T
        sums_F += acts_FB.sum(1)
    covariance_FF = products_FF - np.outer(sums_F, sums_F) / tokens
    deviation_F = np.sqrt(np.maximum(np.diag(covariance_FF), 0.0))
    inverse_F = np.divide(1.0, deviation_F, out=np.zeros(n), where=deviation_F > 0)
    return covariance_FF * inverse_F * inverse_F[:, None]


def _block(populations: Sequence[Population], start: int, end: int) -> Floats:
    acts_FB = np.zeros((len(populations), end - start))
    for acts_B, population in zip(acts_FB, populations, strict=True):
        low, high = np.searchsorted(population.position_A, [start, end])
        acts_B[population.position_A[low:high] - start] = population.value_A[low:high]
    return acts_FB


def _largest(r_F: Floats) -> Ranked:
    least = max(LEAST, float(np.partition(r_F, -NEAREST)[-NEAREST])) if len(r_F) > NEAREST else LEAST
    index_N = np.flatnonzero(r_F >= least)
    order = index_N[np.argsort(-r_F[index_N], kind="stable")][:NEAREST].tolist()
    return tuple((index, round(float(r_F[index]), 3)) for index in order)
