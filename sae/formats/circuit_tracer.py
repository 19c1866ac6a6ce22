"""Reads circuit-tracer's transcoder sets: `layer_0.safetensors`, ... and `config.yaml`; each file is one transcoder.

Read from the library's `transcoder/single_layer_transcoder.py`. `W_enc` and `W_dec` are `[m, d]`, the skip `[out, in]`;
a file with thresholds is JumpReLU, any other ReLU. config.yaml names the model and the hook points of a block.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae.common.errors import UserError
from sae.common.yaml_files import YamlError, parse
from sae.formats.header import Header
from sae.formats.json_checks import first_line, optional_typed, require_typed
from sae.formats.layout import Layout
from sae.formats.registry import FORMATS, Format
from sae.formats.safe_load import length_of, read_shapes, read_tensors
from sae.formats.tensor_checks import require_tensor

if TYPE_CHECKING:
    from sae.dictionary import Dictionary

ABOUT, NAME = "config.yaml", r"layer_(\d+)\.safetensors"


def peek(location: Path) -> Header:
    """Read config.yaml and the shapes of the biases. Raises UserError for a folder: each of its files is one."""
    if location.is_dir():
        n = sum(re.fullmatch(NAME, path.name) is not None for path in location.iterdir())
        raise UserError(f"{location} is a set of {n} transcoders; give one of them: {location / 'layer_0.safetensors'}")
    layer = re.fullmatch(NAME, location.name)
    assert layer is not None
    about, shapes = config_of(location.parent), read_shapes(location)
    reads, writes = hook_points_of(about, location.parent / ABOUT)
    return Header(
        name=f"{location.resolve().parent.name}-layer_{layer[1]}",
        d_in=length_of(shapes, "b_dec", location),
        n_features=length_of(shapes, "b_enc", location),
        reads=(f"blocks.{layer[1]}.{reads}",),
        writes=(f"blocks.{layer[1]}.{writes}",),
        model=optional_typed(about, "model_name", str, location.parent / ABOUT),
        processing={},  # the library loads models unprocessed
    )


def load(location: Path) -> Dictionary:
    """Read one transcoder. Raises UserError if its file is damaged or a tensor does not fit."""
    from sae.dictionary import JumpReLU, ReLU

    header, tensors, threshold = peek(location), read_tensors(location), "activation_function.threshold"
    d, m = header.d_in, header.n_features
    skip = require_tensor(tensors, "W_skip", (d, d), location).T if "W_skip" in tensors else None
    activation = JumpReLU(require_tensor(tensors, threshold, (m,), location)) if threshold in tensors else ReLU()
    return Layout(encoder_rows=True).dictionary(header, tensors, location, activation, skip)


def config_of(folder: Path) -> dict[str, Any]:
    """Read config.yaml. Raises UserError if it is missing or holds no mapping."""
    path = folder / ABOUT
    try:
        about = parse(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, YamlError) as error:
        raise UserError(
            f"cannot read {path}, which names the model and its hook points: {first_line(error)}"
        ) from error
    if not isinstance(about, dict):
        raise UserError(f"{path} does not hold a mapping")
    return about


def hook_points_of(about: dict[str, Any], path: Path) -> tuple[str, str]:
    """Return the names in a block of what is read and written. Raises UserError if they are missing or alike."""
    reads, writes = (require_typed(about, f"feature_{end}_hook", str, path) for end in ("input", "output"))
    if reads == writes:
        raise UserError(f"{path}: feature_input_hook and feature_output_hook are both {reads}")
    return reads, writes


FORMATS.register(
    "circuit_tracer",
    Format(
        "circuit_tracer",
        f"a file layer_N.safetensors of a transcoder set, with {ABOUT} beside it",
        peek,
        load,
        marker="layer_0.safetensors",
        file_names=NAME,
        in_parts=True,
        also=lambda path: [path.parent / ABOUT],
    ),
)
