"""Makes dictionaries of cross-layer transcoders and crosscoders whose features each read one layer, a file a layer.

Shape suffixes: D the width of one hook point, F features of one layer, E the width of all that they write.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sae.common.memory import refuse_beyond_memory
from sae.formats.header import Header

if TYPE_CHECKING:
    from torch import Tensor

    from sae.dictionary import Activation, Dictionary


@dataclass(frozen=True)
class Layer:
    """Holds the weights of one layer's features."""

    W_enc_DF: Tensor
    b_enc_F: Tensor
    W_dec_FE: Tensor
    """The decoder to every hook point that the layer writes, side by side: the last ones of all."""
    b_dec_D: Tensor
    """The bias of the layer's own output."""
    own: int
    """The number of its own output among those that it writes."""
    threshold_F: Tensor | None = None
    """Of JumpReLU; None: ReLU."""
    W_skip_DD: Tensor | None = None
    """From what it reads to its own output."""

    def alone(self, header: Header) -> Dictionary:
        """Return a dictionary of this layer's features: it writes one summand of what all layers write."""
        return _dictionary(header, [self], self.W_dec_FE.shape[1], is_part=True)


def refuse_too_large(header: Header, d_out: int, remedy: str) -> None:
    """Raise UserError if all layers do not fit into memory as one dictionary, whose matrices hold many zeros."""
    needed = 4.0 * header.n_features * (header.d_in + d_out) * 2  # the layers themselves are held meanwhile
    refuse_beyond_memory(needed, f"all layers of {header.name} as one dictionary", remedy)


def joined(layers: Sequence[Layer], header: Header) -> Dictionary:
    """Return all layers as one dictionary; layer i's feature f has the number of all features before that layer plus f.

    Every feature reads its own layer only, so that the encoder has zeros elsewhere.
    """
    return _dictionary(header, layers, max(layer.W_dec_FE.shape[1] for layer in layers), is_part=False)


def _dictionary(header: Header, layers: Sequence[Layer], d_out: int, is_part: bool) -> Dictionary:
    import torch

    from sae.dictionary import Dictionary

    d, m = sum(len(layer.W_enc_DF) for layer in layers), sum(len(layer.b_enc_F) for layer in layers)
    W_enc_DF, W_dec_FD, b_dec_D = torch.zeros(d, m), torch.zeros(m, d_out), torch.zeros(d_out)
    W_skip_DE = torch.zeros(d, d_out) if any(layer.W_skip_DD is not None for layer in layers) else None
    row = column = 0
    for layer in layers:
        width, features = layer.W_enc_DF.shape
        rows, columns = slice(row, row + width), slice(column, column + features)
        first = d_out - layer.W_dec_FE.shape[1]
        own = slice(first + layer.own * width, first + (layer.own + 1) * width)
        W_enc_DF[rows, columns] = layer.W_enc_DF
        W_dec_FD[columns, first:] = layer.W_dec_FE
        b_dec_D[own] += layer.b_dec_D
        if W_skip_DE is not None and layer.W_skip_DD is not None:
            W_skip_DE[rows, own] = layer.W_skip_DD
        row, column = row + width, column + features
    return Dictionary(
        name=header.name,
        kind="sae",
        W_enc_DF=W_enc_DF,
        b_enc_F=torch.cat([layer.b_enc_F for layer in layers]),
        W_dec_FD=W_dec_FD,
        b_dec_D=b_dec_D,
        activation=_activation(layers),
        subtract_b_dec=False,
        reads=header.reads,
        writes=header.writes,
        W_skip_DE=W_skip_DE,
        is_part=is_part,
        model=header.model,
    )


def _activation(layers: Sequence[Layer]) -> Activation:
    import torch

    from sae.dictionary import JumpReLU, ReLU

    thresholds = [layer.threshold_F for layer in layers if layer.threshold_F is not None]
    return JumpReLU(torch.cat(thresholds)) if thresholds else ReLU()
