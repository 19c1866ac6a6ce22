"""How excerpts are written into prompts: tokens as lines, activations as whole numbers, marks. Knows no wording."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from autointerp.records import ActivationRecord

OPEN, CLOSE = "<<", ">>"
TOP = 10
"""Activations in prompts are whole numbers from 0 to this."""


def visible(text: str) -> str:
    """The text on one line: line breaks, tabs, backslashes and whatever cannot be seen as Python escapes."""
    return "".join(
        character if character.isprintable() and character != "\\" else character.encode("unicode_escape").decode()
        for character in text
    )


def levels(records: Sequence[ActivationRecord]) -> list[tuple[int, ...]]:
    """min(10, floor(10 relu(x) / max)) at every token, max over all these records (Bills et al. 2023); else 0."""
    highest = max((value for record in records for value in record.activations), default=0.0)
    if highest <= 0:
        return [(0,) * len(record.tokens) for record in records]
    return [tuple(int(TOP * (max(0.0, value) / highest)) for value in record.activations) for record in records]


def token_lines(tokens: Sequence[str], numbers: Sequence[object] | None = None) -> str:
    """A token a line, followed by a tab and its number if there are numbers."""
    if numbers is None:
        return "\n".join(map(visible, tokens))
    return "\n".join(f"{visible(token)}\t{number}" for token, number in zip(tokens, numbers, strict=True))


def plain(tokens: Sequence[str]) -> str:
    """The text on one line."""
    return visible("".join(tokens)).strip()


def marked(tokens: Sequence[str], chosen: Iterable[int]) -> str:
    """The text on one line with the tokens at these positions marked, neighbours under one pair of marks.

    Signs in the text that look like marks get a backslash, as `visible` gives to nothing else before a < or >.
    """
    positions = set(chosen)
    pieces = []
    for inside, run in groupby(range(len(tokens)), positions.__contains__):
        text = visible("".join(tokens[place] for place in run))
        text = text.replace(OPEN, "\\" + OPEN).replace(CLOSE, "\\" + CLOSE)
        pieces.append(f"{OPEN}{text}{CLOSE}" if inside else text)
    return "".join(pieces).strip()


def strongly_active(record: ActivationRecord, share: float) -> list[int]:
    """Positions where the activation exceeds this share of the record's own maximum."""
    highest = max(record.activations, default=0.0)
    if highest <= 0:
        return []
    return [place for place, value in enumerate(record.activations) if value > share * highest]


@dataclass(frozen=True)
class Shot:
    """An invented feature of the few-shot file, as records."""

    explanation: str
    promoted: tuple[str, ...]
    active: tuple[ActivationRecord, ...]
    silent: tuple[ActivationRecord, ...]


def shots(few_shot: Mapping[str, Any] | None) -> list[Shot]:
    """The few-shot file's features; none if a prompt has no few-shots."""
    return [
        Shot(
            str(feature["explanation"]),
            tuple(feature["promoted"]),
            tuple(_record(excerpt["tokens"], excerpt.get("activations", {})) for excerpt in feature["active"]),
            tuple(_record(excerpt["tokens"], {}) for excerpt in feature["silent"]),
        )
        for feature in (few_shot or {}).get("features", ())
    ]


def _record(tokens: Sequence[str], activations: Mapping[int, float]) -> ActivationRecord:
    values = tuple(float(activations.get(place, 0.0)) for place in range(len(tokens)))
    return ActivationRecord(tuple(tokens), values, 0, "top" if activations else "inactive")
