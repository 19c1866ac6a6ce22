"""Checks the shapes and the special tensors of a file that was read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae.common.errors import UserError
from sae.formats.json_checks import require, short_repr

if TYPE_CHECKING:
    from torch import Tensor


def require_tensor(tensors: Mapping[str, Any], name: str, shape: tuple[int, ...], path: Path) -> Tensor:
    """Return tensors[name] if it has that shape. Raises UserError with both shapes otherwise.

    So do whole numbers where a vector or a matrix of weights is expected; a single number may be one.
    """
    from torch import Tensor

    tensor = require(tensors, name, path)
    if not isinstance(tensor, Tensor):
        raise UserError(f"{path}: {name} is a {type(tensor).__name__}, expected a tensor of shape {list(shape)}")
    if tuple(tensor.shape) != shape:
        raise UserError(f"{path}: {name} has shape {list(tensor.shape)}, expected {list(shape)}")
    if shape and not tensor.is_floating_point():
        raise UserError(f"{path}: {name} holds {str(tensor.dtype).removeprefix('torch.')}, expected real numbers")
    return tensor


def without_scaling(tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Return the same tensors. Raises UserError if features would still have to be scaled."""
    scaling = tensors.get("scaling_factor")
    if scaling is not None and not bool((scaling == 1).all()):
        raise UserError(
            f"{path}: scaling_factor is not all ones (an unfinished finetuning); fold it with SAELens first"
        )
    return tensors


def require_k(k: Any, n_features: int, path: Path) -> int:
    """Return k if it is a number of features that can be kept. Raises UserError otherwise."""
    number = (isinstance(k, int) and not isinstance(k, bool)) or (isinstance(k, float) and k.is_integer())
    if not number or not 1 <= k <= n_features:
        raise UserError(f"{path}: k is {short_repr(k)}, expected 1 to {n_features} (the number of features)")
    return int(k)
