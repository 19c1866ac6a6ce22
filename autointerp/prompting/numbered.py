"""Writes excerpts with numbered tokens for one question, and reads which of them are active from a sparse answer.

The answer is {"active": [[number, activation], ...], "silent": [excerpt, ...]}: tokens that are not listed are 0, so
nothing is typed again. Numbers run on from excerpt to excerpt: an entry can be about one excerpt only. An excerpt that
is under neither was forgotten; that is an error, not a zero.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from autointerp.prompting import parse, render
from autointerp.records import AnswerError

Levels = tuple[int, ...]
"""Activations of an excerpt's tokens, whole numbers from 0 to `render.TOP`."""
SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {
            "active": {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}},
            "silent": {"type": "array", "items": {"type": "integer"}},
        },
        "required": ["active", "silent"],
        "additionalProperties": False,
    }
)
"""The form of an answer, as far as both providers' schemas can say it."""


@dataclass(frozen=True)
class Excerpt:
    """Holds a fragment with its number in a question, from 1."""

    number: int
    first: int
    """The number of its first token; the tokens of a question are numbered from 1."""
    tokens: tuple[str, ...]

    @property
    def numbers(self) -> range:
        """The numbers of its tokens."""
        return range(self.first, self.first + len(self.tokens))

    @property
    def lines(self) -> str:
        """A line per token: its number, a tab, the token."""
        pairs = zip(self.numbers, self.tokens, strict=True)
        return "\n".join(f"{number}\t{render.visible(token)}" for number, token in pairs)


def excerpts(fragments: Sequence[tuple[str, ...]]) -> list[Excerpt]:
    """Number the fragments of one question, and their tokens."""
    firsts = accumulate((len(tokens) for tokens in fragments), initial=1)
    return [Excerpt(n, first, tokens) for n, (first, tokens) in enumerate(zip(firsts, fragments, strict=False), 1)]


def answer(shown: Sequence[Excerpt], levels: Sequence[Levels]) -> str:
    """Write the answer that has these activations."""
    pairs = [list(zip(excerpt.numbers, values, strict=True)) for excerpt, values in zip(shown, levels, strict=True)]
    active = [[number, value] for listed in pairs for number, value in listed if value]
    silent = [excerpt.number for excerpt, values in zip(shown, levels, strict=True) if not any(values)]
    return json.dumps({"active": active, "silent": silent})


def read(text: str, shown: Sequence[Excerpt]) -> list[Levels | AnswerError]:
    """Read the activations of each excerpt, or what is wrong with the answer about it.

    Raises AnswerError if the answer has another form, or names a token or an excerpt that is not there: then none of
    it can be trusted.
    """
    fields = parse.fields(text, {"active": list, "silent": list})
    owner = {number: excerpt.number for excerpt in shown for number in excerpt.numbers}
    entries = [_entry(entry, owner) for entry in fields["active"]]
    for number in fields["silent"]:
        if not _is_whole(number) or number not in owner.values():
            raise AnswerError(f'{number!r} under "silent" is not the number of an excerpt')
    return [
        _levels(excerpt, [entry for entry in entries if owner[entry[0]] == excerpt.number], fields["silent"])
        for excerpt in shown
    ]


def _entry(entry: object, numbers: Iterable[int]) -> tuple[int, Any]:
    """Return an entry's token number and its activation, which may be anything."""
    if not isinstance(entry, list) or len(entry) != 2 or not _is_whole(entry[0]) or entry[0] not in numbers:
        raise AnswerError(f'{str(entry)[:40]} under "active" is not of the form [number of a token, activation]')
    return entry[0], entry[1]


def _levels(excerpt: Excerpt, entries: Sequence[tuple[int, Any]], silent: Sequence[int]) -> Levels | AnswerError:
    values: dict[int, int] = {}
    for number, value in entries:
        if number in values:
            return AnswerError(f"token {number} is listed twice")
        if not _is_whole(value) or not 0 <= value <= render.TOP:
            reason = f"{str(value)[:20]}, not a whole number from 0 to {render.TOP}"
            return AnswerError(f"the activation of token {number} is {reason}")
        values[number] = value
    if any(values.values()) and excerpt.number in silent:
        return AnswerError(f"excerpt {excerpt.number} is called silent, but has active tokens")
    if not entries and excerpt.number not in silent:
        return AnswerError(f"excerpt {excerpt.number} is neither silent nor has it an active token")
    return tuple(values.get(number, 0) for number in excerpt.numbers)


def _is_whole(value: object) -> bool:
    """Tell whether a value is a whole number; true and false, which Python takes for numbers, are none."""
    return isinstance(value, int) and not isinstance(value, bool)
