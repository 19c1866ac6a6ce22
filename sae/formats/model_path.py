"""Names a dictionary's model in its file, such that the two can be copied together. Needs no torch."""

from __future__ import annotations

import os
from pathlib import Path

LEVELS = 2
"""A model's folder is named relative to the dictionary's if it lies under one of so many folders above that: a training
has `subject` beside its dictionaries, a cache `subjects/HASH` and `dictionaries/HASH`."""


def to_stored(model: str | None, folder: Path) -> str | None:
    """Return how a dictionary written to `folder` names its model.

    A model's folder nearby is named relative to the dictionary's (`../subject`), any other by its absolute path; a name
    on the hub is kept.
    """
    if model is None or not os.path.isdir(os.path.expanduser(model)):
        return model
    target = Path(model).expanduser().resolve()
    relative = Path(os.path.relpath(target, folder.resolve()))
    return str(target) if relative.parts.count(os.pardir) > LEVELS else relative.as_posix()


def from_stored(model: str | None, folder: Path) -> str | None:
    """Return a model's name on the hub, or the absolute path of its folder."""
    return os.path.normpath(folder.resolve() / model) if model and is_relative(model) else model


def is_relative(stored: str) -> bool:
    """Return whether a stored name is a path relative to the dictionary's folder; a hub's name never begins so."""
    return stored.split("/")[0] in (os.curdir, os.pardir)
