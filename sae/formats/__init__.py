"""Reads and writes dictionaries on disk: `load` recognises the format of a path; one file per library.

`recognise` looks at names only and `peek` reads no weights, so that a command line can check a path before it loads
anything: it reads JSON, or the shapes in the files that hold nothing else, for which torch is needed if they are
PyTorch's (OpenAI's and sparse_coding's). These are read as plain tensors or refused; the one format that is a pickle
of objects, sparse_coding's, is opened only where `allow_pickle` is given, and then by PyTorch's restricted unpickler.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae.common.errors import UserError
from sae.formats.changes import Changes
from sae.formats.header import Header
from sae.formats.registry import FORMATS, Format, Location, recognise, writable, writer
from sae.formats.remote import pin
from sae.formats.write import refuse_existing
from sae.hub.address import is_address

if TYPE_CHECKING:
    from sae.dictionary import Dictionary

__all__ = [
    "FORMATS",
    "Changes",
    "Format",
    "Header",
    "Location",
    "convert",
    "load",
    "peek",
    "pin",
    "recognise",
    "save",
    "writable",
]


def peek(path: str | Path, allow_pickle: bool = False) -> Header:
    """Read what a dictionary's files say of it, without its weights. Raises UserError if they are not readable."""
    location = _opened(path, allow_pickle)
    return location.format.peek(*_arguments(location))


def load(path: str | Path, allow_pickle: bool = False) -> Dictionary:
    """Read a dictionary in any known format; its tensors are on the CPU, matrices left on the disk until they are used.

    All are fp32, except that matrices stay bf16 or fp16 if they are so in the file. They are converted piece by piece
    when they are computed with.

    >>> dictionary = sae.load("dictionary")
    >>> dictionary.name, dictionary.n_features, dictionary.hook_point
    ('words', 8, 'hook_embed')

    Args:
        path: a folder, a file, or `FILE#N` for one of several in a file (`sae convert --help` lists the formats);
            `hf:OWNER/REPO[/PATH][@REVISION]` or `saelens:RELEASE/SAE_ID`, which is downloaded first.
        allow_pickle: also open formats that are pickles, by an unpickler that runs nothing of the file.

    Raises:
        UserError: nothing of a known format is there, or a file does not fit: names the tensor and both shapes.
    """
    location = _opened(path, allow_pickle)
    return location.format.load(*_arguments(location))


def save(dictionary: Dictionary, folder: str | Path, format: str = "own") -> None:
    """Write a dictionary into a new folder, whole or not at all.

    >>> sae.save(sae.load("dictionary"), "copy")
    >>> sae.load("copy").name
    'words'

    Raises UserError if the folder exists, the format is not one of `writable()`, or it cannot express the dictionary.
    """
    writer(format)(dictionary, Path(folder).expanduser())


def convert(
    source: str | Path,
    folder: str | Path,
    format: str = "own",
    allow_pickle: bool = False,
    hook_points: Sequence[str] = (),
    changes: Changes | None = None,
) -> Dictionary:
    """Read any format and write one of `writable()`. Returns what was written; its metadata name the source.

    >>> converted = sae.convert("dictionary", "for_saelens", format="saelens")
    >>> converted.metadata["converted_from"]
    'dictionary (own)'

    Args:
        source: a path in any known format.
        folder: the new folder.
        format: one of `writable()`.
        allow_pickle: also open formats that are pickles.
        hook_points: what an autoencoder or a crosscoder whose files do not say it reads and writes, in its order.
        changes: what the copy has otherwise; None: nothing.

    Raises UserError before anything is read if it could not be written, or if its files name its hook points already.
    """
    writer(format)
    refuse_existing(Path(folder).expanduser())
    source, changes = pin(str(source)), changes or Changes()
    header = peek(source, allow_pickle)
    kept = {"prepend_bos": header.prepend_bos, "processing": None if changes.processing else header.processing}
    if hook_points and header.reads:
        raise UserError(f"dictionary {source} names its hook points itself ({header.hook_point}); leave out --hook")
    converted = changes.applied(load(source, allow_pickle))
    converted = converted.at(*hook_points) if hook_points else converted
    metadata = dict(converted.metadata) | {name: value for name, value in kept.items() if value is not None}
    name = source if is_address(source) else Path(source).resolve().name
    metadata["converted_from"] = f"{name} ({recognise(source).format.name})"
    converted = replace(converted, metadata=metadata)
    save(converted, folder, format)
    return converted


def _arguments(location: Location) -> tuple[Any, ...]:
    """Return what a format's `peek` and `load` are called with."""
    return (location.path, location.entry) if location.format.numbered else (location.path,)


def _opened(path: str | Path, allow_pickle: bool) -> Location:
    """Recognise a path. Raises UserError with the command that converts it if it is a pickle and none is allowed."""
    location = recognise(path)
    if allow_pickle or not location.format.pickled:
        return location
    number = "" if not location.format.numbered else f"#{'N' if location.entry is None else location.entry}"
    raise UserError(
        f"dictionary {path}: a pickle of {location.format.name}'s objects, which is opened only on request; convert "
        f"it, without running anything of the file: sae convert {location.path}{number} OUT --allow-pickle "
        "(in Python: allow_pickle=True)"
    )
