"""Reads Gemma Scope (Lieberum et al. 2024): JumpReLU autoencoders and transcoders of Gemma 2, a `params.npz` a folder.

The file holds tensors only; model and hook point are read from the release's own folder names
(`gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_71`) where the path still has them. Nothing is subtracted from
the input. A transcoder's file has the same tensors: without the release's folder names it is read as an autoencoder.
Gemma Scope 2 has another format (`gemma_scope_2`).
"""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from tokenize import TokenError
from typing import TYPE_CHECKING
from zipfile import BadZipFile, ZipFile

from sae.common.errors import UserError
from sae.formats.header import Header, hook_points
from sae.formats.json_checks import first_line
from sae.formats.layout import Layout
from sae.formats.registry import FORMATS, Format
from sae.formats.safe_load import MALFORMED, length_of, mapped
from sae.formats.tensor_checks import require_tensor, without_scaling

if TYPE_CHECKING:
    from torch import Tensor

    from sae.dictionary import Dictionary

WEIGHTS = "params.npz"
DAMAGED = (*MALFORMED, BadZipFile, zlib.error, TokenError, SyntaxError, MemoryError)
"""What numpy and zipfile raise on bytes that `savez` did not write; the last one for a header with huge sizes."""
UNNAMED = (
    "the release's folder names are not in its path, so it is taken for an autoencoder; a transcoder's file looks the "
    "same, and is one only below a folder called as the release (gemma-scope-...)"
)
SITES = {
    "res": ("hook_resid_post", "hook_resid_post"),
    "mlp": ("hook_mlp_out", "hook_mlp_out"),
    "att": ("attn.hook_z", "attn.hook_z"),
    "transcoders": ("ln2.hook_normalized", "hook_mlp_out"),
}
"""What each release reads and writes. The transcoders' input is normalised, not yet multiplied by the layer norm's
weights, as in SAELens' registry."""


def peek(folder: Path) -> Header:
    """Read the shapes of the biases, and the release's folder names."""
    path, resolved = folder / WEIGHTS, folder.resolve()
    shapes = _shapes(path)
    release = re.search(r"gemma-scope-(\d+b)-(pt|it)-(\w+)", str(resolved))
    if release and release[3] not in SITES:
        raise UserError(f"{path}: Gemma Scope's {release[3]} are not supported ({', '.join(SITES)} are)")
    layer = re.search(r"/layer_(\d+)/", resolved.as_posix())
    reads, writes = (
        [hook_points(f"blocks.{layer[1]}.{site}") if layer else () for site in SITES[release[3]]]
        if release
        else ((), ())
    )
    return Header(
        name=resolved.name,
        d_in=length_of(shapes, "b_dec", path),
        n_features=length_of(shapes, "b_enc", path),
        reads=reads,
        writes=writes,
        model=f"google/gemma-2-{release[1]}{'-it' if release[2] == 'it' else ''}" if release else None,
        prepend_bos=True,  # all were trained on text that begins with it
        processing={},  # and on the model as it was released
        notes=() if release else (UNNAMED,),
    )


def load(folder: Path) -> Dictionary:
    """Read params.npz. Raises UserError if it is damaged or a tensor does not fit."""
    from sae.dictionary import JumpReLU

    header, path = peek(folder), folder / WEIGHTS
    tensors = without_scaling(_tensors(path), path)
    activation = JumpReLU(require_tensor(tensors, "threshold", (header.n_features,), path))
    return Layout().dictionary(header, tensors, path, activation)


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Read the shapes of the biases by name, from the first bytes of each. Raises UserError if the file is damaged."""
    try:
        with ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist() if name.startswith("b_")]
            return {name: _shape(archive, f"{name}.npy") for name in names}
    except DAMAGED as error:
        raise UserError(f"cannot read {path}: {first_line(error)}") from error


def _shape(archive: ZipFile, name: str) -> tuple[int, ...]:
    from numpy.lib import format as npy

    with archive.open(name) as file:
        read = npy.read_array_header_1_0 if npy.read_magic(file) == (1, 0) else npy.read_array_header_2_0
        shape: tuple[int, ...] = read(file)[0]
        return shape


def _tensors(path: Path) -> dict[str, Tensor]:
    """Read the arrays; some releases write w_enc for W_enc. Raises UserError if the file is damaged."""
    import numpy as np
    import torch

    try:
        with np.load(path, allow_pickle=False) as arrays:
            tensors = {re.sub("^w_", "W_", name): torch.from_numpy(arrays[name]) for name in arrays}
    except DAMAGED as error:
        raise UserError(f"cannot read {path}: {first_line(error)}") from error
    return mapped(tensors, path)


FORMATS.register("gemma_scope", Format("gemma_scope", f"a folder with {WEIGHTS}", peek, load, marker=WEIGHTS))
