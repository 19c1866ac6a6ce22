"""Makes dictionaries of files that hold an encoder, a decoder and their biases, under whatever names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae.formats.header import Header
from sae.formats.tensor_checks import require_tensor

if TYPE_CHECKING:
    from torch import Tensor

    from sae.dictionary import Activation, Dictionary


@dataclass(frozen=True)
class Layout:
    """Says how a format names its tensors and how its matrices lie; nothing is subtracted from the input."""

    W_enc: str = "W_enc"
    b_enc: str = "b_enc"
    W_dec: str = "W_dec"
    b_dec: str = "b_dec"
    encoder_rows: bool = False
    """Features are rows of the encoder, [m, d], not columns."""
    decoder_columns: bool = False
    """Features are columns of the decoder, [d, m], not rows."""

    def dictionary(
        self,
        header: Header,
        tensors: Mapping[str, Any],
        path: Path,
        activation: Activation,
        W_skip_DE: Tensor | None = None,
    ) -> Dictionary:
        """Return the dictionary that `header` describes. Raises UserError naming a tensor that does not fit."""
        from sae.dictionary import Dictionary

        d, m = header.d_in, header.n_features

        def matrix(name: str, rows: int, columns: int, turned: bool) -> Tensor:
            if not turned:
                return require_tensor(tensors, name, (rows, columns), path)
            return require_tensor(tensors, name, (columns, rows), path).T

        return Dictionary(
            name=header.name,
            kind="sae",
            W_enc_DF=matrix(self.W_enc, d, m, self.encoder_rows),
            b_enc_F=require_tensor(tensors, self.b_enc, (m,), path),
            W_dec_FD=matrix(self.W_dec, m, d, self.decoder_columns),
            b_dec_D=require_tensor(tensors, self.b_dec, (d,), path),
            activation=activation,
            subtract_b_dec=False,
            reads=header.reads,
            writes=header.writes,
            W_skip_DE=W_skip_DE,
            model=header.model,
        )
