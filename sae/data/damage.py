"""Counts the damaged documents of a corpus, names the first, and tells a file that is damaged throughout.

A reader of files yields what it reads as a Document, and what it cannot read as Damaged. Needs no torch.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from sae.common.errors import UserError

NAMED = 3
"""Damaged documents of each kind that are named; the others are only counted."""
MOST_DAMAGED = 1_000
"""If a file begins with so many damaged documents, it is not read to its end in search of a good one."""
NOT_UTF8 = "skipped, because they are not UTF-8 text"
NOT_READABLE = "skipped, because they cannot be read"
NOT_JSON = "skipped, because they are not JSON"
REPLACED = "with halves of characters, which were replaced by U+FFFD"


def no_text_in(column: str) -> str:
    """Return the kind of damage of rows without text."""
    return f"skipped, because they have no text in column {column!r}"


@dataclass(frozen=True)
class Document:
    """Holds one text and where it comes from."""

    name: str
    text: str


@dataclass(frozen=True)
class Damaged:
    """Stands for documents that are skipped."""

    name: str
    """Of the first: its file and line."""
    kind: str
    """What was done to them and why, for Damage."""
    problem: str
    """The sentence with which a file is refused that has no other documents."""
    count: int = 1


@dataclass
class Damage:
    """Counts the documents of a corpus that are damaged, while it is read."""

    kinds: dict[str, tuple[tuple[str, ...], int]] = field(default_factory=dict)
    """By what was done to them: the names of the first few, and their number."""

    def add(self, kind: str, name: str, count: int = 1) -> None:
        """Count documents, of which the first is called `name`."""
        names, before = self.kinds.get(kind, ((), 0))
        self.kinds[kind] = ((*names, name)[:NAMED], before + count)

    def lines(self, spec: str) -> tuple[str, ...]:
        """Say what was damaged, a line for each kind of damage."""
        return tuple(
            f"corpus {spec}: {count:,} {'document' if count == 1 else 'documents'} {kind} "
            f"({', '.join(names)}{', ...' if count > len(names) else ''})"
            for kind, (names, count) in self.kinds.items()
        )

    def skipping(self, documents: Iterable[Document | Damaged]) -> Iterator[Document]:
        """Yield the documents that are whole; count the others."""
        for document in documents:
            if isinstance(document, Damaged):
                self.add(document.kind, document.name, document.count)
            else:
                yield document


def refuse_throughout(documents: Iterable[Document | Damaged]) -> Iterator[Document | Damaged]:
    """Yield a file's documents. Raises UserError if they, or the first MOST_DAMAGED of them, are all damaged."""
    first: Damaged | None = None
    n_damaged = 0
    is_good = False
    for document in documents:
        if isinstance(document, Damaged):
            first, n_damaged = first or document, n_damaged + 1
        else:
            is_good = True
        if not is_good and n_damaged == MOST_DAMAGED:
            break
        yield document
    if first and not is_good:
        raise UserError(first.problem)
