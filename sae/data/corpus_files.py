"""Reads documents from files: text, JSON lines, a JSON array or parquet, also compressed, and folders of text.

All but a JSON array is read piece by piece. Damaged documents are yielded as Damaged; a file that cannot be read at
all, or whose documents are all damaged, is an error. Needs no torch.
"""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from sae.common.errors import UserError, near, shortened, visible
from sae.data.damage import NOT_JSON, NOT_READABLE, NOT_UTF8, Damaged, Document, no_text_in, refuse_throughout
from sae.data.text_files import is_binary, is_marked, sections

TEXT_TYPES = ("string", "large_string", "string_view", "binary", "large_binary", "binary_view")
"""Types of a parquet file's column that hold text."""
ROWS_AT_ONCE = 1_000
"""Documents of a parquet file that are in memory together."""
BUFFER = 2**20
"""Bytes of a parquet file's column that are read together."""
COMPRESSED = {".gz": "gzip", ".zst": "zstd"}
"""Endings of compressed files, which stand behind the others: x.jsonl.gz."""
UTF8 = "utf-8-sig"
"""Of files: the mark that programs of Windows put before a text is not part of it."""
ROWS = (".jsonl", ".json", ".parquet")
"""Endings of files whose documents are rows with columns."""


def file_documents(path: Path, column: str) -> Iterator[Document | Damaged]:
    """Yield the documents of a file, which is read as its name ends: rows of ROWS, else a text in sections.

    Raises UserError if it cannot be read, when that is reached, or if its documents are all damaged.
    """
    kind = kind_of(path)
    if kind in ROWS:
        read = {".jsonl": _jsonl, ".json": _json, ".parquet": _parquet}[kind]
        return refuse_throughout(read(path, column))
    return refuse_throughout(_text(path))


def kind_of(path: Path) -> str:
    """Return the ending that says what a file holds: .jsonl of x.jsonl.zst. Parquet files compress themselves."""
    inner = path.with_suffix("").suffix
    return inner if path.suffix in COMPRESSED and inner != ".parquet" else path.suffix


def folder_documents(root: Path) -> Iterator[Document | Damaged]:
    """Yield every file below a folder that is UTF-8 text, in sections; hidden and binary files are passed over."""
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root)
        if path.is_file() and not any(part.startswith(".") for part in relative.parts) and not _is_binary(path):
            yield from _sections(visible(relative.as_posix()), path)


def _text(path: Path) -> Iterator[Document | Damaged]:
    if _is_binary(path):
        raise UserError(f"cannot read {path} as text: it is binary; corpora are text, .jsonl, .json and .parquet files")
    yield from _sections(path.name, path)


def _is_binary(path: Path) -> bool:
    with _text_of(path) as stream:
        return is_binary(stream)


def _sections(name: str, path: Path) -> Iterator[Document | Damaged]:
    """Read a text twice: how it is to be cut is known only at its end."""
    with _text_of(path) as stream:
        marked = is_marked(stream)
    with _text_of(path) as stream:
        yield from sections(name, stream, marked)


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


@contextmanager
def _text_of(path: Path) -> Iterator[TextIO]:
    """Open a text as `sections` reads it."""
    with _opened(path) as stream, io.TextIOWrapper(stream, UTF8, "surrogateescape", newline="") as text:
        yield text


def _jsonl(path: Path, column: str) -> Iterator[Document | Damaged]:
    """Yield the rows as they are asked for. Lines end at newlines only: JSON may hold U+2028 and its like."""
    with _opened(path) as stream:
        for number, line in enumerate(stream, start=1):
            if line.strip():
                yield _line(path, number, line, column)


def _line(path: Path, number: int, line: bytes, column: str) -> Document | Damaged:
    name, where = f"{path.name}:{number}", f"{path}:{number}"
    try:
        row = json.loads(line.decode(UTF8))
    except UnicodeDecodeError:
        return Damaged(name, NOT_UTF8, f"cannot read {where} as UTF-8 text; convert the file first")
    except (ValueError, RecursionError) as error:  # also of numbers that are too long, and of nesting too deep
        return Damaged(name, NOT_JSON, _no_json(where, error, "a .jsonl file has one object a line"))
    return _row(path, name, where, row, column)


def _json(path: Path, column: str) -> Iterator[Document | Damaged]:
    """Yield the items of an array: objects with a column of text, or texts."""
    try:
        with _opened(path) as stream:
            rows = json.loads(stream.read().decode(UTF8))
    except UnicodeDecodeError as error:
        raise UserError(f"cannot read {path} as UTF-8 text: {error}; convert it first") from error
    except (ValueError, RecursionError) as error:
        raise UserError(_no_json(str(path), error, "a .json file holds one array")) from error
    if not isinstance(rows, list):
        raise UserError(f"{path} holds no JSON array; write one of objects or texts, or a .jsonl file")
    for number, row in enumerate(rows):
        yield _row(path, f"{path.name}:{number}", f"{path}: item {number}", row, column)


def _no_json(where: str, error: Exception, rule: str) -> str:
    return f"{where} is not JSON ({getattr(error, 'msg', None) or shortened(str(error))}); {rule}"


def _row(path: Path, name: str, where: str, row: Any, column: str) -> Document | Damaged:
    """Return the text of an object or, in a .json file, of a text."""
    if isinstance(row, str) and kind_of(path) == ".json":
        return Document(name, row)
    if isinstance(row, dict) and isinstance(row.get(column), str):
        return Document(name, row[column])
    lacks = f"has no text column {column!r}{near(column, sorted(row)) if isinstance(row, dict) else ''}"
    holds = f"holds no text in column {column!r}" if isinstance(row, dict) and column in row else lacks
    problem = f"{where} {holds}; choose one with {path.name}#COLUMN"
    return Damaged(name, no_text_in(column), problem)


def _parquet(path: Path, column: str) -> Iterator[Document | Damaged]:
    """Yield the rows of a parquet file by row group; the rest of a group from a damaged page on is skipped."""
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(path, buffer_size=BUFFER, pre_buffer=False)
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise UserError(f"cannot read {path} as parquet: {str(error).splitlines()[0]}") from error
    _check_column(path, table.schema_arrow, column)
    end = 0
    for group in range(table.num_row_groups):
        number, end = end, end + table.metadata.row_group(group).num_rows
        try:
            for batch in table.iter_batches(ROWS_AT_ONCE, row_groups=[group], columns=[column]):
                for data in batch.column(0).cast(pyarrow.large_binary()).to_pylist():
                    yield _decoded(f"{path.name}:{number}", data or b"")
                    number += 1
        except (OSError, pyarrow.ArrowException) as error:
            problem = f"cannot read {path} as parquet: {str(error).splitlines()[0]}"
            yield Damaged(f"{path.name}:{number}", NOT_READABLE, problem, end - number)


def _check_column(path: Path, schema: Any, column: str) -> None:
    """Raise UserError if a parquet file has no such column, or one without text."""
    import pyarrow

    if column not in schema.names:
        hint = near(column, schema.names)
        raise UserError(f"{path} has no column {column!r}{hint}; choose one with {path.name}#COLUMN")
    kind = schema.field(column).type
    kind = getattr(kind, "value_type", kind) if pyarrow.types.is_dictionary(kind) else kind
    if str(kind) not in TEXT_TYPES:
        raise UserError(f"{path}: column {column!r} holds {kind}, not text; choose one with {path.name}#COLUMN")


def _decoded(name: str, data: bytes) -> Document | Damaged:
    try:
        return Document(name, data.decode("utf-8"))
    except UnicodeDecodeError:
        return Damaged(name, NOT_UTF8, f"cannot read {name} as UTF-8 text; convert the file first")
