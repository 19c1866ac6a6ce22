"""Dictionaries on disk: `load` recognises whose format a path holds; one file per library.

`peek` and `recognise` read only JSON and need no torch, so that a command line can check a path before it loads
anything. Nothing is ever unpickled.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae.errors import UserError
from sae.formats.header import Header

if TYPE_CHECKING:
    from sae.dictionary import Dictionary

FORMATS = {"dictionary.json": "own", "cfg.json": "saelens"}
"""The file that gives a format away, and the module that reads it."""


def recognise(path: str | Path) -> tuple[Path, str]:
    """The folder a dictionary is in and the name of its format's module. Raises UserError if there is none."""
    given = Path(path).expanduser()
    folder = given.parent if given.is_file() else given
    if not folder.is_dir():
        raise UserError(f"dictionary {path}: no such file or folder")
    for marker, module in FORMATS.items():
        if (folder / marker).is_file():
            return folder, module
    raise UserError(
        f"dictionary {path}: not a format known here; give a folder with dictionary.json (ours) or cfg.json and "
        "sae_weights.safetensors (SAELens)"
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
