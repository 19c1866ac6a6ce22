"""Reads documents from files: text, JSON lines, a JSON array or parquet, also compressed, and folders of text.

Damaged documents are skipped and counted; a file that cannot be read at all is an error. Needs no torch.
"""

import io
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from sae.common.errors import UserError, near, shortened, visible

SECTION_CHARACTERS = 4_000
"""A text is cut at blank lines into documents of about this size, so that it can be split by document."""
TEXT_TYPES = ("string", "large_string", "string_view", "binary", "large_binary", "binary_view")
"""Types of a parquet file's column that hold text."""
ROWS_AT_ONCE = 1_000
"""Documents of a parquet file that are in memory together."""
COMPRESSED = {".gz": "gzip", ".zst": "zstd"}
"""Endings of compressed files, which stand behind the others: x.jsonl.gz."""
ROWS = (".jsonl", ".json", ".parquet")
"""Endings of files whose documents are rows with columns."""


@dataclass(frozen=True)
class Document:
    """Holds one text and where it comes from."""

    name: str
    text: str


@dataclass
class Damage:
    """Counts the documents of a corpus that are damaged, while it is read."""

    kinds: dict[str, tuple[str, int]] = field(default_factory=dict)
    """By what was done to them: the name of the first, and their number."""

    def add(self, kind: str, name: str, count: int = 1) -> None:
        """Count documents, of which the first is called `name`."""
        first, before = self.kinds.get(kind, (name, 0))
        self.kinds[kind] = (first, before + count)

    def lines(self, spec: str) -> tuple[str, ...]:
        """Say what was damaged, a line for each kind of damage."""
        return tuple(
            f"corpus {spec}: {count:,} {'document' if count == 1 else 'documents'} {kind} (the first: {name})"
            for kind, (name, count) in self.kinds.items()
        )


SKIPPED_BYTES = "skipped, because they are not UTF-8 text"
SKIPPED_PAGES = "skipped, because they cannot be read"


def file_documents(path: Path, column: str, damage: Damage) -> Iterator[Document]:
    """Yield the documents of a file, which is read as its name ends: rows of ROWS, else a text in sections.

    Only `.json` and text files are read whole. Raises UserError if it cannot be read, when that is reached.
    """
    kind = kind_of(path)
    if kind == ".jsonl":
        return _jsonl(path, column, damage)
    if kind == ".json":
        return _json(path, column)
    return _parquet(path, column, damage) if kind == ".parquet" else _text(path)


def kind_of(path: Path) -> str:
    """Return the ending that says what a file holds: .jsonl of x.jsonl.zst. Parquet files compress themselves."""
    inner = path.with_suffix("").suffix
    return inner if path.suffix in COMPRESSED and inner != ".parquet" else path.suffix


def folder_documents(root: Path, damage: Damage) -> Iterator[Document]:
    """Yield every file below a folder that is UTF-8 text, in sections; hidden and binary files are passed over."""
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root)
        if path.is_file() and not any(part.startswith(".") for part in relative.parts):
            data = _read_bytes(path)
            if b"\0" not in data[:8192]:
                for document in _decoded(visible(relative.as_posix()), data, damage):
                    yield from _sections(document.name, document.text)


def _decoded(name: str, data: bytes, damage: Damage) -> Iterator[Document]:
    """Yield a document; none, which is counted, if it is not UTF-8."""
    try:
        yield Document(name, data.decode("utf-8"))
    except UnicodeDecodeError:
        damage.add(SKIPPED_BYTES, name)


def _text(path: Path) -> Iterator[Document]:
    text = _read_text(path)
    if "\0" in text[:8192]:
        raise UserError(f"cannot read {path} as text: it is binary; corpora are text, .jsonl, .json and .parquet files")
    yield from _sections(path.name, text)


def _sections(name: str, text: str) -> Iterator[Document]:
    """Yield a text: cut at <|endoftext|> where it has that, else at blank lines into sections of a few pages."""
    marked = "<|endoftext|>" in text
    for number, piece in enumerate(text.split("<|endoftext|>") if marked else _grouped(re.split(r"\n\s*\n", text))):
        yield Document(f"{name}:{number}", piece)


def _grouped(paragraphs: Iterable[str]) -> Iterator[str]:
    section: list[str] = []
    for paragraph in paragraphs:
        section.append(paragraph)
        if sum(map(len, section)) >= SECTION_CHARACTERS:
            yield "\n\n".join(section)
            section = []
    if section:
        yield "\n\n".join(section)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file, decompressed as its name ends. Raises UserError if it cannot be read, then or later."""
    try:
        if path.suffix in COMPRESSED:
            import pyarrow

            with pyarrow.input_stream(str(path), compression=COMPRESSED[path.suffix]) as stream:
                yield io.BufferedReader(stream)
        else:
            with path.open("rb") as plain:
                yield plain
    except OSError as error:  # pyarrow's have no strerror
        reason = error.strerror or (str(error).splitlines() or ["unknown"])[0]
        raise UserError(f"cannot read {path}: {reason}") from error


def _read_bytes(path: Path) -> bytes:
    with _opened(path) as stream:
        return stream.read()


def _read_text(path: Path) -> str:
    try:
        return _read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"cannot read {path} as UTF-8 text: {error}; convert it first") from error


def _jsonl(path: Path, column: str, damage: Damage) -> Iterator[Document]:
    """Yield the rows as they are asked for. Lines end at newlines only: JSON may hold U+2028 and its like."""
    with _opened(path) as stream:
        for number, line in enumerate(stream, start=1):
            for document in _decoded(f"{path.name}:{number}", line, damage) if line.strip() else ():
                row = _parsed(f"{path}:{number}", document.text, "a .jsonl file has one object a line")
                yield Document(document.name, _column(path, f"{path}:{number}", row, column))


def _json(path: Path, column: str) -> Iterator[Document]:
    """Yield the items of an array: objects with a column of text, or texts."""
    rows = _parsed(str(path), _read_text(path), "a .json file holds one array")
    if not isinstance(rows, list):
        raise UserError(f"{path} holds no JSON array; write one of objects or texts, or a .jsonl file")
    for number, row in enumerate(rows):
        text = row if isinstance(row, str) else _column(path, f"{path}: item {number}", row, column)
        yield Document(f"{path.name}:{number}", text)


def _parsed(where: str, text: str, rule: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # also of numbers that are too long, and of nesting too deep
        reason = getattr(error, "msg", None) or shortened(str(error))
        raise UserError(f"{where} is not JSON ({reason}); {rule}") from error


def _column(path: Path, where: str, row: Any, column: str) -> str:
    if not isinstance(row, dict) or not isinstance(row.get(column), str):
        hint = near(column, sorted(row)) if isinstance(row, dict) else ""
        raise UserError(f"{where} has no text column {column!r}{hint}; choose one with {path.name}#COLUMN")
    return str(row[column])


def _parquet(path: Path, column: str, damage: Damage) -> Iterator[Document]:
    """Yield the rows of a parquet file by row group; the rest of a group from a damaged page on is skipped."""
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(path)
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise UserError(f"cannot read {path} as parquet: {str(error).splitlines()[0]}") from error
    if column not in table.schema_arrow.names:
        hint = near(column, table.schema_arrow.names)
        raise UserError(f"{path} has no column {column!r}{hint}; choose one with {path.name}#COLUMN")
    kind = table.schema_arrow.field(column).type
    kind = getattr(kind, "value_type", kind) if pyarrow.types.is_dictionary(kind) else kind
    if str(kind) not in TEXT_TYPES:
        raise UserError(f"{path}: column {column!r} holds {kind}, not text; choose one with {path.name}#COLUMN")
    end = 0
    for group in range(table.num_row_groups):
        number, end = end, end + table.metadata.row_group(group).num_rows
        try:
            for batch in table.iter_batches(ROWS_AT_ONCE, row_groups=[group], columns=[column]):
                for data in batch.column(0).cast(pyarrow.large_binary()).to_pylist():
                    yield from _decoded(f"{path.name}:{number}", data or b"", damage)
                    number += 1
        except (OSError, pyarrow.ArrowException):
            damage.add(SKIPPED_PAGES, f"{path.name}:{number}", end - number)
