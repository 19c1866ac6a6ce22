"""Writes files that are complete or absent: into a temporary folder beside them, synced, then renamed."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sae.common.errors import UserError

TEMPORARY = ".tmp-"
"""How the names of temporary folders begin; one is left behind when a process is killed while writing."""


def write_atomic(path: Path, content: bytes | str) -> None:
    """Put `content` at `path` such that a reader sees the old file or the new one, never a part.

    Raises UserError if the folder cannot be written to or the disk is full.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    write_atomic_with(path, lambda temporary: temporary.write_bytes(data))


def write_atomic_with(path: Path, write: Callable[[Path], object]) -> None:
    """Do the same as `write_atomic` with libraries that write to a path."""
    with _temporary_beside(path) as folder:
        temporary = folder / path.name
        write(temporary)
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)


def make_folder_atomic(path: Path, fill: Callable[[Path], object]) -> None:
    """Make folder `path` from what `fill` writes into a temporary folder.

    A folder that is already there is kept: of two processes that make the same thing, the later drops its copy.
    """
    with _temporary_beside(path) as folder:
        temporary = folder / path.name
        temporary.mkdir()
        fill(temporary)
        for file in temporary.rglob("*"):
            _sync(file)
        try:
            os.rename(temporary, path)
        except OSError:
            if not path.is_dir():
                raise
        _sync(path.parent)


@contextmanager
def _temporary_beside(path: Path) -> Iterator[Path]:
    """Yield a temporary folder on the same file system as `path`; it is removed afterwards."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=path.parent))
    except OSError as error:
        raise UserError(f"cannot write to {path.parent}: {error.strerror}; choose another folder") from error
    try:
        yield folder
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def alone(path: Path, locks: Path) -> Iterator[None]:
    """Lock `path` against other processes inside the block; the lock, a file in `locks`, ends with the process.

    Raises UserError if another process works on it.
    """
    import filelock

    file = locks / f"{sha256_of([str(path.resolve()).encode()])[:16]}.lock"
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(file)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise UserError(f"another process is working on {path}; wait for it or choose another --out") from error
    try:
        yield
    finally:
        lock.release()


def _sync(path: Path) -> None:
    """Ask the operating system to put a file or a folder's entries on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(parts: Iterable[bytes]) -> str:
    """Return the hex sha256 of a sequence of byte strings, each framed by its length so that boundaries count."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def sha256_of_path(path: Path) -> str:
    """Return the hex sha256 of a file, or of all files below a folder with their relative names."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    digest = hashlib.sha256()
    for file in files:
        name = file.relative_to(path).as_posix() if file != path else ""
        digest.update(sha256_of([name.encode()]).encode())
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
