"""Reads tensors without running anything that a file names."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae.common.errors import UserError
from sae.formats.json_checks import first_line, require, short_repr

if TYPE_CHECKING:
    from torch import Tensor

MALFORMED = (
    OSError, EOFError, RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError, AssertionError,
    struct.error,
)  # fmt: skip
"""What PyTorch's unpickler and zip reader raise, beside their own errors, on bytes that no `torch.save` wrote."""


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file's tensors, as `mapped` does. Raises UserError if the file is missing or damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return mapped(load_file(path), path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot read {path}: {first_line(error)}") from error


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Read the shapes of a safetensors file's tensors, without torch. Raises UserError if it is missing or damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot read {path}: {first_line(error)}") from error


def shapes_of(values: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the tensors among the values."""
    return {name: tuple(value.shape) for name, value in values.items() if hasattr(value, "shape")}


def length_of(shapes: Mapping[str, tuple[int, ...]], name: str, path: Path) -> int:
    """Return the length of a vector. Raises UserError if there is none of that name, or it is no vector."""
    shape = require(shapes, name, path)
    if len(shape) != 1 or not shape[0]:
        raise UserError(f"{path}: {name} has shape {list(shape)}, expected one dimension")
    return int(shape[0])


def read_torch(path: Path, shapes_only: bool = False) -> dict[str, Any]:
    """Read a state dict that `torch.save` wrote: tensors as `mapped` does, plain values as they are.

    With `shapes_only`, all tensors have the file's type. Raises UserError if the file is missing or damaged, holds
    anything that would have to be unpickled, or tensors that `require_dense` refuses.
    """
    values = safe_torch_load(path, mmap=True)
    if not isinstance(values, dict):
        raise UserError(f"{path} does not hold a state dict")
    return require_dense(values, path) if shapes_only else mapped(values, path)


def mapped(values: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Convert vectors and numbers as `in_fp32` does, but leave matrices of fp32, bf16 or fp16 where they are.

    Those of a mapped file are then read from the disk when they are used.
    """
    import torch

    halves = (torch.bfloat16, torch.float16)
    left = {
        name
        for name, value in values.items()
        if isinstance(value, torch.Tensor) and value.dtype in halves and value.ndim > 1
    }
    others = {name: value for name, value in values.items() if name not in left}
    return in_fp32(others, path) | require_dense({name: values[name].detach() for name in left}, path)


def in_fp32(values: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Convert the tensors of real numbers among the values to fp32; whole numbers and booleans stay as they are.

    Raises UserError for those that `require_dense` refuses.
    """
    from torch import Tensor

    checked = require_dense(values, path).items()
    return {name: _as_fp32(value, name, path) if isinstance(value, Tensor) else value for name, value in checked}


def _as_fp32(tensor: Tensor, name: str, path: Path) -> Tensor:
    import torch

    if tensor.dtype in (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64):
        return tensor.detach()
    try:
        return tensor.detach().float()
    except RuntimeError as error:  # types that torch stores but does not compute with
        raise UserError(f"{path}: {short_repr(name)} cannot be read as fp32: {first_line(error)}") from error


def require_dense(values: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the same values. Raises UserError naming a tensor that is not dense, real and in memory.

    PyTorch's restricted unpickler returns others as well, unchecked: a sparse tensor's indices may point outside its
    memory. Only the types of such tensors are looked at here.
    """
    from torch import Tensor

    for name, value in values.items():
        if isinstance(value, Tensor) and (problem := _problem(value)):
            raise UserError(
                f"{path}: {short_repr(name)} is {problem}, expected a dense tensor of real numbers; save it as one"
            )
    return dict(values)


def _problem(tensor: Tensor) -> str | None:
    """Say what a tensor is if it is not dense, real and on the CPU."""
    import torch

    if type(tensor) not in (torch.Tensor, torch.nn.Parameter):
        return f"a {type(tensor).__name__}"
    if tensor.layout is not torch.strided or tensor.is_nested:
        return "a nested tensor" if tensor.is_nested else f"a tensor of layout {tensor.layout}"
    if tensor.is_quantized or tensor.is_complex():
        return "a quantized tensor" if tensor.is_quantized else "a complex tensor"
    return None if tensor.device.type == "cpu" else f"a tensor on {tensor.device.type}"


def safe_torch_load(path: Path, stand_ins: Mapping[str, type] | None = None, mmap: bool = False) -> Any:
    """Read what `torch.save` wrote by PyTorch's restricted unpickler: nothing that the file names is imported or run.

    Args:
        stand_ins: classes of ours, by the full names of the file's classes that they are used instead of.
        mmap: leave the tensors on disk until they are used.

    Raises:
        UserError: the file is missing, damaged or of PyTorch before 1.6, or asks for any other class.
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
