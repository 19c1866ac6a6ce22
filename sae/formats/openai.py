"""Reads OpenAI's `sparse_autoencoder` (Gao et al. 2024): one state dict per layer of GPT-2 small, `{layer}.pt`.

Read from the library's `model.py` and `paths.py`. The file names the activation function; the hook point is only in the
release's folder names (`resid_post_mlp_v5_32k/autoencoders/6.pt`) and is known where the path has them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae.common.errors import UserError
from sae.formats.header import Header, hook_points
from sae.formats.json_checks import optional_typed, require, require_typed, short_repr
from sae.formats.registry import FORMATS, Format
from sae.formats.safe_load import read_torch
from sae.formats.tensor_checks import require_k, require_tensor

if TYPE_CHECKING:
    from sae.dictionary import Activation, Dictionary

HOOK_POINTS = {
    "mlp_post_act": "mlp.hook_post",
    "resid_delta_attn": "hook_attn_out",
    "resid_post_attn": "hook_resid_mid",
    "resid_delta_mlp": "hook_mlp_out",
    "resid_post_mlp": "hook_resid_post",
}
RELEASE = re.compile(rf"/(({'|'.join(HOOK_POINTS)})(?:_v\w+)?)/autoencoders/(\d+)\.pt$")


def peek(path: Path) -> Header:
    """Read the shapes of the biases and the folder names; the numbers stay on disk."""
    return _header(path, read_torch(path, shapes_only=True))


def load(path: Path) -> Dictionary:
    """Read the file. Raises UserError if it is damaged or a tensor does not fit."""
    from sae.dictionary import Dictionary, TopK

    values = read_torch(path)
    header = _header(path, values)
    d, m = header.d_in, header.n_features
    activation = _activation(values, m, path)
    return Dictionary(
        name=header.name,
        kind="sae",
        W_enc_DF=require_tensor(values, "encoder.weight", (m, d), path).T,
        b_enc_F=require_tensor(values, "latent_bias", (m,), path),
        W_dec_FD=require_tensor(values, "decoder.weight", (d, m), path).T,
        b_dec_D=require_tensor(values, "pre_bias", (d,), path),
        activation=activation,
        normalisation="layer_norm" if isinstance(activation, TopK) else "none",  # the library ties it to the activation
        reads=header.reads,
        writes=header.writes,
        model=header.model,
    )


def _header(path: Path, values: dict[str, Any]) -> Header:
    release = RELEASE.search(path.absolute().as_posix())
    at = hook_points(f"blocks.{release[3]}.{HOOK_POINTS[release[2]]}" if release else None)
    return Header(
        name=f"{release[1]}-{release[3]}" if release else path.stem,
        d_in=_length(values, "pre_bias", path),
        n_features=_length(values, "latent_bias", path),
        reads=at,
        writes=at,
        model="gpt2" if release else None,
    )


def _length(values: dict[str, Any], name: str, path: Path) -> int:
    shape = getattr(require(values, name, path), "shape", None)
    if shape is None or len(shape) != 1 or not shape[0]:
        actual = short_repr(values[name]) if shape is None else f"of shape {list(shape)}"
        raise UserError(f"{path}: {name} is {actual}, expected a tensor of one dimension")
    return int(shape[0])


def _activation(values: dict[str, Any], m: int, path: Path) -> Activation:
    from sae.dictionary import ReLU, TopK

    match optional_typed(values, "activation", str, path) or "ReLU":
        case "ReLU":
            return ReLU()
        case "TopK":
            options = require_typed(values, "activation_state_dict", dict, path)
            after = optional_typed(options, "postact_fn", str, path)
            if after != "ReLU":
                raise UserError(
                    f"{path}: postact_fn {after!r} is not supported (ReLU is); features must not be negative"
                )
            return TopK(require_k(require(options, "k", path), m, path))
        case other:
            raise UserError(f"{path}: activation {other!r} is not supported (ReLU, TopK are)")


FORMATS.register(
    "openai",
    Format("openai", "a file LAYER.pt", peek, load, file_names=r"(?!ae\.pt$).*\.pt", catch_all=True),
)
