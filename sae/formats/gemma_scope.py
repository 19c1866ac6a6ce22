"""Gemma Scope (Lieberum et al. 2024): JumpReLU autoencoders of Gemma 2, one `params.npz` per folder.

The file holds tensors only; model and hook point are read from the release's own folder names
(`gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_71`) where the path still has them. Nothing is subtracted from
the input. Knows nothing of Gemma Scope 2, which is saved otherwise.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

from sae.errors import UserError
from sae.formats.header import Header, fitting, require, without_scaling

if TYPE_CHECKING:
    from torch import Tensor

    from sae.dictionary import Dictionary

WEIGHTS = "params.npz"
SITES = {"res": "hook_resid_post", "mlp": "hook_mlp_out", "att": "attn.hook_z"}


def peek(folder: Path) -> Header:
    path, place = folder / WEIGHTS, folder.resolve()
    biases = _tensors(path, "b_")
    release = re.search(r"gemma-scope-(\d+b)-(pt|it)-(\w+)", str(place))
    if release and release[3] not in SITES:
        raise UserError(f"{path}: Gemma Scope's {release[3]} are not supported ({', '.join(SITES)} are)")
    layer = re.search(r"/layer_(\d+)/", place.as_posix())
    return Header(
        name=place.name,
        d_in=require(biases, "b_dec", path).numel(),
        n_features=require(biases, "b_enc", path).numel(),
        hook_point=f"blocks.{layer[1]}.{SITES[release[3]]}" if release and layer else None,
        model=f"google/gemma-2-{release[1]}{'-it' if release[2] == 'it' else ''}" if release else None,
        prepend_bos=True,  # all were trained on text that begins with it
    )


def load(folder: Path) -> Dictionary:
    from sae.dictionary import Dictionary, JumpReLU

    header, path = peek(folder), folder / WEIGHTS
    d, m = header.d_in, header.n_features
    tensors = without_scaling(_tensors(path), path)
    return Dictionary(
        name=header.name,
        kind="sae",
        W_enc_DF=fitting(tensors, "W_enc", (d, m), path),
        b_enc_F=fitting(tensors, "b_enc", (m,), path),
        W_dec_FD=fitting(tensors, "W_dec", (m, d), path),
        b_dec_D=fitting(tensors, "b_dec", (d,), path),
        activation=JumpReLU(fitting(tensors, "threshold", (m,), path)),
        subtract_b_dec=False,
        hook_point=header.hook_point,
        model=header.model,
    )


def _tensors(path: Path, prefix: str = "") -> dict[str, Tensor]:
    """The arrays whose names begin so, in fp32; some releases write w_enc for W_enc. UserError if damaged."""
    import numpy as np
    import torch

    try:
        with np.load(path, allow_pickle=False) as arrays:
            names = [name for name in arrays if name.startswith(prefix)]
            return {re.sub("^w_", "W_", name): torch.from_numpy(arrays[name]).float() for name in names}
    except (OSError, EOFError, ValueError, TypeError, AttributeError, BadZipFile) as error:
        raise UserError(f"cannot read {path}: {str(error).splitlines()[0]}") from error
