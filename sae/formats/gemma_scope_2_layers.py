"""Reads Gemma Scope 2's cross-layer transcoders and crosscoders: `params_layer_0.safetensors`, ... and `config.json`.

Read from the formula of the release's tutorial and circuit-tracer's loader. Layer i's file has the features that read
the i-th hook point, `w_enc [d, m]`, with their decoder to all of them, `w_dec [m, layers, d]`; those of earlier layers
are zero in a cross-layer transcoder. The folder is the whole, a file in it the features of one layer.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae.common.errors import UserError
from sae.formats.cross_layer import Layer, joined
from sae.formats.gemma_scope_2 import ABOUT, config_of, hook_point_of, model_of
from sae.formats.header import Header
from sae.formats.json_checks import require_typed
from sae.formats.registry import FORMATS, Format
from sae.formats.safe_load import length_of, read_shapes, read_tensors
from sae.formats.tensor_checks import require_tensor

if TYPE_CHECKING:
    from sae.dictionary import Dictionary

NAME = r"params_layer_(\d+)\.safetensors"


def peek(location: Path) -> Header:
    """Read config.json and the shapes of the biases."""
    folder, files = _files(location)
    about, resolved = _config(folder), folder.resolve()
    writes = _hook_points(about, "hf_hook_point_out", len(files), folder / ABOUT)
    reads = _hook_points(about, "hf_hook_point_in", len(files), folder / ABOUT)
    read = files if location.is_dir() else [location]
    shapes = [(path, read_shapes(path)) for path in read]
    return Header(
        name=resolved.name if location.is_dir() else f"{resolved.name}-layer_{_number(location)}",
        d_in=sum(length_of(each, "b_dec", path) for path, each in shapes),
        n_features=sum(length_of(each, "b_enc", path) for path, each in shapes),
        reads=reads if location.is_dir() else (reads[_number(location)],),
        writes=writes,
        model=model_of(about, resolved, folder / ABOUT),
        prepend_bos=True,
        processing={},
    )


def load(location: Path) -> Dictionary:
    """Read one layer, or all. Raises UserError if a file is damaged or missing, or a tensor does not fit."""
    header, (folder, files) = peek(location), _files(location)
    if not location.is_dir():
        return _layer(location, len(files), folder).alone(header)
    layers = (_layer(path, len(files), folder) for path in files)
    return joined(layers, header, f"give one layer: {files[0]}")


def _layer(path: Path, n_layers: int, folder: Path) -> Layer:
    tensors, shapes = read_tensors(path), read_shapes(path)
    d, m = length_of(shapes, "b_dec", path), length_of(shapes, "b_enc", path)
    affine = folder.resolve().name.endswith("_affine") or _config(folder).get("affine_connection")
    has_skip = affine or "affine_skip_connection" in tensors
    return Layer(
        W_enc_DF=require_tensor(tensors, "w_enc", (d, m), path),
        b_enc_F=require_tensor(tensors, "b_enc", (m,), path),
        W_dec_FE=require_tensor(tensors, "w_dec", (m, n_layers, d), path).flatten(1),
        b_dec_D=require_tensor(tensors, "b_dec", (d,), path),
        own=_number(path),
        threshold_F=require_tensor(tensors, "threshold", (m,), path),
        W_skip_DD=require_tensor(tensors, "affine_skip_connection", (d, d), path) if has_skip else None,
    )


def _files(location: Path) -> tuple[Path, list[Path]]:
    """Return the folder and all files of layers, by their numbers. Raises UserError if one is missing between them."""
    folder = location if location.is_dir() else location.parent
    files = [path for path in folder.iterdir() if re.fullmatch(NAME, path.name)]
    files.sort(key=_number)
    if [_number(path) for path in files] != list(range(len(files))):
        raise UserError(
            f"{folder} has params_layer_N.safetensors of some layers only; copy all of the release's folder"
        )
    return folder, files


def _number(path: Path) -> int:
    match = re.fullmatch(NAME, path.name)
    assert match is not None
    return int(match[1])


def _config(folder: Path) -> dict[str, Any]:
    if not (folder / ABOUT).is_file():
        raise UserError(f"{folder} lacks {ABOUT}, which names the hook points; copy it from the release's folder")
    return config_of(folder)


def _hook_points(about: dict[str, Any], key: str, n_files: int, path: Path) -> tuple[str, ...]:
    """Return the hook points of `model.layers.{5,9}.output`, or of `model.layers.{all}.output` one for each file.

    Raises UserError if they are not as many as the files.
    """
    name = require_typed(about, key, str, path)
    layers = re.search(r"\{(all|\d+(?:,\d+)*)\}", name)
    numbers = [] if not layers else range(n_files) if layers[1] == "all" else [int(n) for n in layers[1].split(",")]
    if not layers or len(numbers) != n_files:
        raise UserError(f"{path}: {key} is {name}, but there are {n_files} files params_layer_N.safetensors")
    return tuple(hook_point_of(name.replace(layers[0], str(number)), path) for number in numbers)


FORMATS.register(
    "gemma_scope_2_layers",
    Format(
        "gemma_scope_2_layers",
        f"a folder with params_layer_0.safetensors, ... and {ABOUT}, or one of its layers",
        peek,
        load,
        marker="params_layer_0.safetensors",
        file_names=NAME,
        in_parts=True,
        reads=(ABOUT, "params_layer_*.safetensors"),
        also=lambda path: [] if path.is_dir() else [path.parent / ABOUT],
    ),
)
