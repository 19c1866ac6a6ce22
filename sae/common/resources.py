"""Finds prompts and configs: an explicit path, the working directory's folder of that name, then the shipped ones."""

from pathlib import Path
from typing import Literal

from sae.common.errors import UserError, near

Folder = Literal["prompts", "eval_configs"]


def find(folder: Folder, name: str, suffix: str, subfolder: str = "") -> Path:
    """Return the file called `name`, in this subfolder (such as `train/`).

    Raises UserError with the near names if there is none.
    """
    explicit = Path(name).expanduser()
    if explicit.is_file():
        return explicit
    for parent in (Path.cwd() / folder, shipped_folder(folder)):
        candidate = parent / f"{subfolder}{name}{suffix}"
        if candidate.is_file():
            return candidate
    inside = shipped_folder(folder) / subfolder
    # Prompts are named with their folder; configs in a folder of `eval_configs` are another command's.
    paths = inside.rglob(f"*{suffix}") if folder == "prompts" else inside.glob(f"*{suffix}")
    known = [path.relative_to(inside).with_suffix("").as_posix() for path in sorted(paths)]
    raise UserError(f"{name}: no such file, nor one of that name in {folder}{near(name, known)}")


def shipped_folder(folder: Folder) -> Path:
    """Return a shipped folder: inside this package in an installed wheel, beside the packages in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "_shipped" / folder
    return installed if installed.is_dir() else package.parent / folder
