"""Dictionaries on disk: `load` recognises whose format a path holds; one file per library.

`recognise` looks at names only and `peek` reads little, mostly JSON, so that a command line can check a path before
it loads anything. Nothing is ever unpickled: PyTorch's files are read as plain tensors or refused.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae.errors import UserError
from sae.formats.header import Header

if TYPE_CHECKING:
    from sae.dictionary import Dictionary

FORMATS = {
    "dictionary.json": "own",
    "sae.safetensors": "sparsify",
    "cfg.json": "saelens",
    "params.npz": "gemma_scope",
    "ae.pt": "dictionary_learning",
}
"""The file that gives a folder's format away, and the module that reads it; the first that is there decides."""


def recognise(path: str | Path) -> tuple[Path, str]:
    """Where a dictionary is and the name of its format's module. Raises UserError if there is none.

    It is a folder, or for OpenAI's sparse_autoencoder a file.
    """
    given = Path(path).expanduser()
    if given.is_file() and given.suffix == ".pt" and given.name not in FORMATS:
        return given, "openai"
    folder = given.parent if given.is_file() else given
    if not folder.is_dir():
        raise UserError(f"dictionary {path}: no such file or folder")
    for marker, module in FORMATS.items():
        if (folder / marker).is_file():
            return folder, module
    raise UserError(
        f"dictionary {path}: not a format known here; give a folder with dictionary.json (ours), cfg.json and "
        "sae_weights.safetensors (SAELens), cfg.json and sae.safetensors (sparsify), config.json and ae.pt "
        "(dictionary_learning) or params.npz (Gemma Scope), or a file LAYER.pt (OpenAI)"
    )


def peek(path: str | Path) -> Header:
    """What a dictionary says of itself, without its weights."""
    folder, module = recognise(path)
    header: Header = _module(module).peek(folder)
    return header


def load(path: str | Path) -> Dictionary:
    """Read a dictionary. Raises UserError naming the tensor and both shapes where a file does not fit."""
    folder, module = recognise(path)
    dictionary: Dictionary = _module(module).load(folder)
    return dictionary


def save(dictionary: Dictionary, folder: str | Path) -> None:
    """Write our own format, whole or not at all. Raises UserError if the folder is already there."""
    _module("own").save(dictionary, Path(folder))


def _module(name: str) -> Any:
    return import_module(f"sae.formats.{name}")
