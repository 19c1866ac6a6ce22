"""Writes a finished run in the formats of other tools.

Every file here is one format that registers itself in EXPORTS; other packages add theirs through the entry-point group
`autointerp.exports`. Importing this loads nothing heavy.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from sae.common.errors import UserError, near
from sae.common.registry import Registry

if TYPE_CHECKING:
    from autointerp.exports.content import Content


class Export(ABC):
    """Defines a format. `Export(options)` makes its writer, which reads a run and writes one file or one folder."""

    about: ClassVar[str]
    """What it writes, in a few words, for the command's help."""
    is_folder: ClassVar[bool] = False
    """Whether it writes a folder; else one file."""
    suffixes: ClassVar[tuple[str, ...]] = ()
    """How the name of its file may end; empty: anyhow."""
    options: ClassVar[Mapping[str, str]] = {}
    """Its settings with their meaning."""
    onward: ClassVar[str] = ""
    """What to do with what was written; {out} stands for its path."""

    def __init__(self, options: Mapping[str, str]) -> None:
        self.given = options

    @abstractmethod
    def write(self, content: Content, path: Path) -> Sequence[str]:
        """Write a run to `path`, which is a temporary one of the final name; a folder is there already.

        Returns what the format cannot hold, a line each. Raises UserError if nothing can be written.
        """


EXPORTS: Registry[type[Export]] = Registry(
    "format",
    "autointerp.exports",
    order=("features", "neuronpedia", "neuronpedia_explanations", "circuit_tracer", "saebench"),
    shared=("content", "results_table"),
)


def make(name: str, options: Mapping[str, object]) -> Export:
    """Make a format's writer by its name. Raises UserError if there is none, or if it has no such option."""
    part = EXPORTS.get(name.replace("-", "_"))
    unknown = next((option for option in options if option not in part.options), None)
    if unknown is not None:
        has = near(unknown, list(part.options)) if part.options else "; it has none"
        raise UserError(f"--set {unknown}: {name} has no such setting{has}")
    return part({option: str(value) for option, value in options.items()})


def write(export: Export, content: Content, path: Path) -> Sequence[str]:
    """Write a run to `path` as a whole or not at all; return what the format cannot hold, a line each.

    Raises UserError if there is something already, if the name does not end as it must, or if it cannot be written.
    """
    from sae.common.files import make_folder_atomic, write_atomic_with

    check(export, path)
    notes: list[str] = []
    if export.is_folder:
        make_folder_atomic(path, lambda temporary: notes.extend(export.write(content, temporary)))
    else:
        write_atomic_with(path, lambda temporary: notes.extend(export.write(content, temporary)))
    return notes


def check(export: Export, path: Path) -> None:
    """Raise UserError if a format cannot be written to `path`; makes nothing."""
    from sae.common.files import refuse_unwritable

    refuse_unwritable(path)
    if path.exists() or path.is_symlink():
        raise UserError(f"{path} exists already; choose another --out")
    if export.suffixes and not path.name.endswith(export.suffixes):
        raise UserError(f"{path.name}: its name must end in {' or '.join(export.suffixes)}")
