"""Reads files of explanations: by people, agents, other tools, an earlier run, or Neuronpedia's export.

CSV, JSON or JSONL (also .gz), a row or object per explanation with the columns of COLUMNS and AUTHORS; others are
ignored. Neuronpedia's names are those of its exports (modelId, layer, index, description, explanationModelName,
typeName) and of its Python library (source, index, text, explainer_model, method): hijohnnylin/neuronpedia at commit
ebb8426, apps/webapp/lib/db/explanation.ts and webapp-python-client/neuronpedia/np_explanation.py.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autointerp.llm.faults import one_line
from autointerp.records import ANY, is_index
from sae.common.errors import UserError, near, shortened
from sae.common.files import sha256_of_path
from sae.common.tables import without_mark

if TYPE_CHECKING:
    import pandas

COLUMNS = {
    "dictionary": ("dictionary", "layer", "source"),
    "feature": ("feature", "index"),
    "text": ("text", "explanation", "description"),
}
"""Names of each column. Without a dictionary, all rows are about the run's only trained dictionary."""
AUTHORS = ("explainer", "explanationModelName", "explainer_model", "typeName", "method")
"""Columns that say who or what wrote an explanation."""
UNNAMED = "unnamed"
"""The author of rows that name none, in a file where others do."""
READERS = {".csv": "csv", ".jsonl": "jsonl", ".json": "json"}


@dataclass(frozen=True)
class Explanations:
    """Holds a file's explanations, or those of one of its authors."""

    path: Path
    digest: str
    """The hash of the file."""
    by_dictionary: Mapping[str, Mapping[int, str]]
    """Texts by dictionary and feature; the dictionary is ANY where the file names none."""
    n_further: int
    """Rows about features that an earlier row explains: they are not used."""
    authors: tuple[str, ...]
    """All authors in the file, in the order of their first rows; empty if it names none."""


@dataclass(frozen=True)
class _Row:
    dictionary: Any
    feature: Any
    text: Any
    author: str


def read(name: str) -> Explanations:
    """Read a file of explanations: PATH, or PATH#AUTHOR for the rows of one author.

    Raises UserError if it is none, or has no such author; the message names the row or the column.
    """
    path, author = _path_and_author(name)
    rows = _rows(path)
    authors = tuple(dict.fromkeys(row.author for row in rows))
    if author and author not in authors:
        raise UserError(f"{path} has no explanation by {shortened(author)!r}{near(author, list(authors))}")
    kept = {number: row for number, row in enumerate(rows, start=1) if not author or row.author == author}
    return _collected(path, kept, () if authors == ("",) else authors)


def specs(name: str) -> list[str]:
    """Return the explainers that a file stands for: one per author where it has several. Raises what `read` does."""
    authors = read(name).authors
    return [f"file:{name}#{author}" for author in authors] if len(authors) > 1 else [f"file:{name}"]


def _path_and_author(name: str) -> tuple[Path, str]:
    """Split PATH#AUTHOR at the mark behind a file that exists; either part may hold further marks."""
    marks = [index for index, character in enumerate(name) if character == "#"]
    for mark in () if Path(name).expanduser().exists() else marks:
        if (path := Path(name[:mark]).expanduser()).is_file():
            return path, name[mark + 1 :]
    return Path(name).expanduser(), ""


def _rows(path: Path) -> list[_Row]:
    import pandas

    kind = READERS.get(path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix)
    if kind is None:
        raise UserError(f"cannot read explanations from {path}: give .csv, .json or .jsonl (or these with .gz)")
    try:
        if kind == "csv":
            table = pandas.read_csv(path, dtype=str, keep_default_na=False).map(without_mark)
            if not isinstance(table.index, pandas.RangeIndex):  # it took the first fields for names of rows
                raise UserError(f"{path}: rows have more fields than the header; quote a text that holds a comma")
        else:
            table = pandas.read_json(path, lines=kind == "jsonl", dtype=False)
    except OSError as error:
        reason = f"{error.strerror or error}; give a file .csv, .json or .jsonl"
        raise UserError(f"cannot read explanations from {path}: {reason}") from error
    except (ValueError, EOFError, zlib.error) as error:
        raise UserError(f"{path} is not {kind.upper()}: {one_line(str(error))}") from error
    column = {role: next((name for name in names if name in table.columns), None) for role, names in COLUMNS.items()}
    for role in ("feature", "text"):
        if column[role] is None:
            columns = ", ".join(map(str, table.columns))
            raise UserError(f"{path} has no column {' or '.join(COLUMNS[role])}; it has {columns[:200]}")
    if not len(table):
        raise UserError(f"{path} holds no explanation; write a row for each, under the columns feature and text")
    dictionary = table[column["dictionary"]] if column["dictionary"] else [ANY] * len(table)
    return list(map(_Row, dictionary, table[column["feature"]], table[column["text"]], _authors(table)))


def _authors(table: pandas.DataFrame) -> list[str]:
    """Return the author of each row: its names, joined; empty for all if the file has no names."""
    columns = [table[name] for name in AUTHORS if name in table.columns]
    names = zip(*columns, strict=True) if columns else [()] * len(table)
    authors = [", ".join(one.strip() for one in row if isinstance(one, str) and one.strip()) for row in names]
    return [author or UNNAMED for author in authors] if any(authors) else authors


def _collected(path: Path, rows: Mapping[int, _Row], authors: tuple[str, ...]) -> Explanations:
    by_dictionary: dict[str, dict[int, str]] = {}
    used = 0
    for number, row in rows.items():
        dictionary, feature, text = row.dictionary, row.feature, row.text
        if not is_index(str(feature)):
            raise UserError(f"{path}, row {number}: the feature is {str(feature)[:40]!r}, not a whole number")
        if not isinstance(text, str) or not text.strip():
            raise UserError(f"{path}, row {number}: the explanation is empty or no text")
        is_named = dictionary is not None and dictionary == dictionary  # a row of JSON without the column holds NaN
        texts = by_dictionary.setdefault(str(dictionary) if is_named else ANY, {})
        used += int(feature) not in texts
        texts.setdefault(int(feature), text.strip())
    if ANY in by_dictionary and len(by_dictionary) > 1:
        raise UserError(f"{path}: some rows name a dictionary and others none; name it in all of them, or in none")
    return Explanations(path, sha256_of_path(path), by_dictionary, len(rows) - used, authors)
