"""Measures how the features of a dictionary split in a larger one of the same activations (Towards Monosemanticity).

Shape suffixes: B activation vectors, D their width, F features of the smaller dictionary, G of the larger one,
V vocabulary.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from sae.dictionary import Dictionary
from sae.measuring.directions import write_directions
from sae.measuring.metrics import rows_at_once


@dataclass(frozen=True)
class Splits:
    """Holds, of each feature of the larger dictionary, its nearest in the smaller one, by two similarities.

    A feature that is active on no vector, in either dictionary, has no neighbour: -1, and similarity 0.
    """

    by_cosine_G: Tensor
    cosine_G: Tensor
    """Cosine of the decoder directions."""
    by_firing_G: Tensor
    correlation_G: Tensor
    """Pearson's correlation of the activations."""
    live_F: Tensor
    """Whether the smaller dictionary's feature is active on some vector."""

    def children(self, least: float) -> Tensor:
        """Count of each feature of the smaller dictionary those of the larger one that are nearest to it by cosine, at
        `least` so near, [F].
        """
        near_G = (self.cosine_G >= least) & (self.by_cosine_G >= 0)
        return torch.bincount(self.by_cosine_G[near_G], minlength=len(self.live_F))


def active(dictionary: Dictionary, x_BD: Tensor) -> Tensor:
    """Return a dictionary's features of vectors [B, F], some rows at a time."""
    return torch.cat([dictionary.encode(part_BD) for part_BD in x_BD.split(rows_at_once(dictionary.n_features))])


def splits(smaller: Dictionary, larger: Dictionary, x_BD: Tensor) -> Splits:
    """Find the neighbours of the larger dictionary's features in the smaller one, on activation vectors [B, D]."""
    small_BF, large_BG = active(smaller, x_BD), active(larger, x_BD)
    live_F, live_G = (acts.amax(0) > 0 for acts in (small_BF, large_BG))
    cosine_GF = _unit(write_directions(larger), 1) @ _unit(write_directions(smaller), 1).T
    firing_GF = _unit(large_BG - large_BG.mean(0), 0).T @ _unit(small_BF - small_BF.mean(0), 0)
    nearest = [_nearest(values_GF.masked_fill(~live_F, -2), live_G) for values_GF in (cosine_GF, firing_GF)]
    return Splits(*nearest[0], *nearest[1], live_F)


def _unit(values: Tensor, dim: int) -> Tensor:
    values = values.double()
    unit: Tensor = values / values.norm(dim=dim, keepdim=True).clamp(min=1e-12)
    return unit


def _nearest(values_GF: Tensor, live_G: Tensor) -> tuple[Tensor, Tensor]:
    best_G, index_G = values_GF.max(1)
    defined_G = live_G & (best_G > -2)
    return index_G.masked_fill(~defined_G, -1), best_G.masked_fill(~defined_G, 0)


def token_shares(acts_BF: Tensor, tokens_B: Tensor, vocabulary: int) -> Tensor:
    """Return how each feature's activation is divided among the tokens on which it stands, [F, V]; 0 if it has none."""
    sums_VF = acts_BF.new_zeros(vocabulary, acts_BF.shape[1]).index_add_(0, tokens_B, acts_BF)
    shares_VF: Tensor = sums_VF / sums_VF.sum(0).clamp(min=1e-12)
    return shares_VF.T
