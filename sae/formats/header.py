"""What every format's JSON is read into before weights are touched; what readers and writers share. No torch."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae.errors import UserError
from sae.files import make_folder_atomic

if TYPE_CHECKING:
    from torch import Tensor

MALFORMED = (
    OSError, EOFError, RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError, AssertionError,
    struct.error,
)  # fmt: skip
"""What PyTorch's unpickler and zip reader raise, beside their own errors, on bytes that no `torch.save` wrote."""


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
    values = restricted(path)
    if not isinstance(values, dict):
        raise UserError(f"{path} does not hold a state dict")
    return in_fp32(values)


def in_fp32(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same values, tensors among them as plain fp32."""
    from torch import Tensor

    return {name: value.detach().float() if isinstance(value, Tensor) else value for name, value in values.items()}


def restricted(path: Path, stand_ins: Mapping[str, type] | None = None, mmap: bool = False) -> Any:
    """What `torch.save` wrote, read by PyTorch's restricted unpickler: nothing that the file names is imported or run.

    `stand_ins` are classes of ours to be filled in place of the file's, by the full names it has for them. With `mmap`,
    tensors are windows of the file, read where they are used. Raises UserError if the file is missing, damaged or of
    PyTorch before 1.6, or asks for anything else.
    """
    from zipfile import is_zipfile

    import torch
    from torch._weights_only_unpickler import UnpicklingError  # type: ignore[attr-defined]

    if not is_zipfile(path):
        raise UserError(f"cannot read {path}: not a file of PyTorch 1.6 or later, or a damaged one")
    allowed = [(stand_in, name) for name, stand_in in (stand_ins or {}).items()]
    try:
        with torch.serialization.safe_globals(allowed):  # type: ignore[arg-type]  # pairs, as its documentation says
            if refused := torch.serialization.get_unsafe_globals_in_checkpoint(str(path)):
                raise UserError(f"cannot read {path} as plain tensors: it asks for {min(refused)}, which is refused")
            return torch.load(str(path), map_location="cpu", weights_only=True, mmap=mmap)
    except (*MALFORMED, UnpicklingError) as error:
        said = str(error).splitlines() or [type(error).__name__]
        raise UserError(f"cannot read {path} as plain tensors: {said[0]}") from error


def fitting(tensors: Mapping[str, Any], name: str, shape: tuple[int, ...], path: Path) -> Tensor:
    """tensors[name] if it has that shape. Raises UserError with both shapes otherwise."""
    tensor: Tensor = require(tensors, name, path)
    if not hasattr(tensor, "shape"):
        raise UserError(f"{path}: {name} is a {type(tensor).__name__}, expected a tensor of shape {list(shape)}")
    if tuple(tensor.shape) != shape:
        raise UserError(f"{path}: {name} has shape {list(tensor.shape)}, expected {list(shape)}")
    return tensor


def write_folder(folder: Path, about: tuple[str, Mapping[str, Any]], weights: tuple[str, Mapping[str, Tensor]]) -> None:
    """A folder of one JSON and one safetensors file, (name, content) each, whole or not at all.

    Raises UserError if the folder is already there or cannot be written.
    """
    from safetensors.torch import save_file

    if folder.exists():
        raise UserError(f"{folder} is already there; choose another place or remove it")

    def fill(temporary: Path) -> None:
        # safetensors refuses tensors that share memory
        own = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in weights[1].items()}
        save_file(own, temporary / weights[0])
        (temporary / about[0]).write_text(json.dumps(about[1], indent=1, sort_keys=True), "utf-8")

    make_folder_atomic(folder, fill)


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
    whole = isinstance(k, int) or (isinstance(k, float) and k.is_integer())
    if not whole or not 1 <= k <= n_features:
        raise UserError(f"{path}: k is {k}, expected 1 to {n_features} (the number of features)")
    return int(k)
