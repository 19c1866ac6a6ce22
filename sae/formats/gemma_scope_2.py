"""Reads Gemma Scope 2: JumpReLU autoencoders and transcoders of Gemma 3, `params.safetensors` and often `config.json`.

Read from the loaders of SAELens, version 6.54, and circuit-tracer. Nothing is subtracted from the input; a transcoder
may have an affine skip, stored `[in, out]`. Model and hook points are read from config.json or, where it is missing,
from the release's own folder names (`gemma-scope-2-4b-pt/transcoder_all/layer_17_width_16k_l0_big_affine`). The names
that Hugging Face has for the hook points are those below in every Gemma 3.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae.common.errors import UserError
from sae.formats.header import Header
from sae.formats.json_checks import optional_typed, read_json, short_repr
from sae.formats.layout import Layout
from sae.formats.registry import FORMATS, Format
from sae.formats.safe_load import length_of, read_shapes, read_tensors
from sae.formats.tensor_checks import require_tensor

if TYPE_CHECKING:
    from sae.dictionary import Dictionary

ABOUT, WEIGHTS = "config.json", "params.safetensors"
ENDS = {
    "resid_post": ("hook_resid_post", "hook_resid_post"),
    "attn_out": ("attn.hook_z", "attn.hook_z"),
    "mlp_out": ("hook_mlp_out", "hook_mlp_out"),
    "transcoder": ("mlp.hook_in", "hook_mlp_out"),
}
"""What the dictionaries of each folder read and write, as TransformerLens calls it."""
UNNAMED = (
    f"neither {ABOUT} nor the release's folder names are there, so it is taken for an autoencoder; a transcoder's file "
    "may look the same"
)
HOOK_POINTS = {
    "output": "hook_resid_post",
    "self_attn.o_proj.input": "attn.hook_z",
    "post_feedforward_layernorm.output": "hook_mlp_out",
    "pre_feedforward_layernorm.output": "mlp.hook_in",
}
"""TransformerLens' names for Hugging Face's of one layer."""


def peek(folder: Path) -> Header:
    """Read config.json, if it is there, the folder names, and the shapes of the biases."""
    path, resolved = folder / WEIGHTS, folder.resolve()
    shapes, about = read_shapes(path), config_of(folder)
    reads, writes = _ends(about, resolved, folder / ABOUT)
    return Header(
        name=resolved.name,
        d_in=length_of(shapes, "b_dec", path),
        n_features=length_of(shapes, "b_enc", path),
        reads=reads,
        writes=writes,
        model=model_of(about, resolved, folder / ABOUT),
        prepend_bos=True,  # all were trained on text that begins with it
        processing={},  # and on the model as it was released
        notes=() if reads else (UNNAMED,),
    )


def load(folder: Path) -> Dictionary:
    """Read the weights. Raises UserError if the file is damaged or a tensor does not fit."""
    from sae.dictionary import JumpReLU

    header, path = peek(folder), folder / WEIGHTS
    d, m, tensors = header.d_in, header.n_features, read_tensors(path)
    skip = require_tensor(tensors, "affine_skip_connection", (d, d), path) if _has_skip(folder, tensors) else None
    if skip is not None and header.reads == header.writes:
        raise UserError(f"{path} has a skip, which only transcoders have, but {folder} says that it is none")
    activation = JumpReLU(require_tensor(tensors, "threshold", (m,), path))
    return Layout("w_enc", "b_enc", "w_dec", "b_dec").dictionary(header, tensors, path, activation, skip)


def config_of(folder: Path) -> dict[str, Any]:
    """Read config.json; empty if there is none. Raises UserError if it is of another kind of dictionary."""
    path = folder / ABOUT
    about = read_json(path) if path.is_file() else {}
    architecture = about.get("architecture", "jump_relu")
    if architecture != "jump_relu":
        raise UserError(f"{path}: architecture {short_repr(architecture)} is not supported (jump_relu is)")
    return about


def model_of(about: dict[str, Any], resolved: Path, path: Path) -> str | None:
    """Return the name of the model on the hub, from config.json or the folder names; None if neither says."""
    release = re.search(r"gemma-scope-2-(\d+[bm])-(pt|it)", str(resolved))
    name = optional_typed(about, "model_name", str, path) or (f"gemma-3-{release[1]}-{release[2]}" if release else None)
    if name is None:
        return None
    name = name.removeprefix("google/").replace("-v3", "-3")
    return f"google/{name.replace('-pt', '') if '270m' in name else name}"  # the smallest has no suffix on the hub


def hook_point_of(name: str, path: Path) -> str:
    """Translate Hugging Face's name of a module's input or output. Raises UserError if it is not known here."""
    parts = re.fullmatch(r"model\.layers\.(\d+)\.(.+)", name)
    if not parts or parts[2] not in HOOK_POINTS:
        raise UserError(f"{path}: hook point {short_repr(name)} is not known here")
    return f"blocks.{parts[1]}.{HOOK_POINTS[parts[2]]}"


def _ends(about: dict[str, Any], resolved: Path, path: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the hook points read and written, none if neither config.json nor the folder names say."""
    names = [optional_typed(about, key, str, path) for key in ("hf_hook_point_in", "hf_hook_point_out")]
    if names[0] is not None:
        return (hook_point_of(names[0], path),), (hook_point_of(names[1] or names[0], path),)
    site = re.search(rf"/({'|'.join(ENDS)})(?:_all)?/layer_(\d+)_width", resolved.as_posix())
    if not site:
        return (), ()
    reads, writes = ENDS[site[1]]
    return (f"blocks.{site[2]}.{reads}",), (f"blocks.{site[2]}.{writes}",)


def _has_skip(folder: Path, tensors: dict[str, Any]) -> bool:
    """Tell whether there is or must be a skip: config.json and the folder's name say so too."""
    named = folder.resolve().name.endswith("_affine") or config_of(folder).get("affine_connection")
    return bool(named) or "affine_skip_connection" in tensors


FORMATS.register("gemma_scope_2", Format("gemma_scope_2", f"a folder with {WEIGHTS}", peek, load, marker=WEIGHTS))
