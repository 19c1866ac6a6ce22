"""What every format's JSON is read into before weights are touched, and the checks all readers share. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Header:
    """A dictionary's own account of itself; what it does not say is None."""

    name: str
    d_in: int
    n_features: int
    hook_point: str | None
    model: str | None
    prepend_bos: bool | None = None
    processing: Mapping[str, Any] = field(default_factory=dict)
    """Weight processing the model was loaded with (TransformerLens' names); empty: none."""


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises UserError if the file is not one."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} does not hold a JSON object")
    return value


def require(values: Mapping[str, Any], key: str, path: Path) -> Any:
    """values[key]. Raises UserError if it is missing."""
    if key not in values:
        raise UserError(f"{path} lacks {key!r}; it may be incomplete or of another library")
    return values[key]


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file in fp32. Raises UserError if the file is missing or damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot read {path}: {str(error).splitlines()[0]}") from error
    return {name: tensor.float() for name, tensor in tensors.items()}


def read_torch(path: Path) -> dict[str, Any]:
    """What `torch.save` wrote of a state dict: tensors in fp32, plain values as they are.

    Raises UserError if the file is missing, damaged, or holds anything that would have to be unpickled.
    """
    from zipfile import is_zipfile

    import torch
    from torch._weights_only_unpickler import UnpicklingError  # type: ignore[attr-defined]

    if not is_zipfile(path):
        raise UserError(f"cannot read {path}: not a file of PyTorch 1.6 or later, or a damaged one")
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, UnpicklingError) as error:
        raise UserError(f"cannot read {path} as plain tensors: {str(error).splitlines()[0]}") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} does not hold a state dict")
    return {name: value.float() if isinstance(value, torch.Tensor) else value for name, value in values.items()}


def fitting(tensors: Mapping[str, Tensor], name: str, shape: tuple[int, ...], path: Path) -> Tensor:
    """tensors[name] if it has that shape. Raises UserError with both shapes otherwise."""
    tensor: Tensor = require(tensors, name, path)
    if tuple(tensor.shape) != shape:
        raise UserError(f"{path}: {name} has shape {list(tensor.shape)}, expected {list(shape)}")
    return tensor


def without_scaling(tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The same tensors. Raises UserError if features would still have to be scaled."""
    scaling = tensors.get("scaling_factor")
    if scaling is not None and not bool((scaling == 1).all()):
        raise UserError(
            f"{path}: scaling_factor is not all ones (an unfinished finetuning); fold it with SAELens first"
        )
    return tensors


def fitting_k(k: Any, n_features: int, path: Path) -> int:
    """k if so many features can be kept. Raises UserError otherwise."""
    if not 1 <= int(k) <= n_features:
        raise UserError(f"{path}: k is {k}, expected 1 to {n_features} (the number of features)")
    return int(k)
