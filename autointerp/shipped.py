"""Finds prompts and configs: an explicit path, the working directory's folder of that name, then the shipped ones."""

from pathlib import Path
from typing import Literal

from sae.errors import UserError, near

Folder = Literal["prompts", "eval_configs"]


def find(folder: Folder, name: str, suffix: str) -> Path:
    """The file called `name`. Raises UserError with the near names if there is none."""
    explicit = Path(name).expanduser()
    if explicit.is_file():
        return explicit
    for place in (Path.cwd() / folder, shipped_folder(folder)):
        candidate = place / f"{name}{suffix}"
        if candidate.is_file():
            return candidate
    known = [path.relative_to(shipped_folder(folder)).with_suffix("").as_posix() for path in _files(folder, suffix)]
    raise UserError(f"{name}: no such file, nor one of that name in {folder}{near(name, known)}")


def shipped_folder(folder: Folder) -> Path:
    """The folder inside the installed package, or beside the packages in a checkout."""
    inside = Path(__file__).parent / "_shipped" / folder
    return inside if inside.is_dir() else Path(__file__).parent.parent / folder


def _files(folder: Folder, suffix: str) -> list[Path]:
    return sorted(shipped_folder(folder).rglob(f"*{suffix}"))
