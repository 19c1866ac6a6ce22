"""Reads files of explanations: by people, agents, other tools, an earlier run, or Neuronpedia's export.

CSV, JSON or JSONL (also .gz), a row or object per feature with the columns of COLUMNS; others are ignored.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autointerp.llm.faults import one_line
from autointerp.records import ANY
from sae.common.errors import UserError
from sae.common.files import sha256_of_path

COLUMNS = {
    "dictionary": ("dictionary", "layer"),
    "feature": ("feature", "index"),
    "text": ("text", "explanation", "description"),
}
"""Names of each column; `layer`, `index` and `description` are Neuronpedia's. Without a dictionary, all rows are about
the run's only trained dictionary."""
READERS = {".csv": "csv", ".jsonl": "jsonl", ".json": "json"}


@dataclass(frozen=True)
class Explanations:
    """Holds a file's explanations."""

    path: Path
    digest: str
    """The hash of the file."""
    by_dictionary: Mapping[str, Mapping[int, str]]
    """Texts by dictionary and feature; the dictionary is ANY where the file names none."""
    n_further: int
    """Rows about features that an earlier row explains: they are not used."""


def read(name: str) -> Explanations:
    """Read a file of explanations. Raises UserError if it is none; the message names the row or the column."""
    import pandas

    path = Path(name).expanduser()
    kind = READERS.get(path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix)
    if kind is None:
        raise UserError(f"cannot read explanations from {path}: give .csv, .json or .jsonl (or these with .gz)")
    try:
        if kind == "csv":
            table = pandas.read_csv(path, dtype=str, keep_default_na=False)
        else:
            table = pandas.read_json(path, lines=kind == "jsonl", dtype=False)
    except OSError as error:
        raise UserError(f"cannot read explanations from {path}: {error.strerror or error}") from error
    except (ValueError, EOFError, zlib.error) as error:
        raise UserError(f"{path} is not {kind.upper()}: {one_line(str(error))}") from error
    column = {role: next((name for name in names if name in table.columns), None) for role, names in COLUMNS.items()}
    for role in ("feature", "text"):
        if column[role] is None:
            columns = ", ".join(map(str, table.columns))
            raise UserError(f"{path} has no column {' or '.join(COLUMNS[role])}; it has {columns[:200]}")
    dictionary = table[column["dictionary"]] if column["dictionary"] else [ANY] * len(table)
    rows = list(zip(dictionary, table[column["feature"]], table[column["text"]], strict=True))
    return _collected(path, rows)


def _collected(path: Path, rows: Sequence[tuple[Any, Any, Any]]) -> Explanations:
    by_dictionary: dict[str, dict[int, str]] = {}
    used = 0
    for number, (dictionary, feature, text) in enumerate(rows, start=1):
        if not str(feature).isdecimal():
            raise UserError(f"{path}, row {number}: the feature is {str(feature)[:40]!r}, not a whole number")
        if not isinstance(text, str) or not text.strip():
            raise UserError(f"{path}, row {number}: the explanation is empty or no text")
        texts = by_dictionary.setdefault(str(dictionary), {})
        used += int(feature) not in texts
        texts.setdefault(int(feature), text.strip())
    if not rows:
        raise UserError(f"{path} holds no explanation")
    return Explanations(path, sha256_of_path(path), by_dictionary, len(rows) - used)
