"""Fetches a dictionary's files from the hub with huggingface-hub: what its reader needs of them, and nothing else.

Downloads lie in huggingface-hub's own cache, which resumes them and shares them with other programs, as links to files
whose names are hashes. Our cache folder holds the same files again (as hard links, so on one file system nothing twice)
in folders called as on the hub, for readers take model and layer from such names. Such a folder is made when all of its
files are there, and belongs to one commit: a user who names the commit needs no network afterwards.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sae.common.errors import UserError, near
from sae.common.files import make_folder_atomic, sha256_of
from sae.hub.address import Address
from sae.hub.faults import explained, not_downloaded

TIMEOUT = 8.0
"""Seconds for the hub's first answer."""
LONGEST_PART = 255
"""Bytes of a folder's or a file's name."""
Select = Callable[[Sequence[str], str], Sequence[str]]
"""`select(names, path)` returns which of a repository's files are read for the dictionary at a path of it. Raises
UserError if that is in no known format."""


@dataclass(frozen=True)
class Fetched:
    """Says which commit was fetched, and where its files lie."""

    address: Address
    """The revision is the commit."""
    path: Path


@dataclass(frozen=True)
class _Listing:
    """Names a commit, and the files of the repository at it."""

    commit: str
    names: tuple[str, ...]
    is_whole: bool
    """Without a connection only those that were downloaded are known."""


def fetch(address: Address, select: Select) -> Fetched:
    """Return a dictionary's files, downloaded if they are not there yet.

    With HF_HUB_OFFLINE=1, and for a whole commit hash, files that are there are used without any connection.

    Raises UserError: the hub cannot be reached or refuses; no such repository, revision or path; nothing of a known
    format; files that offline work would need and that were not downloaded.
    """
    if address.is_pinned and _folder(address).is_dir():
        return Fetched(address, _folder(address) / address.repo / address.path)
    listing = _listing(address)
    pinned = address.at(listing.commit)
    folder = _folder(pinned)
    if not folder.is_dir():
        _require_path(address, listing)
        names = select(listing.names, address.path)
        # Offline, files may be missing of which nothing is known: their folder is none that a commit stands for.
        folder = folder if listing.is_whole else _folder(pinned, names)
    if not folder.is_dir():
        files = {name: _downloaded(address, listing.commit, name) for name in names}
        make_folder_atomic(folder, lambda new: _link(files, new / address.repo))
    return Fetched(pinned, folder / address.repo / address.path)


def _folder(address: Address, names: Sequence[str] = ()) -> Path:
    from sae.common.settings import cache_folder

    return cache_folder("sae") / "hub" / sha256_of(part.encode() for part in (str(address), *names))[:16]


def _listing(address: Address) -> _Listing:
    """Ask the hub for the commit and the files of a revision; offline, look into huggingface-hub's cache."""
    from huggingface_hub import HfApi, constants

    if constants.HF_HUB_OFFLINE:
        return _cached_listing(address, Path(constants.HF_HUB_CACHE))
    with _faults(address):
        info = HfApi().model_info(address.repo, revision=address.revision, timeout=TIMEOUT)
    names = (str(sibling.rfilename) for sibling in info.siblings or ())
    return _Listing(str(info.sha), tuple(sorted(filter(_is_harmless, names))), is_whole=True)


def _cached_listing(address: Address, cache: Path) -> _Listing:
    """Read which commit a revision was when it was last downloaded, and which files of it are there."""
    repository = cache / f"models--{address.repo.replace('/', '--')}"
    reference = repository / "refs" / (address.revision or "main")
    if not address.is_pinned and not reference.is_file():
        raise not_downloaded(address, f"revision {address.revision or 'main'}")
    commit = str(address.revision) if address.is_pinned else reference.read_text("utf-8").strip()
    snapshot = repository / "snapshots" / commit
    names = (file.relative_to(snapshot).as_posix() for file in snapshot.rglob("*") if file.is_file())
    return _Listing(commit, tuple(sorted(names)), is_whole=False)


def _require_path(address: Address, listing: _Listing) -> None:
    """Raise UserError, naming what is there, if the repository has no such folder or file."""
    path, names = address.path, listing.names
    if not path or path in names or any(name.startswith(f"{path}/") for name in names):
        return
    if not listing.is_whole:
        raise not_downloaded(address, path)
    above = [parent.as_posix() for parent in PurePosixPath(path).parents if parent.name]
    inside = next((each for each in above if any(name.startswith(f"{each}/") for name in names)), "")
    start = f"{inside}/" if inside else ""
    known = dict.fromkeys(start + name.removeprefix(start).split("/")[0] for name in names if name.startswith(start))
    raise UserError(f"{address}: {address.repo} has no folder or file {path!r}{near(path, [*known])}")


def _downloaded(address: Address, commit: str, name: str) -> Path:
    """Return a file in huggingface-hub's cache; a download that was cut off before goes on from there.

    A branch is asked for as such, so that the cache keeps which commit it was.
    """
    from huggingface_hub import constants, hf_hub_download

    with _faults(address):
        path = Path(hf_hub_download(address.repo, name, revision=commit if address.is_pinned else address.revision))
    if constants.HF_HUB_OFFLINE or commit in path.parts:
        return path
    raise UserError(f"{address}: the branch moved during the download; run the same command again")


@contextmanager
def _faults(address: Address) -> Iterator[None]:
    """Turn errors of the hub, of its connection and of the cache's disk into a line.

    All versions of huggingface-hub derive their error from the base of all errors of the HTTP library they use.
    """
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield
    except (*HfHubHTTPError.__bases__, OSError, json.JSONDecodeError) as error:
        raise explained(error, address) from error


def _is_harmless(name: str) -> bool:
    """Tell whether a name that the hub sent stays below the folder it is put into."""
    parts = name.split("/")
    return "\0" not in name and all(
        part not in ("", ".", "..") and len(part.encode()) <= LONGEST_PART for part in parts
    )


def _link(files: Mapping[str, Path], folder: Path) -> None:
    """Give downloaded files their names on the hub; copy them where the file system has no hard links."""
    for name, file in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(file.resolve(), target)
        except OSError:
            shutil.copyfile(file, target)
