"""Computes the directions that features read and write, in the activations' own units.

A format may hold scales of what is read and written beside its weights. One scale for all dimensions turns no
direction; scales that differ, as a crosscoder's do from layer to layer, change cosines.

Shape suffixes: F features, S selected features, D the width of what is read, E of what is written.
"""

import torch
from torch import Tensor

from sae import products
from sae.dictionary import Dictionary, Gated, TopK


def read_directions(dictionary: Dictionary) -> Tensor:
    """Return the direction that each feature reads, [F, D], of any length; as it is stored where no scales differ."""
    return _turned(dictionary.W_enc_DF.T, dictionary.read_scale_D)


def write_directions(dictionary: Dictionary) -> Tensor:
    """Return the direction that each feature writes, [F, E], of any length; as it is stored where no scales differ."""
    scale_E = dictionary.write_scale_E
    return _turned(dictionary.W_dec_FD, None if scale_E is None else 1 / scale_E)


def _turned(W_FD: Tensor, scale_D: Tensor | None) -> Tensor:
    """Multiply each dimension by its scale, unless all have the same."""
    if scale_D is None or bool((scale_D == scale_D[0]).all()):
        return W_FD
    return W_FD.float() * scale_D


def unit_reads(dictionary: Dictionary, features_S: Tensor) -> Tensor:
    """Return by how much features rise with each number of what is read, where they are active, [S, D], in fp32.

    Where each vector is normalised, it is with each number after that.
    """
    W_SD = dictionary.W_enc_DF[:, features_S].float().T
    W_SD = W_SD if dictionary.read_scale_D is None else W_SD * dictionary.read_scale_D
    match dictionary.activation:
        case TopK(scale_F=Tensor() as scale_F):
            return W_SD * scale_F[features_S, None]
        case Gated(r_mag_F=r_mag_F):
            return W_SD * r_mag_F[features_S, None].exp()
    return W_SD


def unit_lengths(dictionary: Dictionary) -> Tensor:
    """Return the norm of each row of the dictionary's `unit_writes`, [F], without a copy of all of them."""
    features_F = torch.arange(dictionary.n_features, device=dictionary.W_dec_FD.device)
    parts = [dictionary.unit_writes(features_F[part]) for part in products.slices(*dictionary.W_dec_FD.shape)]
    return torch.cat([part_SE.norm(dim=1) for part_SE in parts])
