"""Reads the folders of `dictionary_learning` (Marks, Karvonen, Mueller): `config.json` and `ae.pt`, a plain state dict.

Read from the library's `dictionary.py`, `trainers/*.py` and `utils.load_dictionary`, version 0.1.0, and for crosscoders
from its fork for model diffing (`crosscoder`). Any normalisation of an autoencoder's training data is already folded
into the biases, also in the intermediate files `checkpoints/ae_STEP.pt`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae.common.errors import UserError
from sae.formats import crosscoder
from sae.formats.crosscoder import CROSSCODERS
from sae.formats.header import Header, hook_points
from sae.formats.json_checks import optional_typed, positive_int, read_json, require, require_typed
from sae.formats.registry import FORMATS, Format
from sae.formats.safe_load import mapped, read_torch
from sae.formats.tensor_checks import require_k, require_tensor

if TYPE_CHECKING:
    from torch import Tensor

    from sae.dictionary import Activation, Dictionary

ABOUT, WEIGHTS = "config.json", "ae.pt"


@dataclass(frozen=True)
class Layout:
    """Describes how one class of the library names its tensors and treats its input."""

    b_dec: str
    """The name of the decoder's bias."""
    linear: bool = True
    """Weights are those of `nn.Linear` (`encoder.weight [m, d]`), not `W_enc [d, m]`."""
    subtract_b_dec: bool = True
    """The decoder's bias is subtracted from the input."""


LAYOUTS = {
    "AutoEncoder": Layout("bias"),
    "AutoEncoderNew": Layout("decoder.bias", subtract_b_dec=False),
    "GatedAutoEncoder": Layout("decoder_bias"),
    "AutoEncoderTopK": Layout("b_dec"),
    "BatchTopKSAE": Layout("b_dec"),
    "MatryoshkaBatchTopKSAE": Layout("b_dec", linear=False),
    "JumpReluAutoEncoder": Layout("b_dec", linear=False, subtract_b_dec=False),
}


def peek(location: Path) -> Header:
    """Read the config of a folder, or that of one file of its `checkpoints`."""
    path = _config(location)
    trainer, folder = _trainer(path), path.resolve().parent.name
    if trainer["dict_class"] in CROSSCODERS:
        return crosscoder.header(_state(_weights_file(location), shapes_only=True), trainer, path)
    module, io = optional_typed(trainer, "submodule_name", str, path) or "", _io(read_json(path), path)
    at = hook_points(_hook_point(module) if io == "out" else None)
    return Header(
        name=folder if location.is_dir() else f"{folder}-{location.stem}",
        d_in=positive_int(trainer, "activation_dim", path),
        n_features=positive_int(trainer, "dict_size", path),
        reads=at,
        writes=at,
        model=optional_typed(trainer, "lm_name", str, path) or None,
    )


def load(location: Path) -> Dictionary:
    """Read a folder or one file of its `checkpoints`. Raises UserError naming the tensor that does not fit."""
    from sae.dictionary import Dictionary

    about, header = _config(location), peek(location)
    trainer = _trainer(about)
    path = _weights_file(location)
    tensors = _state(path)
    if trainer["dict_class"] in CROSSCODERS:
        return crosscoder.dictionary(tensors, trainer, header, path)
    layout, d, m = LAYOUTS[trainer["dict_class"]], header.d_in, header.n_features
    W_enc_DF, b_enc_F, W_dec_FD = _weights(trainer["dict_class"], tensors, d, m, path)
    dictionary = Dictionary(
        name=header.name,
        kind="sae",
        W_enc_DF=W_enc_DF,
        b_enc_F=b_enc_F,
        W_dec_FD=W_dec_FD,
        b_dec_D=require_tensor(tensors, layout.b_dec, (d,), path),
        activation=_activation(trainer, tensors, m, path, about),
        subtract_b_dec=layout.subtract_b_dec,
        reads=header.reads,
        writes=header.writes,
        model=header.model,
        metadata={"dictionary_learning": trainer},
    )
    return _with_unit_decoder(dictionary) if trainer["dict_class"] == "AutoEncoder" else dictionary


def _weights_file(location: Path) -> Path:
    return location / WEIGHTS if location.is_dir() else location


def _config(location: Path) -> Path:
    """Return the config's path: a checkpoint's lies beside it or one folder above. Raises UserError without one."""
    if location.is_dir():
        return location / ABOUT
    for folder in (location.parent, location.resolve().parent.parent):
        if (folder / ABOUT).is_file():
            return folder / ABOUT
    raise UserError(
        f"{location}: a checkpoint of dictionary_learning needs its {ABOUT}, which is neither beside it nor in the "
        "folder above; copy it from the folder of the training"
    )


def _trainer(path: Path) -> dict[str, Any]:
    """Read the config's section on the autoencoder. Raises UserError if its class is not supported."""
    config = read_json(path)
    trainer = require_typed(config, "trainer", dict, path)
    name = require_typed(trainer, "dict_class", str, path)
    if name not in (known := (*LAYOUTS, *CROSSCODERS)):
        raise UserError(f"{path}: dict_class {name!r} is not supported ({', '.join(known)} are)")
    if _io(config, path) == "in_and_out":
        raise UserError(
            f"{path}: buffer.io is in_and_out; transcoders of this library are not supported, autoencoders are"
        )
    return trainer


def _io(config: dict[str, Any], path: Path) -> Any:
    """Return which side of its module was read: `out`, the default, `in` or `in_and_out`."""
    return (optional_typed(config, "buffer", dict, path) or {}).get("io", "out")


def _hook_point(name: str) -> str | None:
    """Translate the name that the library's users give a block's output. Returns None for any other module."""
    layer = re.fullmatch(r"resid_post_layer_(\d+)", name)
    return f"blocks.{int(layer[1])}.hook_resid_post" if layer else None


def _state(path: Path, shapes_only: bool = False) -> dict[str, Any]:
    """Read the state dict; an interrupted training saves it beside its optimiser's, under "ae".

    The names of a compiled module have a prefix, which is left out.
    """
    values = read_torch(path, shapes_only)
    inner = values.get("ae")
    state = mapped(inner, path) if isinstance(inner, dict) else values
    return {str(name).removeprefix("_orig_mod."): value for name, value in state.items()}


def _weights(name: str, tensors: dict[str, Any], d: int, m: int, path: Path) -> tuple[Tensor, Tensor, Tensor]:
    """Return W_enc_DF, b_enc_F and W_dec_FD."""
    if not LAYOUTS[name].linear:
        W_enc_DF, W_dec_FD = (
            require_tensor(tensors, "W_enc", (d, m), path),
            require_tensor(tensors, "W_dec", (m, d), path),
        )
        return W_enc_DF, require_tensor(tensors, "b_enc", (m,), path), W_dec_FD
    W_enc_DF = require_tensor(tensors, "encoder.weight", (m, d), path).T
    gated = name == "GatedAutoEncoder"  # its biases are the activation's
    b_enc_F = W_enc_DF.new_zeros(m) if gated else require_tensor(tensors, "encoder.bias", (m,), path)
    return W_enc_DF, b_enc_F, require_tensor(tensors, "decoder.weight", (d, m), path).T


def _activation(trainer: dict[str, Any], tensors: dict[str, Any], m: int, path: Path, about: Path) -> Activation:
    from sae.dictionary import Gated, JumpReLU, ReLU, TopK

    match trainer["dict_class"]:
        case "GatedAutoEncoder":
            b_gate_F, r_mag_F, b_mag_F = (
                require_tensor(tensors, name, (m,), path) for name in ("gate_bias", "r_mag", "mag_bias")
            )
            return Gated(b_gate_F, r_mag_F, b_mag_F)
        case "AutoEncoderTopK":
            return TopK(_k(trainer, tensors, m, path, about))
        case "BatchTopKSAE" | "MatryoshkaBatchTopKSAE":
            # a negative threshold (the library's -1: never set) lets every positive value through, there as here
            return JumpReLU(require_tensor(tensors, "threshold", (), path).float().expand(m))
        case "JumpReluAutoEncoder":
            return JumpReLU(require_tensor(tensors, "threshold", (m,), path))
        case _:
            return ReLU()


def _k(trainer: dict[str, Any], tensors: dict[str, Any], m: int, path: Path, about: Path) -> int:
    """Return the k of config and weights. Raises UserError if they differ."""
    configured = require_k(require(trainer, "k", about), m, about)
    saved = require_k(require_tensor(tensors, "k", (), path).item(), m, path)
    if configured != saved:
        raise UserError(f"{path}: k is {saved}, but {ABOUT} says {configured}; they belong to two autoencoders")
    return saved


def _with_unit_decoder(dictionary: Dictionary) -> Dictionary:
    """Rescale decoder rows to norm 1 and features by the inverse, as the library does when it loads an AutoEncoder."""
    import torch

    from sae.products import row_norms

    norms_F = row_norms(dictionary.W_dec_FD)
    norms_F = norms_F.where(norms_F > 0, 1.0)
    if torch.allclose(norms_F, torch.ones_like(norms_F)):
        return dictionary
    return replace(  # in place: the pages that are written to are no longer the file's
        dictionary,
        W_enc_DF=dictionary.W_enc_DF.float().mul_(norms_F),
        b_enc_F=dictionary.b_enc_F * norms_F,
        W_dec_FD=dictionary.W_dec_FD.float().div_(norms_F[:, None]),
    )


FORMATS.register(
    "dictionary_learning",
    Format(
        "dictionary_learning",
        f"a folder with {ABOUT} and {WEIGHTS}, or a file ae_STEP.pt of its checkpoints",
        peek,
        load,
        marker=WEIGHTS,
        file_names=r"ae_\d+\.pt",
    ),
)
