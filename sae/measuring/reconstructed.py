"""Lists the active features where those are few, and reconstructs activation vectors from such lists.

Shape suffixes: B activation vectors, D their width, E the width of what is written, F features.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from sae.dictionary import Dictionary
from sae.measuring.active import MOST_ACTIVE, Active, rows_in_cache

WIDE = 2048
"""Features from which on a list of the active ones is worth its making."""


class Reconstructed(NamedTuple):
    """Holds on how many vectors each feature is active, [F], and what is made of the vectors, [B, E]."""

    counts_F: Tensor
    y_hat_BE: Tensor


def can_list(dictionary: Dictionary, device: str | torch.device) -> bool:
    """Tell whether few features can be active on a vector, so that all others need no memory; on the CPU only."""
    return str(device) == "cpu" and dictionary.most_active <= MOST_ACTIVE * dictionary.n_features


def listed(dictionary: Dictionary, x_BD: Tensor) -> Active:
    """Encode vectors [B, D] of a dictionary that `can_list`."""
    return Active.of_largest(*dictionary.encode_largest(x_BD), dictionary.n_features)


def reconstructed(dictionary: Dictionary, x_BD: Tensor) -> Reconstructed:
    """Encode and decode vectors [B, D]."""
    if x_BD.device.type != "cpu" or dictionary.n_features < WIDE or not len(x_BD):
        return _from_all(dictionary, dictionary.encode(x_BD), x_BD)
    n_parts = -(-len(x_BD) // rows_in_cache(dictionary.n_features))
    counts, made = zip(*(_part(dictionary, part_BD) for part_BD in x_BD.tensor_split(n_parts)), strict=True)
    return Reconstructed(torch.stack(counts).sum(0), torch.cat(made))


def _part(dictionary: Dictionary, x_BD: Tensor) -> Reconstructed:
    if can_list(dictionary, x_BD.device):
        return _from_active(dictionary, listed(dictionary, x_BD), x_BD)
    features_BF = dictionary.encode(x_BD)
    active = Active.of(features_BF)
    return _from_active(dictionary, active, x_BD) if active else _from_all(dictionary, features_BF, x_BD)


def _from_all(dictionary: Dictionary, features_BF: Tensor, x_BD: Tensor) -> Reconstructed:
    return Reconstructed((features_BF > 0).sum(0), dictionary.decode(features_BF, x_BD))


def _from_active(dictionary: Dictionary, active: Active, x_BD: Tensor) -> Reconstructed:
    values_N = torch.from_numpy(active.values_N).to(x_BD.dtype)
    features_N, offsets_B = torch.from_numpy(active.features_N), torch.from_numpy(active.offsets_B)
    y_hat_BE = dictionary.decode_active(values_N, features_N, offsets_B, x_BD)
    return Reconstructed(torch.from_numpy(active.sums()), y_hat_BE)
