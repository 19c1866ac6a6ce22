"""Writes a dictionary's folder, whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae.common.errors import UserError
from sae.common.files import make_folder_atomic, refuse_unwritable

if TYPE_CHECKING:
    from torch import Tensor


def refuse_existing(folder: Path) -> None:
    """Raise UserError if the folder exists or cannot be made."""
    refuse_unwritable(folder)
    if folder.exists():
        raise UserError(f"{folder} is already there; choose another folder or remove it")


def write_folder(folder: Path, about: tuple[str, Mapping[str, Any]], weights: tuple[str, Mapping[str, Tensor]]) -> None:
    """Write a folder of one JSON and one safetensors file, (name, content) each, whole or not at all.

    Raises UserError if the folder exists or cannot be written.
    """
    from safetensors.torch import save_file

    refuse_existing(folder)

    def fill(temporary: Path) -> None:
        own = {name: _own(tensor) for name, tensor in weights[1].items()}  # safetensors refuses shared memory
        save_file(own, temporary / weights[0])
        (temporary / about[0]).write_text(json.dumps(about[1], indent=1, sort_keys=True), "utf-8")

    make_folder_atomic(folder, fill)


def _own(tensor: Tensor) -> Tensor:
    """Return a copy, in fp32 if the tensor has fewer bits."""
    import torch

    kept = tensor.dtype.itemsize >= torch.float32.itemsize
    return tensor.detach().cpu().to(tensor.dtype if kept else torch.float32, copy=True).contiguous()
