"""Reads documents from a corpus: the standard library, a file, a folder, or a hub dataset. Needs no torch.

A corpus spec is `stdlib` (the running Python's standard library), a text file, a folder of text, a `.jsonl`, `.json` or
`.parquet` file (`data.jsonl#column`, by default the column `text`), or `hf:NAME[@CONFIGURATION][#COLUMN]` (a dataset of
the Hugging Face hub, streamed). Files may be compressed (`.gz`, `.zst`). Several specs with ` + ` between them are one
corpus.
"""

import logging
import os
import re
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Any

from sae.common.errors import UserError, near, shortened
from sae.common.files import sha256_of
from sae.common.resources import path_of
from sae.data.corpus_files import ROWS, Damage, Document, file_documents, folder_documents, kind_of

log = logging.getLogger(__name__)
HALVES = re.compile("[\ud800-\udfff]")
"""Halves of surrogate pairs, which JSON can hold and no tokenizer reads."""
IGNORED_FOLDERS = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
CHARACTERS_PER_TOKEN = 8
"""More than a token has on average in any tokenizer: how much text is read for so many tokens."""
SEPARATOR = " + "
"""Stands between the specs of several corpora that are read one after the other."""
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
        problems = "; ".join(["no text", *counted.lines(spec)])
        raise UserError(f"corpus {spec} has {problems}; give a file or folder with text in it")
    return kept


def documents(spec: str, start: int = 0, damage: Damage | None = None) -> Iterator[Document]:
    """Return all documents of a corpus from number `start` on, blank ones too, read one after the other as they are
    asked for.

    Only text and `.json` files are read whole: a corpus larger than memory is a `.jsonl`, a `.parquet`, a dataset or a
    folder.
    A document that is not UTF-8 or whose part of a file is damaged is skipped, halves of characters are replaced; how
    many is logged at the end, and counted in `damage`. Raises UserError if the spec names nothing readable, at the
    latest when the unreadable document is reached.
    """
    damage = Damage() if damage is None else damage
    specs = specs_of(spec)
    if len({one.startswith("hf:") for one in specs}) > 1:
        raise UserError(f"corpus {shortened(spec)}: datasets of the hub and files cannot be one corpus; give either")
    if len(specs) == 1:
        return _whole(_documents(spec, start, damage), spec, damage)
    parts = [_documents(one, 0, damage) for one in specs]
    return _whole(islice(chain.from_iterable(parts), start, None), spec, damage)


def specs_of(spec: str) -> list[str]:
    """Split the spec of several corpora. One that is a path of a file or folder is one, whatever is in its name."""
    path = os.path.expanduser(spec.partition("#")[0])
    return [spec] if SEPARATOR not in spec or os.path.exists(path) else spec.split(SEPARATOR)


def _documents(spec: str, start: int, damage: Damage) -> Iterator[Document]:
    if not spec.startswith("hf:"):
        return islice(_local(spec, damage), start, None)
    if not re.split("[#@]", spec.removeprefix("hf:"))[0].strip():
        raise UserError(f"corpus {spec} names no dataset; write hf:NAME")
    return _hugging_face(spec, start)


def _whole(documents: Iterator[Document], spec: str, damage: Damage) -> Iterator[Document]:
    """Yield documents without halves of characters; at the end, log what was damaged."""
    try:
        for document in documents:
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
    if mark and (not column or path.is_dir() or kind_of(path) not in ROWS):
        raise UserError(f"corpus {shortened(spec)}: only {', '.join(ROWS)} files have columns; write FILE#COLUMN")
    return folder_documents(path, damage) if path.is_dir() else file_documents(path, column or "text", damage)


def _stdlib() -> Iterator[Document]:
    root = Path(sysconfig.get_paths()["stdlib"])
    paths: list[Path] = []
    for folder, below, names in os.walk(root):
        below[:] = set(below) - IGNORED_FOLDERS  # not descended into: site-packages may hold 100,000 files
        paths += [Path(folder, name) for name in names if name.endswith(".py")]
    for path in sorted(paths):
        yield Document(path.relative_to(root).as_posix(), path.read_text("utf-8", errors="replace"))


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
