"""Reads Llama Scope (He et al. 2024): `hyperparams.json` and `checkpoints/final.safetensors` of OpenMOSS' library.

Read from that library (Language-Model-SAEs). The input is scaled such that the dataset's average norm becomes sqrt(d),
the output back; a feature is active where its pre-activation times its decoder's norm is above one threshold. SAELens
multiplies the threshold by the scale, too; that library does not.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae.common.errors import UserError
from sae.formats.header import Header
from sae.formats.json_checks import positive_int, read_json, require, require_typed, short_repr
from sae.formats.registry import FORMATS, Format
from sae.formats.safe_load import read_tensors
from sae.formats.tensor_checks import require_tensor

if TYPE_CHECKING:
    from sae.dictionary import Dictionary

ABOUT, WEIGHTS = "hyperparams.json", "checkpoints/final.safetensors"
REQUIRED = {
    "act_fn": "jumprelu",
    "norm_activation": "dataset-wise",
    "use_decoder_bias": True,
    "apply_decoder_bias_to_pre_encoder": False,
    "use_glu_encoder": False,
}
"""Options that change the forward pass, as all of the release have them."""


def peek(folder: Path) -> Header:
    """Read hyperparams.json. Raises UserError for options that the release does not have."""
    about, path = read_json(folder / ABOUT), folder / ABOUT
    for key, value in REQUIRED.items():
        if about.get(key, value) != value:
            raise UserError(f"{path}: {key} is {short_repr(about[key])}, which is not supported ({value} is)")
    reads, writes = (require_typed(about, f"hook_point_{end}", str, path) for end in ("in", "out"))
    name = folder.resolve().name
    return Header(
        name=name,
        d_in=positive_int(about, "d_model", path),
        n_features=positive_int(about, "d_sae", path),
        reads=(reads,),
        writes=(writes,),
        model="meta-llama/Llama-3.1-8B" if name.startswith("Llama3_1-8B-Base") else None,
        prepend_bos=True,
        processing={},
    )


def load(folder: Path) -> Dictionary:
    """Read both files. Raises UserError if one is damaged or a tensor does not fit."""
    from sae.dictionary import Dictionary, JumpReLU
    from sae.products import row_norms

    header, path, about = peek(folder), folder / WEIGHTS, read_json(folder / ABOUT)
    d, m, tensors = header.d_in, header.n_features, read_tensors(path)
    scale_in, scale_out = (d**0.5 / _number(_norms(about, folder), end, folder / ABOUT) for end in ("in", "out"))
    W_dec_FD = require_tensor(tensors, "decoder.weight", (d, m), path).T
    norm_F = row_norms(W_dec_FD).clamp_min(1e-30) if about.get("sparsity_include_decoder_norm", True) else 1.0
    b_enc_F = require_tensor(tensors, "encoder.bias", (m,), path)
    return Dictionary(
        name=header.name,
        kind="sae",
        W_enc_DF=require_tensor(tensors, "encoder.weight", (m, d), path).T,
        b_enc_F=b_enc_F,
        W_dec_FD=W_dec_FD,
        b_dec_D=require_tensor(tensors, "decoder.bias", (d,), path) / scale_out,
        activation=JumpReLU(b_enc_F.new_ones(m) * _number(about, "jump_relu_threshold", folder / ABOUT) / norm_F),
        subtract_b_dec=False,
        read_scale_D=b_enc_F.new_full((d,), scale_in),
        write_scale_E=b_enc_F.new_full((d,), scale_out),
        reads=header.reads,
        writes=header.writes,
        model=header.model,
    )


def _norms(about: dict[str, Any], folder: Path) -> dict[str, Any]:
    return require_typed(about, "dataset_average_activation_norm", dict, folder / ABOUT)


def _number(values: dict[str, Any], key: str, path: Path) -> float:
    """Return a positive number. Raises UserError if there is none."""
    value = require(values, key, path)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < float("inf"):
        raise UserError(f"{path}: {key} is {short_repr(value)}, expected a number above 0")
    return float(value)


FORMATS.register(
    "llama_scope",
    Format("llama_scope", f"a folder with {ABOUT} and {WEIGHTS}", peek, load, marker=ABOUT, reads=(ABOUT, WEIGHTS)),
)
