"""Writes files that are complete or absent: into a temporary folder beside them, synced, then renamed."""

import errno
import fcntl
import hashlib
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sae.common.errors import UserError, shortened

log = logging.getLogger(__name__)
TEMPORARY = ".tmp-"
"""How the names of temporary folders begin; one is left behind when a process is killed while writing."""
LOCK = ".lock"
"""The file in a folder that the process which works on it holds; left behind only when that is killed."""
_held: set[int] = set()
"""Descriptors of the locks that this process holds."""


def _leave_locks() -> None:
    """Close a forked process's copies of locks: they end with the process that took them, though it leaves others."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_leave_locks)


def write_atomic(path: Path, content: bytes | str) -> None:
    """Put `content` at `path` such that a reader sees the old file or the new one, never a part.

    Raises UserError if the folder cannot be written to or the disk is full.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    write_atomic_with(path, lambda temporary: temporary.write_bytes(data))


def write_atomic_with(path: Path, write: Callable[[Path], object]) -> None:
    """Do the same as `write_atomic` with libraries that write to a path.

    A device or a pipe, such as /dev/stdout, is written to, and a link is followed: neither is replaced by a file.
    """
    if _is_device(path):
        _write_through(path, write)
        return
    path = Path(os.path.realpath(path))
    with _temporary_beside(path) as folder:
        temporary = folder / path.name
        write(temporary)
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)


def _is_device(path: Path) -> bool:
    """Tell whether something is at `path` that is neither a file nor a folder."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def _write_through(path: Path, write: Callable[[Path], object]) -> None:
    try:
        with tempfile.TemporaryDirectory(prefix=TEMPORARY) as folder:
            temporary = Path(folder) / "content"
            write(temporary)
            path.write_bytes(temporary.read_bytes())
    except OSError as error:
        raise cannot_write(path, error) from error


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
    from safetensors import SafetensorError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=path.parent))
    except (OSError, ValueError) as error:
        raise cannot_write(path.parent, error, "choose another folder") from error
    try:
        yield folder
    except (OSError, SafetensorError) as error:
        raise cannot_write(path, error) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def cannot_write(path: Path, error: Exception, remedy: str = "") -> UserError:
    """Return the error for a path that cannot be written to.

    Args:
        error: why: of the system, of a library that writes files, or ValueError for a path with a NUL.
    """
    reason = getattr(error, "strerror", None) or (str(error).splitlines() or ["unknown"])[0]
    return UserError(f"cannot write {shortened(str(path), 300)}: {reason}{'; ' if remedy else ''}{remedy}")


def refuse_unwritable(path: Path) -> None:
    """Raise UserError if no file or folder could be made at `path`; makes nothing."""
    if _is_device(path):
        return
    try:
        folder = next(parent for parent in path.absolute().parents if parent.exists() or parent.is_symlink())
        path.exists()  # raises for a name that is too long, or a folder that cannot be looked into
    except (OSError, ValueError) as error:
        raise cannot_write(path, error, "choose another place") from error
    if not folder.is_dir():
        raise cannot_write(path, NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)), "choose another place")
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        raise cannot_write(path, PermissionError(errno.EACCES, os.strerror(errno.EACCES)), "choose another place")


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Lock folder `path` against other processes inside the block, whatever their caches; the lock ends with them.

    The folder is made for that, and is gone afterwards if nothing was put into it. Raises UserError if another process
    works on it, or if it cannot be made.
    """
    refuse_unwritable(path / LOCK)
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        descriptor = _locked(path / LOCK, wait=False)
    except BlockingIOError as error:
        raise UserError(f"another process is working on {path}; wait for it or choose another --out") from error
    try:
        yield
    finally:
        (path / LOCK).unlink(missing_ok=True)
        _release(descriptor)
        _remove_empty(missing)


def _remove_empty(folders: Iterable[Path]) -> None:
    """Remove folders, the innermost first, until one that holds something."""
    for folder in folders:
        if not folder.is_dir() or any(folder.iterdir()):
            return
        folder.rmdir()


@contextmanager
def in_turn(file: Path, waiting: str) -> Iterator[None]:
    """Let one process after the other run the block.

    Args:
        file: the lock; it stays.
        waiting: what is logged while another process has it.

    Raises UserError if the lock cannot be made.
    """
    try:
        descriptor = _locked(file, wait=False)
    except BlockingIOError:
        log.warning(waiting)
        descriptor = _locked(file, wait=True)
    try:
        yield
    finally:
        _release(descriptor)


def _release(descriptor: int) -> None:
    _held.discard(descriptor)
    os.close(descriptor)


def _locked(file: Path, wait: bool) -> int:
    """Open and lock a file; return its descriptor. A file that its last holder removed meanwhile is made again.

    Raises BlockingIOError if another process has it and is not to be waited for, UserError if it cannot be made.
    """
    while True:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        except (OSError, ValueError) as error:
            raise cannot_write(file.parent, error, "choose another folder") from error
        if _is_locked(descriptor, file, wait):
            _held.add(descriptor)
            return descriptor


def _is_locked(descriptor: int, file: Path, wait: bool) -> bool:
    """Lock an open file; tell whether it is still the one of that name, and close it if not."""
    locked = False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        locked = file.exists() and os.path.samestat(os.fstat(descriptor), file.stat())
    finally:
        if not locked:
            os.close(descriptor)
    return locked


def _sync(path: Path) -> None:
    """Ask the operating system to put a file or a folder's entries on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(parts: Iterable[bytes | memoryview]) -> str:
    """Return the hex sha256 of a sequence of byte strings, each framed by its length so that boundaries count."""
    digest = hashlib.sha256()
    for part in parts:
        add_part(digest, part)
    return digest.hexdigest()


def add_part(digest: "hashlib._Hash", part: bytes | memoryview) -> None:
    """Add one more byte string to a hash, as `sha256_of`."""
    digest.update(len(part).to_bytes(8, "little"))
    digest.update(part)


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
