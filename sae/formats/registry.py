"""Lists the formats of dictionaries on disk, one file of this package each or a plugin, and recognises them by names.

Importing a format's file loads no torch; reading a file of PyTorch's does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sae.common.errors import UserError, near
from sae.common.files import sha256_of, sha256_of_path
from sae.common.registry import Registry
from sae.common.resources import path_of
from sae.formats.header import Header
from sae.hub.address import is_address

if TYPE_CHECKING:
    from sae.dictionary import Dictionary


@dataclass(frozen=True)
class Format:
    """Describes one library's dictionaries on disk: how they are recognised, read and perhaps written."""

    name: str
    files: str
    """What a dictionary consists of, for messages and help: `a folder with cfg.json and sae.safetensors`."""
    peek: Callable[..., Header]
    """`peek(path)`, or `peek(path, entry)` where entries are numbered, reads everything but the weights."""
    load: Callable[..., Dictionary]
    """Takes what `peek` takes and reads the weights too."""
    save: Callable[[Dictionary, Path], None] | None = None
    """Writes a new folder; None: this format is only read."""
    marker: str | None = None
    """A folder that contains a file of this name is in this format."""
    file_names: str | None = None
    """A regular expression. A file whose whole name matches it is a dictionary by itself, also as a folder's marker."""
    numbered: str | None = None
    """A regular expression. A file whose whole name matches it may hold several dictionaries: `FILE#N` is one."""
    pickled: bool = False
    """Its files are pickles: they are opened only where the caller allows it, and not fetched from the hub."""
    in_parts: bool = False
    """A folder with its `marker` is one dictionary, of which every file that matches `file_names` is a part."""
    also: Callable[[Path], Sequence[Path]] = lambda path: ()
    """Returns the files beside a location that are read with it, for its hash."""
    catch_all: bool = False
    """Its `file_names` matches other formats' files as well: it is tried last."""
    reads: tuple[str, ...] = ()
    """Patterns of the files of its folder that are read: only these are fetched from the hub, for a file too. Empty: of
    a folder all that `remote` allows, of a file itself and the settings beside it."""


class Location(NamedTuple):
    """Says where a dictionary lies and in which format."""

    path: Path
    """A folder, or a file if the format's dictionaries are files."""
    format: Format
    entry: int | None
    """The N of `FILE#N`."""

    @property
    def content(self) -> str:
        """The hash of all files that it is read from."""
        hashes = [sha256_of_path(path) for path in (self.path, *self.format.also(self.path))]
        return hashes[0] if len(hashes) == 1 else sha256_of(one.encode() for one in hashes)


FORMATS: Registry[Format] = Registry(
    "format",
    "sae.formats",
    order=("own", "sparsify", "saelens", "gemma_scope", "dictionary_learning"),
    shared=(
        "registry", "header", "json_checks", "model_path", "remote", "safe_load", "tensor_checks", "cross_layer",
        "changes", "crosscoder", "layout", "saelens_save", "write",
    ),
)  # fmt: skip


def recognise(path: str | Path) -> Location:
    """Find out which format a path holds, by names alone. Formats are tried in the registry's order, plugins last.

    The files of an address on the hub are fetched first.

    Raises UserError if nothing is there, or nothing of a known format.
    """
    given, entry = _split(local(path) if is_address(path) else path)
    if not given.exists():
        raise UserError(
            f"dictionary {path}: no such file or folder; give a path, hf:OWNER/REPO or saelens:RELEASE/SAE_ID"
        )
    for location in matches(given, entry):
        return location
    if entry is not None:
        raise UserError(f"dictionary {path}: {given.name} has no numbered entries; leave out #{entry}")
    known = ", ".join(f"{name} ({each.files})" for name, each in FORMATS.all().items())
    raise UserError(f"dictionary {path}: not in a known format; known: {known}")


def local(address: str | Path) -> Path:
    """Return where the files of an address on the hub are, fetched if they are not there yet."""
    from sae.formats.remote import fetch

    return fetch(str(address)).path


def writable() -> tuple[str, ...]:
    """Return the names of the formats that dictionaries can be saved in."""
    return tuple(name for name, each in FORMATS.all().items() if each.save)


def writer(name: str) -> Callable[[Dictionary, Path], None]:
    """Return a format's `save`. Raises UserError if there is no such format or it is only read."""
    if name not in writable():
        raise UserError(f"cannot save in the format {name!r}{near(name, list(writable()))}")
    save = FORMATS.get(name).save
    assert save is not None
    return save


def matches(given: Path, entry: int | None = None) -> Iterator[Location]:
    """Yield every format that fits: first by the name of the given file itself, then by the files of its folder."""
    formats = sorted(FORMATS.all().values(), key=lambda each: each.catch_all)
    for each in formats if given.is_file() else ():
        if _fits(given.name, each.file_names if entry is None else each.numbered):
            yield Location(given, each, entry)
    folder = given.parent if given.is_file() else given
    for each in formats if entry is None else ():
        if each.marker and (folder / each.marker).is_file():
            by_itself = _fits(each.marker, each.file_names) and not each.in_parts
            yield Location(folder / each.marker if by_itself else folder, each, None)


def _fits(name: str, pattern: str | None) -> bool:
    return pattern is not None and re.fullmatch(pattern, name, re.DOTALL) is not None


def _split(path: str | Path) -> tuple[Path, int | None]:
    """Split `FILE#N` into the file and N; a file that is really called so stays whole."""
    whole, parts = path_of(path), re.fullmatch(r"(.+)#(\d+)", str(path), re.DOTALL)
    if parts is None or whole.exists() or not path_of(parts[1]).is_file():
        return whole, None
    return path_of(parts[1]), int(parts[2])
