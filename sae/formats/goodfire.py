"""Reads Goodfire's autoencoders of Llama's residual stream: one state dict, `Llama-3.1-8B-Instruct-SAE-l19.pth`.

Read from SAELens' loader of them, version 6.54: two linear layers with a ReLU between them, nothing subtracted. Model
and layer are in the file's name.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from sae.formats.header import Header, hook_points
from sae.formats.layout import Layout
from sae.formats.registry import FORMATS, Format
from sae.formats.safe_load import length_of, read_torch, shapes_of

if TYPE_CHECKING:
    from sae.dictionary import Dictionary

NAME = r"(.+)-SAE-l(\d+)\.pth?"
LAYOUT = Layout(
    "encoder_linear.weight", "encoder_linear.bias", "decoder_linear.weight", "decoder_linear.bias",
    encoder_rows=True, decoder_columns=True,
)  # fmt: skip


def peek(path: Path) -> Header:
    """Read the file's name and the shapes of the biases; the numbers stay on disk."""
    parts = re.fullmatch(NAME, path.name)
    assert parts is not None
    shapes, at = shapes_of(read_torch(path, shapes_only=True)), hook_points(f"blocks.{parts[2]}.hook_resid_post")
    return Header(
        name=path.stem,
        d_in=length_of(shapes, LAYOUT.b_dec, path),
        n_features=length_of(shapes, LAYOUT.b_enc, path),
        reads=at,
        writes=at,
        model=f"meta-llama/{parts[1]}" if parts[1].startswith("Llama") else None,
        processing={},
    )


def load(path: Path) -> Dictionary:
    """Read the file. Raises UserError if it is damaged or a tensor does not fit."""
    from sae.dictionary import ReLU

    return LAYOUT.dictionary(peek(path), read_torch(path), path, ReLU())


FORMATS.register("goodfire", Format("goodfire", "a file MODEL-SAE-lN.pth", peek, load, file_names=NAME))
