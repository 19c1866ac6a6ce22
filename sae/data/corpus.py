"""Reads documents from a corpus: the standard library, a file, a folder, or a hub dataset. Needs no torch.

A corpus spec is `stdlib` (the running Python's standard library), a text file, a folder, a `.jsonl` or `.parquet`
file (`data.jsonl#column`, by default the column `text`), or `hf:NAME[@CONFIGURATION][#COLUMN]` (a Hugging Face dataset,
streamed).
"""

import json
import os
import re
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from sae.common.errors import UserError, near
from sae.common.files import sha256_of

IGNORED_FOLDERS = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
CHARACTERS_PER_TOKEN = 8
"""More than a token has on average in any tokenizer: how much text is read for so many tokens."""
SECTION_CHARACTERS = 4_000
"""A text file is cut at blank lines into documents of about this size, so that it can be split by document."""
ROWS_AT_ONCE = 1_000
"""Documents of a parquet file that are in memory together."""


@dataclass(frozen=True)
class Document:
    """Holds one text and where it comes from."""

    name: str
    text: str


def read_documents(spec: str, max_characters: int | None = None) -> list[Document]:
    """Return the non-empty documents of a corpus, in an order that depends only on its content.

    Reading stops after the document with which `max_characters` are reached. Raises UserError if the spec names
    nothing readable or there is no text.
    """
    kept: list[Document] = []
    total = 0
    for document in documents(spec):
        if document.text.strip():
            kept.append(document)
            total += len(document.text)
        if max_characters is not None and total >= max_characters:
            break
    if not kept:
        raise UserError(f"corpus {spec} has no text; give a file or folder with text in it")
    return kept


def documents(spec: str, start: int = 0) -> Iterator[Document]:
    """Return all documents of a corpus from number `start` on, blank ones too, read one after the other as they are
    asked for.

    Only a text file is read whole: a corpus larger than memory is a `.jsonl`, a `.parquet`, a dataset or a folder.
    Raises UserError if the spec names nothing readable, at the latest when the unreadable document is reached.
    """
    if spec.startswith("hf:"):
        return _hugging_face(spec, start)
    return islice(_local(spec), start, None)


def _local(spec: str) -> Iterator[Document]:
    if spec == "stdlib":
        return _stdlib()
    name, _, column = spec.partition("#")
    path = Path(name).expanduser()
    if path.is_dir():
        return _folder(path)
    if not path.is_file():
        raise UserError(f"corpus {spec}: no such file or folder; corpora are stdlib, a path, or hf:NAME")
    if path.suffix == ".jsonl":
        return _jsonl(path, column or "text")
    if path.suffix == ".parquet":
        return _parquet(path, column or "text")
    return _sections(path)


def _stdlib() -> Iterator[Document]:
    root = Path(sysconfig.get_paths()["stdlib"])
    paths: list[Path] = []
    for folder, below, names in os.walk(root):
        below[:] = set(below) - IGNORED_FOLDERS  # not descended into: site-packages may hold 100,000 files
        paths += [Path(folder, name) for name in names if name.endswith(".py")]
    for path in sorted(paths):
        yield Document(path.relative_to(root).as_posix(), path.read_text("utf-8", errors="replace"))


def _folder(root: Path) -> Iterator[Document]:
    """Yield every file below a folder that is text; hidden and binary files are passed over."""
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root)
        if path.is_file() and not any(part.startswith(".") for part in relative.parts):
            data = _read_bytes(path)
            if b"\0" not in data[:8192]:
                yield Document(relative.as_posix(), data.decode("utf-8", errors="replace"))


def _sections(path: Path) -> Iterator[Document]:
    """Yield a text file: cut at <|endoftext|> where it has that, else at blank lines into sections of a few pages."""
    text = _read_text(path)
    marked = "<|endoftext|>" in text
    for number, piece in enumerate(text.split("<|endoftext|>") if marked else _grouped(re.split(r"\n\s*\n", text))):
        yield Document(f"{path.name}:{number}", piece)


def _grouped(paragraphs: Iterable[str]) -> Iterator[str]:
    section: list[str] = []
    for paragraph in paragraphs:
        section.append(paragraph)
        if sum(map(len, section)) >= SECTION_CHARACTERS:
            yield "\n\n".join(section)
            section = []
    if section:
        yield "\n\n".join(section)


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def _read_text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path} as UTF-8 text: {error}; convert it first") from error


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield numbered lines as they are asked for, cut at newlines only: JSON may hold U+2028 and its like."""
    number = 0
    try:
        with path.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                yield number, line.decode("utf-8")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"cannot read {path}:{number} as UTF-8 text: {error}; convert it first") from error


def _jsonl(path: Path, column: str) -> Iterator[Document]:
    for number, line in _lines(path):
        if line.strip():
            yield Document(f"{path.name}:{number}", _json_text(path, number, line, column))


def _json_text(path: Path, number: int, line: str, column: str) -> str:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{number} is not JSON ({error.msg}); a .jsonl file has one object a line") from error
    if not isinstance(row, dict) or not isinstance(row.get(column), str):
        hint = near(column, sorted(row)) if isinstance(row, dict) else ""
        raise UserError(f"{path}:{number} has no text column {column!r}{hint}; choose one with {path.name}#COLUMN")
    return str(row[column])


def _parquet(path: Path, column: str) -> Iterator[Document]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(path)
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise UserError(f"cannot read {path} as parquet: {str(error).splitlines()[0]}") from error
    if column not in table.schema_arrow.names:
        hint = near(column, table.schema_arrow.names)
        raise UserError(f"{path} has no column {column!r}{hint}; choose one with {path.name}#COLUMN")
    number = 0
    for batch in table.iter_batches(ROWS_AT_ONCE, columns=[column]):
        for text in batch.column(0).to_pylist():
            yield Document(f"{path.name}:{number}", str(text or ""))
            number += 1


def _hugging_face(spec: str, start: int) -> Iterator[Document]:
    """Yield the rows of a dataset's `train` split, streamed. What lies before `start` is read past, not kept."""
    address, _, column = spec.removeprefix("hf:").partition("#")
    name, _, configuration = address.partition("@")
    column = column or "text"
    try:
        import datasets
    except ImportError as error:
        raise UserError(f"corpus {spec} needs the datasets library: pip install datasets zstandard") from error
    try:
        rows = datasets.load_dataset(name, name=configuration or None, split="train", streaming=True)
        for number, row in enumerate(rows.skip(start) if start else rows, start):
            if column not in row:
                raise UserError(f"dataset {name} has no column {column!r}{near(column, sorted(row))}")
            yield Document(f"{address}:{number}", str(row[column] or ""))
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"cannot read dataset {name}: {reason} (hf:NAME, or hf:NAME@CONFIGURATION)") from error


@dataclass(frozen=True)
class Text:
    """Reads a corpus as far as a run uses it, once, when its documents or its hash are first needed."""

    source: str
    """The corpus spec."""
    context: int
    """Tokens of a block that it is cut into."""
    max_tokens: int
    """It is read until it has so many tokens, in any tokenizer."""

    @cached_property
    def documents(self) -> list[Document]:
        """The documents that are used. Raises UserError if the spec names nothing readable or there is no text."""
        return read_documents(self.source, CHARACTERS_PER_TOKEN * self.max_tokens)

    @cached_property
    def hash(self) -> str:
        """The hash of these documents; of a hub dataset its name, so that it is not fetched twice."""
        if self.source.startswith("hf:"):
            return self.source
        return sha256_of(document.text.encode("utf-8", "surrogatepass") for document in self.documents)

    @property
    def content(self) -> list[Any]:
        """Everything that its blocks depend on, ready for JSON: not the path."""
        return [self.hash, self.context, self.max_tokens]
