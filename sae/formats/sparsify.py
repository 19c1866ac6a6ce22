"""Reads EleutherAI's `sparsify`: one folder per hook point, `cfg.json` and `sae.safetensors`.

Read from the library's `sparse_coder.py` and `fused_encoder.py`, version 1.3.3. The hook point is the folder's name,
a module of the Hugging Face model; the model is named by the run's `config.json` in the folder above, if it is there.
A transcoder reads what goes into that module and writes what comes out of it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae.common.errors import UserError
from sae.formats.header import Header, hook_points
from sae.formats.json_checks import optional_typed, positive_int, read_json, require, short_repr
from sae.formats.registry import FORMATS, Format
from sae.formats.safe_load import read_tensors
from sae.formats.tensor_checks import require_k, require_tensor

if TYPE_CHECKING:
    from torch import Tensor

    from sae.dictionary import Activation, Dictionary

ABOUT, WEIGHTS, RUN = "cfg.json", "sae.safetensors", "config.json"
HOOK_POINTS = {"": "hook_resid_post", ".mlp.act": "mlp.hook_post"}
"""TransformerLens' names for modules of one block; the hook points of other modules depend on the model."""

UNSUPPORTED = {"signed": "features must not be negative"}
"""Options of cfg.json that a dictionary cannot express (`signed` is of older versions)."""


def peek(folder: Path) -> Header:
    """Read cfg.json, and the run's config.json in the folder above if it is there."""
    config, resolved, path = _config(folder), folder.resolve(), folder / ABOUT
    d, run = positive_int(config, "d_in", path), resolved.parent / RUN
    reads, writes = _ends(resolved.name, _transcodes(config), path)
    explicit = config.get("num_latents")  # 0: the number follows from the factor
    return Header(
        name=resolved.name,
        d_in=d,
        n_features=positive_int(config, "num_latents", path)
        if explicit
        else d * positive_int(config, "expansion_factor", path),
        reads=reads,
        writes=writes,
        model=optional_typed(read_json(run), "model", str, run) if run.is_file() else None,
        processing={},  # the library loads models of Hugging Face, as they are
    )


def load(folder: Path) -> Dictionary:
    """Read both files. Raises UserError for what a dictionary cannot express and for tensors that do not fit."""
    from sae.dictionary import Dictionary

    config, header, path = _config(folder), peek(folder), folder / WEIGHTS
    d, m = header.d_in, header.n_features
    tensors = read_tensors(path)
    return Dictionary(
        name=header.name,
        kind="sae",
        W_enc_DF=require_tensor(tensors, "encoder.weight", (m, d), path).T,
        b_enc_F=require_tensor(tensors, "encoder.bias", (m,), path),
        W_dec_FD=require_tensor(tensors, "W_dec", (m, d), path),
        b_dec_D=require_tensor(tensors, "b_dec", (d,), path),
        activation=_activation(config, m, folder / ABOUT),
        subtract_b_dec=not config.get("transcode"),
        reads=header.reads,
        writes=header.writes,
        W_skip_DE=_skip(config, tensors, d, path),
        model=header.model,
        metadata={"sparsify": config},
    )


def _config(folder: Path) -> dict[str, Any]:
    """Read cfg.json. Raises UserError for the options that a dictionary cannot express."""
    path = folder / ABOUT
    config = read_json(path)
    for option, why in UNSUPPORTED.items():
        if config.get(option):
            raise UserError(f"{path}: {option} is on, which is not supported: {why}")
    return config


def _activation(config: dict[str, Any], m: int, path: Path) -> Activation:
    from sae.dictionary import GroupMax, TopK

    k = require_k(require(config, "k", path), m, path)
    match config.get("activation", "topk"):
        case "topk":
            return TopK(k)
        case "groupmax" if m % k == 0:
            return GroupMax(k)
        case "groupmax":
            raise UserError(
                f"{path}: groupmax needs groups of one size, but {m} features are not a multiple of k = {k}"
            )
        case other:
            raise UserError(f"{path}: activation {short_repr(other)} is not supported (topk, groupmax are)")


def _transcodes(config: dict[str, Any]) -> bool:
    """Tell whether it is a transcoder; in older files only the skip says so."""
    return bool(config.get("transcode") or config.get("skip_connection"))


def _skip(config: dict[str, Any], tensors: dict[str, Tensor], d: int, path: Path) -> Tensor | None:
    """Return the linear map past the features, [d, d]; None if it has none."""
    return require_tensor(tensors, "W_skip", (d, d), path).T if config.get("skip_connection") else None


def _ends(module: str, transcodes: bool, path: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the hook points read and written. Raises UserError for a transcoder of anything but a block's MLP."""
    if not transcodes:
        at = hook_points(_hook_point(module))
        return at, at
    block = re.fullmatch(r"(?:layers|h)\.(\d+)\.mlp", module)
    if not block:
        raise UserError(
            f"{path}: a transcoder of module {short_repr(module)}, for which no hook points are known; its folder must "
            "have the name of a block's MLP, layers.N.mlp or h.N.mlp"
        )
    return (f"blocks.{block[1]}.mlp.hook_in",), (f"blocks.{block[1]}.mlp.hook_out",)


def _hook_point(module: str) -> str | None:
    """Translate a module's name: `layers.10` (or `h.10`) is the output of block 10. Returns None for unknown ones."""
    parts = re.fullmatch(r"(?:layers|h)\.(\d+)(.*)", module)
    return f"blocks.{parts[1]}.{HOOK_POINTS[parts[2]]}" if parts and parts[2] in HOOK_POINTS else None


FORMATS.register("sparsify", Format("sparsify", f"a folder with {ABOUT} and {WEIGHTS}", peek, load, marker=WEIGHTS))
