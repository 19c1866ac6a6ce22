"""Dictionaries on disk: `load` recognises whose format a path holds; one file per library.

`recognise` looks at names only and `peek` reads no weights, so that a command line can check a path before it loads
anything: it reads JSON, or the shapes in the files that hold nothing else, for which torch is needed if they are
PyTorch's (OpenAI's and sparse_coding's). These are read as plain tensors or refused; the one format that is a pickle
of objects, sparse_coding's, is opened only where `allow_pickle` is given, and then by PyTorch's restricted unpickler.
"""

from __future__ import annotations

import re
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae.common.errors import UserError, near
from sae.formats.header import Header
from sae.formats.write import refuse_existing

if TYPE_CHECKING:
    from sae.dictionary import Dictionary

PICKLED = "sparse_coding"
FOLDERS = {
    "dictionary.json": "own",
    "sae.safetensors": "sparsify",
    "cfg.json": "saelens",
    "params.npz": "gemma_scope",
    "ae.pt": "dictionary_learning",
}
"""The file that gives a folder's format away, and the module that reads it; the first that is there decides."""
FILES = {r"learned_dicts.*\.pt": PICKLED, r"ae_\d+\.pt": "dictionary_learning", r"(?!ae\.pt$).*\.pt": "openai"}
"""Of files that are a dictionary by themselves, or many: how they are called, and the module that reads them."""
SAVED = ("own", "saelens")


def recognise(path: str | Path) -> tuple[Path, str]:
    """Where a dictionary is and the name of its format's module. Raises UserError if there is none.

    It is a folder, or a file if its format is one (`FILES`); which entry of a file, `FILE.pt#3`, is not told.
    """
    given, item = _split(path)
    if given.is_file():
        for pattern, module in FILES.items():
            if re.fullmatch(pattern, given.name):
                return given, PICKLED if item is not None else module
    folder = given.parent if given.is_file() else given
    if not folder.is_dir():
        raise UserError(f"dictionary {path}: no such file or folder")
    for marker, module in FOLDERS.items():
        if (folder / marker).is_file():
            return folder, module
    if (folder / "learned_dicts.pt").is_file():
        return folder / "learned_dicts.pt", PICKLED
    raise UserError(
        f"dictionary {path}: not a format known here; give a folder with dictionary.json (ours), cfg.json and "
        "sae_weights.safetensors (SAELens), cfg.json and sae.safetensors (sparsify), config.json and ae.pt "
        "(dictionary_learning) or params.npz (Gemma Scope), or a file LAYER.pt (OpenAI) or learned_dicts.pt#N "
        "(sparse_coding)"
    )


def peek(path: str | Path, allow_pickle: bool = False) -> Header:
    """What a dictionary says of itself, without its weights."""
    header: Header = _read("peek", path, allow_pickle)
    return header


def load(path: str | Path, allow_pickle: bool = False) -> Dictionary:
    """Read a dictionary. Raises UserError naming the tensor and both shapes where a file does not fit."""
    dictionary: Dictionary = _read("load", path, allow_pickle)
    return dictionary


def save(dictionary: Dictionary, folder: str | Path, format: str = "own") -> None:
    """Write our own format or SAELens', whole or not at all.

    Raises UserError if the folder is already there, the format is not one of `SAVED`, or it cannot express the
    dictionary.
    """
    _module(_known(format)).save(dictionary, Path(folder).expanduser())


def convert(source: str | Path, folder: str | Path, format: str = "own", allow_pickle: bool = False) -> Dictionary:
    """Read any format and write one of `SAVED`; where it came from goes into the metadata. Returns what was written.

    Raises UserError before anything is read if it could not be written.
    """
    _known(format)
    refuse_existing(Path(folder).expanduser())
    header, module = peek(source, allow_pickle), recognise(source)[1]
    kept = {"prepend_bos": header.prepend_bos, "processing": header.processing}
    converted = load(source, allow_pickle)
    metadata = dict(converted.metadata) | {name: value for name, value in kept.items() if value is not None}
    metadata["converted_from"] = f"{Path(source).resolve().name} ({module})"
    converted = replace(converted, metadata=metadata)
    save(converted, folder, format)
    return converted


def _known(format: str) -> str:
    """Raises UserError if dictionaries cannot be saved in it."""
    if format not in SAVED:
        raise UserError(f"cannot save as {format!r}{near(format, list(SAVED))}")
    return format


def _read(verb: str, path: str | Path, allow_pickle: bool) -> Any:
    place, module = recognise(path)
    reader = getattr(_module(module), verb)
    if module != PICKLED:
        return reader(place)
    item = _split(path)[1]
    if allow_pickle:
        return reader(place, item)
    raise UserError(
        f"dictionary {path}: a pickle of sparse_coding's objects, which are not opened unasked; convert it, by an "
        f"unpickler that runs nothing of the file: sae convert {place}#{'N' if item is None else item} OUT "
        "--allow-pickle (in Python: allow_pickle=True)"
    )


def _split(path: str | Path) -> tuple[Path, int | None]:
    """A path and the entry it names, `FILE.pt#3`; a file that is really called so is one."""
    found = re.fullmatch(r"(.+\.pt)#(\d+)", str(path), re.DOTALL)
    if found is None or Path(path).expanduser().exists():
        return Path(path).expanduser(), None
    return Path(found[1]).expanduser(), int(found[2])


def _module(name: str) -> Any:
    return import_module(f"sae.formats.{name}")
