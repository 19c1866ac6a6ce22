"""Makes dictionaries of cross-layer transcoders and crosscoders whose features each read one layer, a file a layer.

Shape suffixes: D the width of one hook point, F features of one layer, E the width of all that they write.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
        from sae.dictionary import Dictionary

        first = self.own * len(self.W_enc_DF)
        b_dec_E, skip = self.b_dec_D.new_zeros(self.W_dec_FE.shape[1]), self.W_skip_DD
        b_dec_E[first : first + len(self.b_dec_D)] = self.b_dec_D
        W_skip_DE = None if skip is None else skip.new_zeros(len(skip), len(b_dec_E))
        if W_skip_DE is not None and skip is not None:
            W_skip_DE[:, first : first + len(skip)] = skip
        return Dictionary(
            name=header.name,
            kind="sae",
            W_enc_DF=self.W_enc_DF,
            b_enc_F=self.b_enc_F,
            W_dec_FD=self.W_dec_FE,
            b_dec_D=b_dec_E,
            activation=_activation([] if self.threshold_F is None else [self.threshold_F]),
            subtract_b_dec=False,
            reads=header.reads,
            writes=header.writes,
            W_skip_DE=W_skip_DE,
            is_part=True,
            model=header.model,
        )


def joined(layers: Iterable[Layer], header: Header, remedy: str) -> Dictionary:
    """Return all layers as one dictionary; layer i's feature f has the number of all features before that layer plus f.

    Every feature reads its own layer only, so that the encoder has zeros elsewhere. The last layer writes the last hook
    points, as all do; layers are taken one after another, so that none but the last is held beside the whole.

    Raises UserError with the remedy if the whole does not fit into memory.
    """
    import torch

    from sae.dictionary import Dictionary

    d, m = header.d_in, header.n_features
    b_dec_D = torch.zeros(d)
    biases: list[Tensor] = []
    thresholds: list[Tensor] = []
    W_enc_DF = W_dec_FD = torch.empty(0)
    W_skip_DE: Tensor | None = None
    row = column = 0
    for layer in layers:
        if not row:
            _refuse_too_large(header, layer, remedy)
            W_enc_DF, W_dec_FD = layer.W_enc_DF.new_zeros(d, m), layer.W_dec_FE.new_zeros(m, d)
        width, features = layer.W_enc_DF.shape
        rows, columns = slice(row, row + width), slice(column, column + features)
        first = d - layer.W_dec_FE.shape[1]
        own = slice(first + layer.own * width, first + (layer.own + 1) * width)
        W_enc_DF[rows, columns] = layer.W_enc_DF
        W_dec_FD[columns, first:] = layer.W_dec_FE
        b_dec_D[own] += layer.b_dec_D
        biases.append(layer.b_enc_F)
        thresholds += [] if layer.threshold_F is None else [layer.threshold_F]
        if layer.W_skip_DD is not None:
            W_skip_DE = layer.W_skip_DD.new_zeros(d, d) if W_skip_DE is None else W_skip_DE
            W_skip_DE[rows, own] = layer.W_skip_DD
        row, column = row + width, column + features
    return Dictionary(
        name=header.name,
        kind="sae",
        W_enc_DF=W_enc_DF,
        b_enc_F=torch.cat(biases),
        W_dec_FD=W_dec_FD,
        b_dec_D=b_dec_D,
        activation=_activation(thresholds),
        subtract_b_dec=False,
        reads=header.reads,
        writes=header.writes,
        W_skip_DE=W_skip_DE,
        model=header.model,
    )


def _refuse_too_large(header: Header, layer: Layer, remedy: str) -> None:
    """Raise UserError if the whole, whose matrices hold many zeros, does not fit into memory."""
    needed = float(header.n_features) * header.d_in * (layer.W_enc_DF.itemsize + layer.W_dec_FE.itemsize)
    refuse_beyond_memory(needed, f"all layers of {header.name} as one dictionary", remedy)


def _activation(thresholds: Sequence[Tensor]) -> Activation:
    import torch

    from sae.dictionary import JumpReLU, ReLU

    return JumpReLU(torch.cat(list(thresholds))) if thresholds else ReLU()
