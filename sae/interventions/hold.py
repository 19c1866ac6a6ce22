"""Holds features at a value, or keeps only some of them, while the model reads on.

What a dictionary does not reconstruct stays as it is when a feature is held: the activations change by what that
feature alone adds to the reconstruction. So it is in Towards Monosemanticity (Bricken et al. 2023), which subtracts a
feature from the activations on the whole context.

Shape suffixes: N blocks, C tokens of context, B activation vectors (blocks times tokens), D their width, F features,
S selected features.
"""

import torch
from torch import Tensor

from sae.common.errors import UserError
from sae.dictionary import Dictionary
from sae.measuring.metrics import rows_at_once
from sae.models.subject import Replace


def hook_point_of(dictionary: Dictionary) -> str:
    """Return the one hook point that a dictionary reads and writes.

    Raises UserError if it reads and writes different ones: a change of its features is not defined there.
    """
    if dictionary.reads != dictionary.writes or len(dictionary.reads) != 1:
        reads, writes = (" + ".join(names) or "nothing" for names in (dictionary.reads, dictionary.writes))
        raise UserError(
            f"dictionary {dictionary.name} reads {reads} and writes {writes}; features can be ablated only where a "
            "dictionary reads and writes one hook point"
        )
    return dictionary.reads[0]


def written(dictionary: Dictionary, acts_B: Tensor, features_B: Tensor, x_BD: Tensor) -> Tensor:
    """Return what one feature of each vector adds to its reconstruction, [B, D].

    Args:
        acts_B: the feature's activation; decoding is linear, so that a difference of two gives the difference.
        features_B: the feature's index.
        x_BD: the vectors, as they are encoded: the dictionary may normalise by their scale.
    """
    each_B = torch.arange(len(acts_B), device=acts_B.device)
    alone_BD = dictionary.decode_active(acts_B, features_B, each_B, x_BD)
    return alone_BD - dictionary.decode_active(torch.zeros_like(acts_B), features_B, each_B, x_BD)


def own_activations(dictionary: Dictionary, features_N: Tensor, x_NCD: Tensor) -> Tensor:
    """Return the activation of block n's own feature, features_N[n], at each of its tokens, [N, C]."""
    features_S, column_N = features_N.unique(return_inverse=True)
    encode = dictionary.encoder(features_S)
    x_BD = dictionary.in_context(x_NCD.float()).flatten(0, 1)
    parts = x_BD.split(rows_at_once(dictionary.n_features))
    acts_NCS = torch.cat([encode(part_BD) for part_BD in parts]).view(*x_NCD.shape[:2], -1)
    return acts_NCS.gather(2, column_N[:, None, None].expand(-1, x_NCD.shape[1], 1)).squeeze(2)


def changed(dictionary: Dictionary, features_N: Tensor, change_NC: Tensor, x_NCD: Tensor) -> Tensor:
    """Return activations [N, C, D] after block n's own feature has changed by change_NC[n]."""
    features_B = features_N.repeat_interleave(x_NCD.shape[1])
    encoded_BD = dictionary.in_context(x_NCD.float()).flatten(0, 1)
    return x_NCD.float() + written(dictionary, change_NC.flatten(), features_B, encoded_BD).view_as(x_NCD)


def hold(dictionary: Dictionary, features_N: Tensor, value_N: Tensor) -> Replace:
    """Return a change of activations that holds block n's feature features_N[n] at value_N[n] at every token.

    The value 0 ablates the feature, another one steers by it.
    """

    def replace(x_NCD: Tensor) -> Tensor:
        change_NC = value_N[:, None] - own_activations(dictionary, features_N, x_NCD)
        return changed(dictionary, features_N, change_NC, x_NCD)

    return replace


def keep(dictionary: Dictionary, features_S: Tensor) -> Replace:
    """Return a change of activations that puts in their place what these features alone reconstruct, with the bias."""
    kept_F = torch.zeros(dictionary.n_features, device=dictionary.W_enc_DF.device)
    kept_F[features_S] = 1
    rows = rows_at_once(dictionary.n_features)

    def replace(x_NCD: Tensor) -> Tensor:
        parts = dictionary.in_context(x_NCD.float()).flatten(0, 1).split(rows)
        return torch.cat([dictionary.decode(dictionary.encode(x_BD) * kept_F, x_BD) for x_BD in parts]).view_as(x_NCD)

    return replace
