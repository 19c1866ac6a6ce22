"""Cuts text files into documents while they are read, a few pages in memory at a time. Needs no torch."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain, pairwise
from typing import TextIO

from sae.data.damage import NOT_UTF8, Damaged, Document

SECTION_CHARACTERS = 4_000
"""A text is cut at blank lines into documents of about this size, so that it can be split by document."""
READ_AT_ONCE = 2**20
"""Characters of a text that are read together."""
LONGEST_PIECE = 2**23
"""A text that has no mark and no blank line for so many characters is cut there, at a line's end if it has lines."""
MARK = re.compile(r"(<\|endoftext\|>)")
BLANK_LINES = re.compile(r"(\n\s*\n)")
UNDECODED = re.compile("[\udc80-\udcff]")
"""Bytes that are not UTF-8, as Python's `surrogateescape` reads them."""


@dataclass(frozen=True)
class _Piece:
    """Holds what lies between two cuts, and the number of the line on which it begins."""

    text: str
    line: int


def is_binary(stream: TextIO) -> bool:
    """Tell whether a text's beginning has a NUL, as no text has."""
    return "\0" in stream.read(8192)


def is_marked(stream: TextIO) -> bool:
    """Tell whether <|endoftext|> stands between the documents of a text. Reads as far as the first."""
    chunks = chain([""], iter(partial(stream.read, READ_AT_ONCE), ""))
    return any(MARK.search(before[-20:] + chunk) for before, chunk in pairwise(chunks))


def sections(name: str, stream: TextIO, marked: bool) -> Iterator[Document | Damaged]:
    """Yield a text: cut at <|endoftext|> if it is `marked`, else at blank lines into sections of a few pages.

    Args:
        stream: opened with `errors="surrogateescape"`, no newlines translated. What lies between two cuts and is not
            UTF-8 is damaged.
    """
    number, section, size = 0, list[str](), 0
    for piece in _pieces(stream, MARK if marked else BLANK_LINES):
        if not piece.text.isascii() and (bad := UNDECODED.search(piece.text)):
            line = piece.line + piece.text.count("\n", 0, bad.start())
            where = f"{name}:{line}"
            yield Damaged(where, NOT_UTF8, f"cannot read {where} as UTF-8 text; convert the file first")
            continue
        section.append(piece.text)
        size += len(piece.text)
        if marked or size >= SECTION_CHARACTERS:
            yield Document(f"{name}:{number}", "\n\n".join(section))
            number, section, size = number + 1, [], 0
    if section:
        yield Document(f"{name}:{number}", "\n\n".join(section))


def _pieces(stream: TextIO, cut: re.Pattern[str]) -> Iterator[_Piece]:
    """Yield what lies between the matches of a pattern of one group, from the first line on."""
    rest, line = "", 1
    for chunk in _chunks(stream):
        *pairs, rest = cut.split(rest + chunk)
        for text, between in zip(pairs[::2], pairs[1::2], strict=True):
            yield _Piece(text, line)
            line += text.count("\n") + between.count("\n")
        if len(rest) > LONGEST_PIECE:
            end = rest.rfind("\n") + 1 or rest.rfind(" ") + 1 or len(rest)
            yield _Piece(rest[:end], line)
            rest, line = rest[end:], line + rest.count("\n", 0, end)
    yield _Piece(rest, line)


def _chunks(stream: TextIO) -> Iterable[str]:
    """Yield a text in parts, each of which but the last ends with no white space: in no blank line."""
    while chunk := stream.read(READ_AT_ONCE):
        while chunk[-1].isspace() and (more := stream.read(4096)):
            chunk += more
        yield chunk
