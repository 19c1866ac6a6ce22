"""Makes the entries of a cache: each once, by one process at a time, and again when it was damaged.

An entry is a file or a folder; beside it lie its hash (`NAME.sha256`) and the lock under which it is made.
"""

import logging
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from sae.common.errors import UserError
from sae.common.files import in_turn, sha256_of_path, write_atomic

log = logging.getLogger(__name__)


def make_missing(paths: Sequence[Path], make: Callable[[Sequence[Path]], object]) -> None:
    """Make the entries that are not there or damaged, all in one call of `make`; another process that makes one is
    waited for, and what it made is used.

    Raises UserError if the cache cannot be written to.
    """
    if all(_is_whole(path) for path in paths):
        return
    with ExitStack() as locks:
        for path in sorted(paths):  # in one order, so that no two processes wait for each other
            locks.enter_context(in_turn(_beside(path, ".lock"), f"another process is making {path}; waiting for it"))
        missing = [path for path in paths if not _is_whole(path)]
        for path in missing:
            _throw_away(path)
        if missing:
            make(missing)
            for path in missing:
                write_atomic(_beside(path, ".sha256"), sha256_of_path(path))


def make_one(path: Path, make: Callable[[], object]) -> Path:
    """Make one entry unless it is there and whole, as `make_missing`, and return its path."""
    make_missing([path], lambda missing: make())
    return path


def _is_whole(path: Path) -> bool:
    """Tell whether an entry is there and is what was made."""
    hashed = _beside(path, ".sha256")
    try:
        return hashed.read_bytes() == sha256_of_path(path).encode() if path.exists() and hashed.is_file() else False
    except OSError as error:
        raise UserError(f"cannot read the cache {path}: {error.strerror}; choose another cache folder") from error


def _throw_away(path: Path) -> None:
    """Remove an entry that is not whole, and say so. One without a hash was left behind by a killed process."""
    if path.exists():
        if _beside(path, ".sha256").is_file():
            log.warning("the cache's entry %s is damaged; it is made again", path)
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    elif _beside(path, ".sha256").is_file():
        log.warning("the cache's entry %s is damaged (it is gone); it is made again", path)
    _beside(path, ".sha256").unlink(missing_ok=True)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
