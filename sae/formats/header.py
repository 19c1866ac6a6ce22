"""What every format's JSON is read into before weights are touched; what readers and writers share. No torch."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sae.errors import UserError, near
from sae.files import make_folder_atomic

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")
EXPECTED = {dict: "a mapping", str: "a text", bool: "true or false"}

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
    processing: Mapping[str, Any] | None = None
    """Weight processing the model was loaded with (TransformerLens' names); empty: none, and that is known."""
    notes: tuple[str, ...] = ()
    """What whoever uses the dictionary should be told, one line each."""

    @property
    def model_processing(self) -> Mapping[str, Any]:
        """How to load the model; unprocessed where nothing is said."""
        return self.processing or {}


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises UserError if the file is not one."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # also of numbers too long and of nesting too deep
        raise UserError(f"cannot read {path}: {first_line(error)}") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} does not hold a JSON object")
    return value


def require(values: Mapping[str, Any], key: str, path: Path) -> Any:
    """values[key]. Raises UserError if it is missing."""
    if key not in values:
        raise UserError(f"{path} lacks {key!r}; it may be incomplete or of another library")
    return values[key]


def typed(values: Mapping[str, Any], key: str, kind: type[T], path: Path) -> T:
    """values[key]. Raises UserError if it is missing or not of that type (one of `EXPECTED`)."""
    value = require(values, key, path)
    if not isinstance(value, kind):
        raise UserError(f"{path}: {key!r} is {shown(value)}, expected {EXPECTED[kind]}")
    return value


def optional(values: Mapping[str, Any], key: str, kind: type[T], path: Path) -> T | None:
    """As `typed`, but None if it is missing or null."""
    return None if values.get(key) is None else typed(values, key, kind, path)


def whole(values: Mapping[str, Any], key: str, path: Path) -> int:
    """values[key], a width or a count. Raises UserError if it is missing or not a whole number from 1 on."""
    value = require(values, key, path)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UserError(f"{path}: {key!r} is {shown(value)}, expected a whole number from 1 on")
    return value


def one_of(known: tuple[str, ...], values: Mapping[str, Any], key: str, path: Path) -> Any:
    """values[key]. Raises UserError if it is missing or not one of the known words."""
    value = require(values, key, path)
    if value not in known:
        raise UserError(f"{path}: {key} is {shown(value)}{near(str(value), list(known))}")
    return value


def shown(value: Any) -> str:
    """A value of a file on one short line; of what is not a plain value only the type, which is safe to ask."""
    plain = value is None or isinstance(value, str | bool | float) or (isinstance(value, int) and abs(value) < 2**63)
    told = repr(value) if plain else f"a {type(value).__name__}"
    return told if len(told) <= 60 else f"{told[:57]}..."


def first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file in fp32. Raises UserError if the file is missing or damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot read {path}: {first_line(error)}") from error
    return in_fp32(tensors, path)


def read_torch(path: Path, shapes_only: bool = False) -> dict[str, Any]:
    """What `torch.save` wrote of a state dict: tensors in fp32, plain values as they are.

    With `shapes_only`, tensors are as the file has them, and their numbers stay there. Raises UserError if the file is
    missing, damaged, or holds anything that would have to be unpickled, or tensors that are not `ordinary`.
    """
    values = restricted(path, mmap=shapes_only)
    if not isinstance(values, dict):
        raise UserError(f"{path} does not hold a state dict")
    return ordinary(values, path) if shapes_only else in_fp32(values, path)


def in_fp32(values: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The same values, tensors among them as plain fp32. Raises UserError for those that are not `ordinary`."""
    from torch import Tensor

    checked = ordinary(values, path).items()
    return {name: _single(value, name, path) if isinstance(value, Tensor) else value for name, value in checked}


def _single(tensor: Tensor, name: str, path: Path) -> Tensor:
    try:
        return tensor.detach().float()
    except RuntimeError as error:  # types that torch stores but does not compute with
        raise UserError(f"{path}: {shown(name)} cannot be read as fp32: {first_line(error)}") from error


def ordinary(values: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The same values. Raises UserError naming a tensor that is not dense, real and in memory.

    PyTorch's restricted unpickler gives back others as well, and unchecked: a sparse tensor's indices may point
    outside its memory. Nothing is asked of them here but what they are.
    """
    from torch import Tensor

    for name, value in values.items():
        if isinstance(value, Tensor) and (odd := _oddity(value)):
            raise UserError(f"{path}: {shown(name)} is {odd}, expected a dense tensor of real numbers; save it as one")
    return dict(values)


def _oddity(tensor: Tensor) -> str | None:
    import torch

    if type(tensor) not in (torch.Tensor, torch.nn.Parameter):
        return f"a {type(tensor).__name__}"
    if tensor.layout is not torch.strided or tensor.is_nested:
        return "a nested tensor" if tensor.is_nested else f"a tensor of layout {tensor.layout}"
    if tensor.is_quantized or tensor.is_complex():
        return "a quantized tensor" if tensor.is_quantized else "a complex tensor"
    return None if tensor.device.type == "cpu" else f"a tensor on {tensor.device.type}"


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
        raise UserError(f"cannot read {path} as plain tensors: {first_line(error)}") from error


def fitting(tensors: Mapping[str, Any], name: str, shape: tuple[int, ...], path: Path) -> Tensor:
    """tensors[name] if it has that shape. Raises UserError with both shapes otherwise."""
    from torch import Tensor

    tensor = require(tensors, name, path)
    if not isinstance(tensor, Tensor):
        raise UserError(f"{path}: {name} is a {type(tensor).__name__}, expected a tensor of shape {list(shape)}")
    if tuple(tensor.shape) != shape:
        raise UserError(f"{path}: {name} has shape {list(tensor.shape)}, expected {list(shape)}")
    return tensor


def refuse_existing(folder: Path) -> None:
    """Raises UserError if something is there."""
    if folder.exists():
        raise UserError(f"{folder} is already there; choose another place or remove it")


def write_folder(folder: Path, about: tuple[str, Mapping[str, Any]], weights: tuple[str, Mapping[str, Tensor]]) -> None:
    """A folder of one JSON and one safetensors file, (name, content) each, whole or not at all.

    Raises UserError if the folder is already there or cannot be written.
    """
    from safetensors.torch import save_file

    refuse_existing(folder)

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
    number = (isinstance(k, int) and not isinstance(k, bool)) or (isinstance(k, float) and k.is_integer())
    if not number or not 1 <= k <= n_features:
        raise UserError(f"{path}: k is {shown(k)}, expected 1 to {n_features} (the number of features)")
    return int(k)
