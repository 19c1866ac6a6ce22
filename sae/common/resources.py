"""Finds prompts and configs: an explicit path, the working directory's folder of that name, then the shipped ones."""

from pathlib import Path
from typing import Literal

from sae.common.errors import UserError, near, shortened

Folder = Literal["prompts", "eval_configs"]


def find(folder: Folder, name: str, suffix: str, subfolder: str = "") -> Path:
    """Return the file called `name`, in this subfolder (such as `train/`).

    Raises UserError with the near names if there is none.
    """
    shipped = shipped_folder(folder)
    named = [parent / f"{subfolder}{name}{suffix}" for parent in (Path.cwd() / folder, shipped)]
    for candidate in map(path_of, [Path(name), *named]):
        if name.strip() and candidate.is_file():
            return candidate
    inside = shipped / subfolder
    # Prompts are named with their folder; configs in a folder of `eval_configs` are another command's, unless it is
    # written before the name.
    nested = folder == "prompts" or name.partition("/")[0] in {each.name for each in inside.iterdir() if each.is_dir()}
    paths = inside.rglob(f"*{suffix}") if nested else inside.glob(f"*{suffix}")
    known = [path.relative_to(inside).with_suffix("").as_posix() for path in sorted(paths)]
    shown = shortened(name) if name.strip() else repr(name)
    raise UserError(f"{shown}: no such file, nor one of that name in {folder}{near(name, known)}")


def path_of(text: str | Path) -> Path:
    """Return a path that the user wrote. Raises UserError for one that no file system can have."""
    try:
        path = Path(text).expanduser()
        path.exists()
    except (OSError, ValueError, RuntimeError) as error:  # too long, or forbidden; a NUL; an unknown user's home
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{shortened(str(text))}: no such file or folder ({reason}); give another path") from error
    return path


def shipped_folder(folder: Folder) -> Path:
    """Return a shipped folder: inside this package in an installed wheel, beside the packages in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "_shipped" / folder
    return installed if installed.is_dir() else package.parent / folder
