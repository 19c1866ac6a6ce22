"""Reads documents from a corpus: the standard library, a file, a folder, or a hub dataset. Needs no torch.

A corpus spec is `stdlib` (the running Python's standard library), a text file, a folder, a `.jsonl` or `.parquet`
file (`data.jsonl#column`, by default the column `text`), or `hf:NAME[@CONFIGURATION][#COLUMN]` (a Hugging Face dataset,
streamed).
"""

import json
import logging
import os
import re
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from sae.common.errors import UserError, near, shortened, visible
from sae.common.files import sha256_of
from sae.common.resources import path_of

log = logging.getLogger(__name__)
HALVES = re.compile("[\ud800-\udfff]")
"""Halves of surrogate pairs, which JSON can hold and no tokenizer reads."""
IGNORED_FOLDERS = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
CHARACTERS_PER_TOKEN = 8
"""More than a token has on average in any tokenizer: how much text is read for so many tokens."""
SECTION_CHARACTERS = 4_000
"""A text file is cut at blank lines into documents of about this size, so that it can be split by document."""
TEXT_TYPES = ("string", "large_string", "string_view", "binary", "large_binary", "binary_view")
"""Types of a parquet file's column that hold text."""
ROWS_AT_ONCE = 1_000
"""Documents of a parquet file that are in memory together."""


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
REPLACED = "with halves of characters, which were replaced by U+FFFD"


def read_documents(spec: str, max_characters: int | None = None, damage: Damage | None = None) -> list[Document]:
    """Return the non-empty documents of a corpus, in an order that depends only on its content.

    Reading stops after the document with which `max_characters` are reached. Damaged documents are counted in `damage`,
    and logged. Raises UserError if the spec names nothing readable or there is no text.
    """
    kept: list[Document] = []
    total = 0
    counted = Damage() if damage is None else damage
    for document in documents(spec, damage=counted):
        if document.text.strip():
            kept.append(document)
            total += len(document.text)
        if max_characters is not None and total >= max_characters:
            break
    if not kept:
        said = "; ".join(["no text", *counted.lines(spec)])
        raise UserError(f"corpus {spec} has {said}; give a file or folder with text in it")
    return kept


def documents(spec: str, start: int = 0, damage: Damage | None = None) -> Iterator[Document]:
    """Return all documents of a corpus from number `start` on, blank ones too, read one after the other as they are
    asked for.

    Only a text file is read whole: a corpus larger than memory is a `.jsonl`, a `.parquet`, a dataset or a folder.
    A document that is not UTF-8 or whose part of a file is damaged is skipped, halves of characters are replaced; how
    many is logged at the end, and counted in `damage`. Raises UserError if the spec names nothing readable, at the
    latest when the unreadable document is reached.
    """
    damage = Damage() if damage is None else damage
    if spec.startswith("hf:") and not re.split("[#@]", spec.removeprefix("hf:"))[0].strip():
        raise UserError(f"corpus {spec} names no dataset; write hf:NAME")
    found = _hugging_face(spec, start) if spec.startswith("hf:") else islice(_local(spec, damage), start, None)
    return _whole(found, spec, damage)


def _whole(found: Iterator[Document], spec: str, damage: Damage) -> Iterator[Document]:
    """Yield documents without halves of characters; at the end, log what was damaged."""
    try:
        for document in found:
            if document.text.isascii() or not HALVES.search(document.text):
                yield document
            else:
                damage.add(REPLACED, document.name)
                yield Document(document.name, HALVES.sub("\ufffd", document.text))
    finally:
        for line in damage.lines(spec):
            log.warning(line)


def _local(spec: str, damage: Damage) -> Iterator[Document]:
    if spec == "stdlib":
        return _stdlib()
    name, mark, column = spec.partition("#")
    path = path_of(name)
    if not name.strip() or not (path.is_dir() or path.is_file()):
        shown = shortened(spec) if spec.strip() else repr(spec)
        raise UserError(f"corpus {shown}: no such file or folder; corpora are stdlib, a path, or hf:NAME")
    if mark and (not column or path.suffix not in (".jsonl", ".parquet")):
        raise UserError(f"corpus {shortened(spec)}: only .jsonl and .parquet files have columns; write FILE#COLUMN")
    if path.is_dir():
        return _folder(path, damage)
    if path.suffix == ".jsonl":
        return _jsonl(path, column or "text", damage)
    if path.suffix == ".parquet":
        return _parquet(path, column or "text", damage)
    return _sections(path)


def _stdlib() -> Iterator[Document]:
    root = Path(sysconfig.get_paths()["stdlib"])
    paths: list[Path] = []
    for folder, below, names in os.walk(root):
        below[:] = set(below) - IGNORED_FOLDERS  # not descended into: site-packages may hold 100,000 files
        paths += [Path(folder, name) for name in names if name.endswith(".py")]
    for path in sorted(paths):
        yield Document(path.relative_to(root).as_posix(), path.read_text("utf-8", errors="replace"))


def _folder(root: Path, damage: Damage) -> Iterator[Document]:
    """Yield every file below a folder that is UTF-8 text; hidden and binary files are passed over."""
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root)
        if path.is_file() and not any(part.startswith(".") for part in relative.parts):
            data = _read_bytes(path)
            if b"\0" not in data[:8192]:
                yield from _decoded(visible(relative.as_posix()), data, damage)


def _decoded(name: str, data: bytes, damage: Damage) -> Iterator[Document]:
    """Yield a document; none, which is counted, if it is not UTF-8."""
    try:
        yield Document(name, data.decode("utf-8"))
    except UnicodeDecodeError:
        damage.add(SKIPPED_BYTES, name)


def _sections(path: Path) -> Iterator[Document]:
    """Yield a text file: cut at <|endoftext|> where it has that, else at blank lines into sections of a few pages."""
    text = _read_text(path)
    if "\0" in text[:8192]:
        raise UserError(f"cannot read {path} as text: it is binary; corpora are text, .jsonl and .parquet files")
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


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield numbered lines as they are asked for, cut at newlines only: JSON may hold U+2028 and its like."""
    try:
        with path.open("rb") as stream:
            yield from enumerate(stream, start=1)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def _jsonl(path: Path, column: str, damage: Damage) -> Iterator[Document]:
    for number, line in _lines(path):
        for document in _decoded(f"{path.name}:{number}", line, damage) if line.strip() else ():
            yield Document(document.name, _json_text(path, number, document.text, column))


def _json_text(path: Path, number: int, line: str, column: str) -> str:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:  # also of numbers that are too long, and of nesting too deep
        reason = getattr(error, "msg", None) or shortened(str(error))
        raise UserError(f"{path}:{number} is not JSON ({reason}); a .jsonl file has one object a line") from error
    if not isinstance(row, dict) or not isinstance(row.get(column), str):
        hint = near(column, sorted(row)) if isinstance(row, dict) else ""
        raise UserError(f"{path}:{number} has no text column {column!r}{hint}; choose one with {path.name}#COLUMN")
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

    @property
    def documents(self) -> list[Document]:
        """The documents that are used. Raises UserError if the spec names nothing readable or there is no text."""
        return self._read[0]

    @property
    def damage(self) -> tuple[str, ...]:
        """What was damaged in the corpus as far as it is used, a line for each kind of damage."""
        return () if self.source.startswith("hf:") else self._read[1].lines(self.source)

    @cached_property
    def _read(self) -> tuple[list[Document], Damage]:
        damage = Damage()
        return read_documents(self.source, CHARACTERS_PER_TOKEN * self.max_tokens, damage), damage

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
