"""Writes fragments for prompts: tokens as lines, activations as whole numbers, marked tokens; not the words around."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from autointerp.records import ActivationRecord

OPEN, CLOSE = "<<", ">>"
MARKED = 0.3
"""Tokens above this share of their fragment's maximum are marked (delphi), for explainers and judges alike."""
TOP = 10
"""Activations in prompts are whole numbers from 0 to this."""


def visible(text: str) -> str:
    """Write text on one line: line breaks, tabs, backslashes and whatever cannot be seen become Python escapes."""
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(
        character if character.isprintable() and character != "\\" else character.encode("unicode_escape").decode()
        for character in text
    )


def levels(records: Sequence[ActivationRecord]) -> list[tuple[int, ...]]:
    """Scale activations to whole numbers: min(10, floor(10 relu(x) / max)), max over all records (Bills et al. 2023).

    Where no activation is above 0, all are 0.
    """
    highest = max((value for record in records for value in record.activations), default=0.0)
    if highest <= 0:
        return [(0,) * len(record.tokens) for record in records]
    return [tuple(int(TOP * (max(0.0, value) / highest)) for value in record.activations) for record in records]


def token_lines(tokens: Sequence[str], numbers: Sequence[object] | None = None) -> str:
    """Write one token per line, followed by a tab and its number if there are numbers."""
    if numbers is None:
        return "\n".join(map(visible, tokens))
    return "\n".join(f"{visible(token)}\t{number}" for token, number in zip(tokens, numbers, strict=True))


def plain(tokens: Sequence[str]) -> str:
    """Write the text on one line."""
    return visible("".join(tokens)).strip()


def marked(tokens: Sequence[str], positions: Iterable[int]) -> str:
    """Write the text on one line with the tokens at these positions marked, neighbours under one pair of marks.

    Signs in the text that look like marks get a backslash, which `visible` writes before no other < or >. A single
    sign that would look like a part of the mark after it becomes an escape: where a mark begins is always clear.
    """
    pieces = []
    for inside, run in groupby(range(len(tokens)), set(positions).__contains__):
        text = _before_mark(visible("".join(tokens[position] for position in run)), CLOSE[0] if inside else OPEN[0])
        text = text.replace(OPEN, "\\" + OPEN).replace(CLOSE, "\\" + CLOSE)
        pieces.append(f"{OPEN}{text}{CLOSE}" if inside else text)
    return "".join(pieces).strip()


def _before_mark(text: str, sign: str) -> str:
    """Escape the sign that is left over at the end of a text when the others there are taken in pairs."""
    is_odd = (len(text) - len(text.rstrip(sign))) % 2
    return f"{text[:-1]}\\x{ord(sign):02x}" if is_odd else text


def strongly_active(record: ActivationRecord, share: float = MARKED) -> list[int]:
    """Return the positions where the activation exceeds this share of the record's own maximum."""
    highest = max(record.activations, default=0.0)
    if highest <= 0:
        return []
    return [position for position, value in enumerate(record.activations) if value > share * highest]


@dataclass(frozen=True)
class Shot:
    """Holds an invented feature of the few-shot file, as records."""

    explanation: str
    promoted: tuple[str, ...]
    active: tuple[ActivationRecord, ...]
    silent: tuple[ActivationRecord, ...]


def shots(few_shot: Mapping[str, Any] | None) -> list[Shot]:
    """Read the few-shot file's features; none if a prompt has no few-shots."""
    return [
        Shot(
            str(feature["explanation"]),
            tuple(feature["promoted"]),
            tuple(_record(text["tokens"], text.get("activations", {})) for text in feature["active"]),
            tuple(_record(text["tokens"], {}) for text in feature["silent"]),
        )
        for feature in (few_shot or {}).get("features", ())
    ]


def _record(tokens: Sequence[str], activations: Mapping[int, float]) -> ActivationRecord:
    values = tuple(float(activations.get(position, 0.0)) for position in range(len(tokens)))
    return ActivationRecord(tuple(tokens), values, 0, "top" if activations else "inactive")
