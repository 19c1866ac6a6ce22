"""Reads circuit-tracer's cross-layer transcoders: `W_enc_0.safetensors`, `W_dec_0.safetensors`, ... and `config.yaml`.

Read from the library's `transcoder/cross_layer_transcoder.py`. Layer i's encoder file has `W_enc_i [m, d]`, `b_enc_i`,
`b_dec_i` and perhaps `threshold_i`; its decoder `W_dec_i [m, layers - i, d]` writes layer i and all later ones, the
last included. The folder is the whole transcoder, an encoder's file the features of its layer.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from sae.common.errors import UserError
from sae.formats.circuit_tracer import ABOUT, config_of, hook_points_of
from sae.formats.cross_layer import Layer, joined
from sae.formats.header import Header
from sae.formats.json_checks import optional_typed
from sae.formats.registry import FORMATS, Format
from sae.formats.safe_load import length_of, read_shapes, read_tensors
from sae.formats.tensor_checks import require_tensor

if TYPE_CHECKING:
    from sae.dictionary import Dictionary

OTHER = "whose layers share one top-k (ByteDance's)"
NAME = r"W_enc_(\d+)\.safetensors"


def peek(location: Path) -> Header:
    """Read config.yaml and the shapes of the biases."""
    folder, n_layers = _layers(location)
    if (folder / "config.json").is_file() and not (folder / ABOUT).is_file():
        raise UserError(f"{folder}: a cross-layer transcoder with config.json, {OTHER}, is not supported")
    about = config_of(folder)
    reads, writes = hook_points_of(about, folder / ABOUT)
    numbers = range(n_layers) if location.is_dir() else [_number(location)]
    shapes = [(i, _encoder(folder, i), read_shapes(_encoder(folder, i))) for i in numbers]
    name = folder.resolve().name
    return Header(
        name=name if location.is_dir() else f"{name}-layer_{numbers[0]}",
        d_in=sum(length_of(each, f"b_dec_{i}", path) for i, path, each in shapes),
        n_features=sum(length_of(each, f"b_enc_{i}", path) for i, path, each in shapes),
        reads=tuple(f"blocks.{i}.{reads}" for i in numbers),
        writes=tuple(f"blocks.{i}.{writes}" for i in range(numbers[0], n_layers)),
        model=optional_typed(about, "model_name", str, folder / ABOUT),
        processing={},  # the library loads models unprocessed
    )


def load(location: Path) -> Dictionary:
    """Read one layer, or all. Raises UserError if a file is damaged or missing, or a tensor does not fit."""
    header, (folder, n_layers) = peek(location), _layers(location)
    if not location.is_dir():
        return _layer(folder, _number(location), n_layers).alone(header)
    layers = (_layer(folder, i, n_layers) for i in range(n_layers))
    return joined(layers, header, f"give one layer: {_encoder(folder, 0)}")


def _layer(folder: Path, i: int, n_layers: int) -> Layer:
    path, decoder = _encoder(folder, i), folder / _decoder(i)
    tensors, shapes = read_tensors(path), read_shapes(path)
    d, m = length_of(shapes, f"b_dec_{i}", path), length_of(shapes, f"b_enc_{i}", path)
    has_threshold = f"threshold_{i}" in tensors
    return Layer(
        W_enc_DF=require_tensor(tensors, f"W_enc_{i}", (m, d), path).T,
        b_enc_F=require_tensor(tensors, f"b_enc_{i}", (m,), path),
        W_dec_FE=require_tensor(read_tensors(decoder), f"W_dec_{i}", (m, n_layers - i, d), decoder).flatten(1),
        b_dec_D=require_tensor(tensors, f"b_dec_{i}", (d,), path),
        own=0,
        threshold_F=require_tensor(tensors, f"threshold_{i}", (m,), path) if has_threshold else None,
    )


def _layers(location: Path) -> tuple[Path, int]:
    """Return the folder and the number of layers. Raises UserError if one is missing or only some have thresholds."""
    folder = location if location.is_dir() else location.parent
    numbers = sorted(_number(path) for path in folder.iterdir() if re.fullmatch(NAME, path.name))
    if numbers != list(range(len(numbers))):
        raise UserError(f"{folder} has W_enc_N.safetensors of some layers only; copy all of the release's folder")
    without = [i for i in numbers if f"threshold_{i}" not in read_shapes(_encoder(folder, i))]
    if 0 < len(without) < len(numbers):
        raise UserError(f"{_encoder(folder, without[0])} lacks 'threshold_{without[0]}', which other layers have")
    return folder, len(numbers)


def _encoder(folder: Path, i: int) -> Path:
    return folder / f"W_enc_{i}.safetensors"


def _decoder(i: int) -> str:
    return f"W_dec_{i}.safetensors"


def _number(path: Path) -> int:
    match = re.fullmatch(NAME, path.name)
    assert match is not None
    return int(match[1])


FORMATS.register(
    "circuit_tracer_layers",
    Format(
        "circuit_tracer_layers",
        f"a folder with W_enc_0.safetensors, W_dec_0.safetensors, ... and {ABOUT}, or one of its W_enc_N.safetensors",
        peek,
        load,
        marker="W_enc_0.safetensors",
        file_names=NAME,
        in_parts=True,
        reads=(ABOUT, "W_enc_*.safetensors", "W_dec_*.safetensors"),
        also=lambda path: [] if path.is_dir() else [path.parent / ABOUT, path.parent / _decoder(_number(path))],
    ),
)
