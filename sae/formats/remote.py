"""Fetches dictionaries from the hub: decides by the formats which files of a repository are read.

Python files, pickles of objects and weights that no format reads are never downloaded.
"""

from __future__ import annotations

import glob
import posixpath
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from sae.common.errors import UserError
from sae.formats.registry import Format, Location, matches
from sae.hub.address import is_address, parse
from sae.hub.fetch import Fetched
from sae.hub.fetch import fetch as fetch_address

SETTINGS, NUMBERS, TORCH = (".json", ".yaml", ".yml"), (".safetensors", ".npz"), (".pt", ".pth")
"""How the names of files end that are fetched; PyTorch's only where a format reads them, as tensors."""
SHARED_SETTINGS = ("config.json", "config.yaml", "cfg.json")
"""What some libraries keep in the folder above, for several dictionaries."""
LISTED = 40
"""Names in a message."""


def pin(path: str) -> str:
    """Return an address on the hub with the commit that it names now, its files fetched; any other path as it is.

    Raises UserError if the hub does not give it, or it is in no known format.
    """
    return str(fetch(path).address) if is_address(path) else path


def fetch(address: str) -> Fetched:
    """Fetch the files that are read for the dictionary at an address. Raises UserError as `pin`."""
    return fetch_address(parse(address), select)


def select(names: Sequence[str], path: str) -> list[str]:
    """Return which files of a repository are read for the dictionary at a path of it; "" is the repository itself.

    Raises UserError, naming what is there, if that is in no known format, or a pickle of objects.
    """
    folder = posixpath.dirname(path) if path in names else path
    inside = [name for name in names if posixpath.dirname(name) == folder]
    location = _recognised(inside, path)
    if location is None or location.format.pickled:
        raise UserError(_no_format(path, location, names))
    if location.format.reads:
        return _matching(names, folder, location.format.reads) + _above(names, folder)
    if location.path.as_posix() in names:  # a file by itself
        return [location.path.as_posix(), *(name for name in inside if name.endswith(SETTINGS))]
    if location.format.in_parts:  # refused before all of it is downloaded
        raise UserError(f"{_described(path)} is a set of dictionaries; give one of them: {_first(location, inside)}")
    read = [name for name in inside if _may_be_read(location.format, posixpath.basename(name))]
    return read + _above(names, folder)


def _matching(names: Sequence[str], folder: str, patterns: Sequence[str]) -> list[str]:
    below = [PurePosixPath("/", glob.escape(folder), pattern).as_posix() for pattern in patterns]
    return [name for name in names if any(PurePosixPath("/", name).match(pattern) for pattern in below)]


def _first(location: Location, inside: Sequence[str]) -> str:
    """Return the file by which a set of dictionaries was recognised."""
    return next(name for name in inside if posixpath.basename(name) == location.format.marker)


def _recognised(inside: Sequence[str], path: str) -> Location | None:
    """Recognise a path of a repository; formats are told by names alone, so by empty files of these names too.

    The location's path is relative to the repository.
    """
    with TemporaryDirectory() as temporary:
        root = Path(temporary)
        for name in inside:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).touch()
        location = next(matches(root / path), None)
        return location and location._replace(path=location.path.relative_to(root))


def _may_be_read(format: Format, name: str) -> bool:
    if name.endswith(TORCH):
        return name == format.marker or re.fullmatch(format.file_names or "", name) is not None
    return name.endswith((*SETTINGS, *NUMBERS))


def _above(names: Sequence[str], folder: str) -> list[str]:
    """Return the settings in the folder above."""
    above = [posixpath.join(posixpath.dirname(folder), name) for name in SHARED_SETTINGS] if folder else []
    return [name for name in above if name in names]


def _no_format(path: str, location: Location | None, names: Sequence[str]) -> str:
    """Return why nothing of a repository's path is read."""
    where = _described(path)
    if location is not None:
        return f"{where} holds a pickle of {location.format.name}'s objects, which is not fetched; download it yourself"
    start = f"{path}/" if path and path not in names else ""
    inside = dict.fromkeys(start + name.removeprefix(start).split("/")[0] for name in names if name.startswith(start))
    listed = ", ".join([*inside][:LISTED]) + (", ..." if len(inside) > LISTED else "")
    return f"{where} is no dictionary in a known format (`sae convert --help` lists them); there are: {listed}"


def _described(path: str) -> str:
    return f"hub folder {path}" if path else "the repository"
