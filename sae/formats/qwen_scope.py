"""Reads Qwen Scope: TopK autoencoders of Qwen's residual stream, one state dict per layer, `layerN.sae.pt`.

Read from SAELens' loader of them, version 6.54. `W_enc` is `[m, d]`, `W_dec` `[d, m]`; b_dec is not subtracted. k is in
the release's config.json or, if that is not beside the file, in its name (`SAE-Res-Qwen3-1.7B-Base-W32K-L0_50`).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae.common.errors import UserError
from sae.formats.header import Header, hook_points
from sae.formats.json_checks import optional_typed, read_json
from sae.formats.layout import Layout
from sae.formats.registry import FORMATS, Format
from sae.formats.safe_load import length_of, read_torch, shapes_of
from sae.formats.tensor_checks import require_k

if TYPE_CHECKING:
    from sae.dictionary import Dictionary

ABOUT, NAME = "config.json", r"layer(\d+)\.sae\.pt"
RELEASE = re.compile(r"SAE-Res-([\w.-]+)-W\d+K-L0_(\d+)")


def peek(path: Path) -> Header:
    """Read config.json, if it is there, the release's name, and the shapes of the biases; the numbers stay on disk."""
    layer, release, about = re.fullmatch(NAME, path.name), RELEASE.search(str(path.resolve())), _about(path)
    assert layer is not None
    shapes, at = shapes_of(read_torch(path, shapes_only=True)), hook_points(f"blocks.{layer[1]}.hook_resid_post")
    model = optional_typed(about, "base_model", str, path.parent / ABOUT)
    return Header(
        name=f"{release[0] if release else path.resolve().parent.name}-layer_{layer[1]}",
        d_in=length_of(shapes, "b_dec", path),
        n_features=length_of(shapes, "b_enc", path),
        reads=at,
        writes=at,
        model=model or (f"Qwen/{release[1]}" if release else None),
        processing={},
    )


def load(path: Path) -> Dictionary:
    """Read the file. Raises UserError if it is damaged, a tensor does not fit, or k is not known."""
    from sae.dictionary import TopK

    header = peek(path)
    activation = TopK(_k(path, header.n_features))
    return Layout(encoder_rows=True, decoder_columns=True).dictionary(header, read_torch(path), path, activation)


def _about(path: Path) -> dict[str, Any]:
    about = path.parent / ABOUT
    return read_json(about) if about.is_file() else {}


def _k(path: Path, n_features: int) -> int:
    """Return k. Raises UserError if neither config.json nor the release's name says it."""
    about, release = _about(path), RELEASE.search(str(path.resolve()))
    if "k" not in about and not release:
        raise UserError(f"{path}: k is in the release's {ABOUT} and in its name (...-L0_50); copy one of them with it")
    k = about["k"] if "k" in about else int(release[2]) if release else None
    return require_k(k, n_features, path.parent / ABOUT)


def _config(path: Path) -> list[Path]:
    return [about] if (about := path.parent / ABOUT).is_file() else []


FORMATS.register("qwen_scope", Format("qwen_scope", "a file layerN.sae.pt", peek, load, file_names=NAME, also=_config))
