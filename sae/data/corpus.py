"""Reads documents from a corpus: the standard library, a file, a folder, or a hub dataset. Needs no torch.

A corpus spec is `stdlib` (the running Python's standard library), a text file, a folder of text, a `.jsonl`, `.json` or
`.parquet` file (`data.jsonl#column`, by default the column `text`), or `hf:NAME[@CONFIGURATION][#COLUMN]` (a dataset of
the Hugging Face hub, streamed). Files may be compressed (`.gz`, `.zst`). Several specs with ` + ` between them are one
corpus.
"""

import hashlib
import logging
import os
import re
import sysconfig
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Any

from sae.common.errors import UserError, near, shortened
from sae.common.files import add_part, sha256_of
from sae.common.resources import path_of
from sae.data.corpus_files import ROWS, file_documents, folder_documents, kind_of
from sae.data.damage import REPLACED, Damage, Document, no_text_in

log = logging.getLogger(__name__)
HALVES = re.compile("[\ud800-\udfff]")
"""Halves of surrogate pairs, which JSON can hold and no tokenizer reads."""
IGNORED_FOLDERS = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
CHARACTERS_PER_TOKEN = 8
"""More than a token has on average in any tokenizer: how much text is read for so many tokens."""
SEPARATOR = " + "
"""Stands between the specs of several corpora that are read one after the other."""


def read_documents(spec: str, max_characters: int | None = None, damage: Damage | None = None) -> Iterator[Document]:
    """Yield the non-empty documents of a corpus, in an order that depends only on its content.

    Reading stops after the document with which `max_characters` are reached. Damaged documents are counted in `damage`
    or, without one, logged. Raises UserError if the spec names nothing readable or there is no text.
    """
    total = 0
    counted = Damage() if damage is None else damage
    try:
        for document in documents(spec, damage=counted):
            if document.text.strip():
                yield document
                total += len(document.text)
            if max_characters is not None and total >= max_characters:
                break
    finally:
        if damage is None:
            warn(counted, spec)
    if not total:
        problems = "; ".join(["no text", *counted.lines(spec)])
        raise UserError(f"corpus {spec} has {problems}; give a file or folder with text in it")


def documents(spec: str, start: int = 0, damage: Damage | None = None) -> Iterator[Document]:
    """Return all documents of a corpus from number `start` on, blank ones too, read one after the other as they are
    asked for.

    Only `.json` files are read whole. A document that is not text, or whose part of a file is damaged, is skipped,
    halves of characters are replaced; how many are counted in `damage` or, without one, logged at the end. Raises
    UserError if the spec names nothing readable or a file is damaged throughout, at the latest when that is reached.
    """
    specs = specs_of(spec)
    if len({one.startswith("hf:") for one in specs}) > 1:
        raise UserError(f"corpus {shortened(spec)}: datasets of the hub and files cannot be one corpus; give either")
    counted = Damage() if damage is None else damage
    if len(specs) == 1:
        stream = _documents(spec, start, counted)
    else:
        stream = islice(chain.from_iterable([_documents(one, 0, counted) for one in specs]), start, None)
    whole = _without_halves(stream, counted)
    return _warning(whole, spec, counted) if damage is None else whole


def specs_of(spec: str) -> list[str]:
    """Split the spec of several corpora. One that is a path of a file or folder is one, whatever is in its name."""
    path = os.path.expanduser(spec.partition("#")[0])
    return [spec] if SEPARATOR not in spec or os.path.exists(path) else spec.split(SEPARATOR)


def _documents(spec: str, start: int, damage: Damage) -> Iterator[Document]:
    if not spec.startswith("hf:"):
        return islice(_local(spec, damage), start, None)
    if not re.split("[#@]", spec.removeprefix("hf:"))[0].strip():
        raise UserError(f"corpus {spec} names no dataset; write hf:NAME")
    return _hugging_face(spec, start, damage)


def _without_halves(documents: Iterator[Document], damage: Damage) -> Iterator[Document]:
    """Yield documents with halves of characters replaced, and count those."""
    for document in documents:
        if document.text.isascii() or not HALVES.search(document.text):
            yield document
        else:
            damage.add(REPLACED, document.name)
            yield Document(document.name, HALVES.sub("\ufffd", document.text))


def _warning(documents: Iterator[Document], spec: str, damage: Damage) -> Iterator[Document]:
    try:
        yield from documents
    finally:
        warn(damage, spec)


def warn(damage: Damage, spec: str) -> None:
    """Log what was damaged in a corpus."""
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
    if mark and (not column or path.is_dir() or kind_of(path) not in ROWS):
        raise UserError(f"corpus {shortened(spec)}: only {', '.join(ROWS)} files have columns; write FILE#COLUMN")
    return damage.skipping(folder_documents(path) if path.is_dir() else file_documents(path, column or "text"))


def _stdlib() -> Iterator[Document]:
    root = Path(sysconfig.get_paths()["stdlib"])
    paths: list[Path] = []
    for folder, below, names in os.walk(root):
        below[:] = set(below) - IGNORED_FOLDERS  # not descended into: site-packages may hold 100,000 files
        paths += [Path(folder, name) for name in names if name.endswith(".py")]
    for path in sorted(paths):
        yield Document(path.relative_to(root).as_posix(), path.read_text("utf-8", errors="replace"))


def _hugging_face(spec: str, start: int, damage: Damage) -> Iterator[Document]:
    """Yield the rows of a dataset's `train` split, streamed. What lies before `start` is read past, not kept.

    A row that is no text is counted, and is blank: rows keep their numbers.
    """
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
            text = row[column] or ""
            if not isinstance(text, str):
                damage.add(no_text_in(column), f"{address}:{number}")
            yield Document(f"{address}:{number}", text if isinstance(text, str) else "")
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"cannot read dataset {name}: {reason} (hf:NAME, or hf:NAME@CONFIGURATION)") from error


@dataclass(frozen=True)
class Text:
    """Reads a corpus from its start each time, as far as a run uses it: it is never held whole."""

    source: str
    """The corpus spec."""
    context: int
    """Tokens of a block that it is cut into."""
    max_tokens: int
    """It is read until it has so many tokens, in any tokenizer."""

    def documents(self, damage: Damage | None = None) -> Iterator[Document]:
        """Yield the documents that are used; what is damaged is counted in `damage`, and not logged.

        Raises UserError if the spec names nothing readable or there is no text and, at the end, if files have changed
        since their hash was computed.
        """
        digest = hashlib.sha256()
        for document in self._read(damage or Damage()):
            yield document
            add_part(digest, _bytes(document))
        if not self.is_on_hub and digest.hexdigest() != self.hash:
            raise UserError(f"corpus {self.source} has changed while it was read; start again")

    def names(self, numbers: Collection[int]) -> list[str]:
        """Return the names of some documents by their numbers, in the corpus' order."""
        kept = frozenset(numbers)
        return [document.name for number, document in enumerate(self.documents()) if number in kept]

    @property
    def is_on_hub(self) -> bool:
        return self.source.startswith("hf:")

    @property
    def damage(self) -> tuple[str, ...]:
        """What was damaged in the corpus as far as it is used, a line for each kind of damage; nothing is known of a
        hub dataset, which is not read for that.
        """
        return () if self.is_on_hub else self._scan[1].lines(self.source)

    @property
    def hash(self) -> str:
        """The hash of these documents; of a hub dataset its name, so that it is not fetched twice."""
        return self.source if self.is_on_hub else self._scan[0]

    @property
    def content(self) -> list[Any]:
        """Everything that its blocks depend on, ready for JSON: not the path."""
        return [self.hash, self.context, self.max_tokens]

    @cached_property
    def _scan(self) -> tuple[str, Damage]:
        """Read it through once, for its hash and what is damaged."""
        damage = Damage()
        digest = sha256_of(_bytes(document) for document in self._read(damage))
        warn(damage, self.source)
        return digest, damage

    def _read(self, damage: Damage) -> Iterator[Document]:
        return read_documents(self.source, CHARACTERS_PER_TOKEN * self.max_tokens, damage)


def _bytes(document: Document) -> bytes:
    return document.text.encode("utf-8", "surrogatepass")
