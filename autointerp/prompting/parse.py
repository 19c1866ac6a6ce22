"""Reads judges' answers, strictly: what is not exactly in the form asked for raises AnswerError with the reason.

Nothing is repaired, completed or guessed. Three things are let pass because they change no answer: spaces at the ends
of a re-typed token, a code fence around the whole answer, and quotes around a whole explanation. Knows nothing of
prompts' wording.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from autointerp.llm.types import Completion, TokenLogprobs
from autointerp.prompting.render import TOP, visible
from autointerp.records import AnswerError

V = TypeVar("V")
NUMBERS = tuple(str(number) for number in range(TOP + 1))
_REFUSAL = re.compile(
    r"(i['’]m|i am) (sorry|unable|not able)|i (can['’]t|cannot|can not|won['’]t)\b|as an ai\b",  # noqa: RUF001
    re.IGNORECASE,
)
_FENCE = re.compile(r"```[a-z]*\n(.*)\n```", re.DOTALL)


@dataclass(frozen=True)
class Number:
    """A whole number in an answer and the place of its first character there."""

    value: int
    start: int

    @property
    def text(self) -> str:
        return str(self.value)


def explanation(text: str, max_words: int) -> str:
    """One line of at most `max_words` words."""
    found = text.strip()
    if len(found) > 1 and found[0] == found[-1] == '"' and found.count('"') == 2:
        found = found[1:-1].strip()
    if not found.strip('"'):
        raise AnswerError("the answer is empty")
    if len(found.splitlines()) > 1:
        raise AnswerError("the explanation has more than one line")
    if _REFUSAL.match(found):
        raise AnswerError("the answer reads like a refusal, not like an explanation")
    words = len(found.split())
    if words > max_words:
        raise AnswerError(f"the explanation has {words} words; at most {max_words} are allowed")
    return found


def token_lines(text: str, tokens: Sequence[str]) -> list[Number]:
    """Every token again on a line of its own, a tab, and a number from 0 to 10."""
    body, start = _unfenced(text)
    lines = body.rstrip().split("\n")
    start += _leading_breaks(lines)
    lines = lines[_leading_breaks(lines) :]
    numbers = []
    for place, (token, line) in enumerate(zip(tokens, lines, strict=False), start=1):
        typed, tab, value = line.rpartition("\t")
        if not tab:
            raise AnswerError(f"line {place} is not a token, a tab and a number: {line[:40]!r}")
        _check_token(typed, token, place)
        numbers.append(Number(_level(value.strip(), place), start + len(typed) + 1 + _indent(value)))
        start += len(line) + 1
    if len(lines) != len(tokens):
        raise AnswerError(f"{len(lines)} lines for {len(tokens)} tokens")
    return numbers


def token_json(text: str, tokens: Sequence[str]) -> list[int]:
    """{"activations": [{"t": token, "a": 0..10}, ...]}, an entry per token."""
    entries = _field(text, "activations", list)
    for place, (token, entry) in enumerate(zip(tokens, entries, strict=False), start=1):
        if not isinstance(entry, dict) or set(entry) != {"t", "a"} or not isinstance(entry["t"], str):
            raise AnswerError(f'entry {place} is not of the form {{"t": token, "a": number}}')
        _check_token(entry["t"], token, place)
        _check_whole(entry["a"], TOP, f"the activation of token {place}")
    if len(entries) != len(tokens):
        raise AnswerError(f"{len(entries)} entries for {len(tokens)} tokens")
    return [entry["a"] for entry in entries]


def choices(text: str, count: int) -> list[Number]:
    """{"answers": [...]} with as many zeros and ones as there were texts."""
    found = _field(text, "answers", list)
    for place, value in enumerate(found, start=1):
        _check_whole(value, 1, f"answer {place}")
    if len(found) != count:
        raise AnswerError(f"{len(found)} answers for {count} texts")
    # The list has been read: the digits after its bracket are its values, in order.
    places = [match.start() for match in re.finditer(r"[01]", text[text.index("[") :])]
    return [Number(value, text.index("[") + place) for value, place in zip(found, places, strict=True)]


def one_of(text: str, count: int) -> int:
    """{"intruder": n}, n from 1 to count; returned from 0."""
    found = _field(text, "intruder", int)
    if isinstance(found, bool) or not 1 <= found <= count:
        raise AnswerError(f"the intruder is not one of the texts 1 to {count}")
    return int(found) - 1


def expected(slot: Mapping[str, float], allowed: Sequence[str] = NUMBERS) -> float | None:
    """sum v p / sum p over the tokens that are exactly allowed numbers (Bills et al. 2023); None if there is none."""
    weights = {int(token): math.exp(value) for token, value in slot.items() if token in allowed}
    total = sum(weights.values())
    if not total > 0:
        return None
    return sum(value * weight for value, weight in weights.items()) / total


def expected_at(
    completion: Completion, numbers: Sequence[Number], allowed: Sequence[str] = NUMBERS
) -> list[float | None]:
    """The expected value at each number the model wrote, from the log-probabilities of its tokens there.

    Raises AnswerError if the tokens do not add up to the text.
    """
    if "".join(item.token for item in completion.logprobs) != completion.text:
        raise AnswerError("the log-probabilities are not those of the answer's text")
    starts, offset = [], 0
    for item in completion.logprobs:
        starts.append(offset)
        offset += len(item.token)
    return [expected(_slot(number, starts, completion.logprobs), allowed) for number in numbers]


def _slot(number: Number, starts: Sequence[int], tokens: Sequence[TokenLogprobs]) -> dict[str, float]:
    """The alternatives to a number: tokens that differ from the one it begins in by the number alone."""
    place = max(i for i, start in enumerate(starts) if start <= number.start)
    item = tokens[place]
    head = item.token[: number.start - starts[place]]
    tail = item.token[number.start - starts[place] + len(number.text) :]
    slot = {
        token[len(head) : len(token) - len(tail)]: value
        for token, value in item.top.items()
        if token.startswith(head) and token.endswith(tail) and len(token) > len(head) + len(tail)
    }
    if number.text == str(TOP) and item.token == head + "1" and "1" in slot:
        # A tokenizer that writes 10 as 1 and 0: what was written tells which of the two the 1 stood for.
        whole = slot.get(number.text, -math.inf)
        slot[number.text] = float(np.logaddexp(slot.pop("1"), whole))
    return slot


def _check_token(typed: str, token: str, place: int) -> None:
    if typed.strip() not in (visible(token).strip(), token.strip()):
        raise AnswerError(f"token {place} is {visible(token)!r}, not {typed[:40]!r}: one is missing, added or changed")


def _level(text: str, place: int) -> int:
    if text not in NUMBERS:
        raise AnswerError(f"the activation of token {place} is {text[:20]!r}, not a whole number from 0 to {TOP}")
    return int(text)


def _check_whole(value: object, most: int, what: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise AnswerError(f"{what} is {value!r}, not a whole number from 0 to {most}")


def _field(text: str, name: str, kind: type[V]) -> V:
    """The only field of a JSON object."""
    try:
        found = json.loads(_unfenced(text)[0], object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:  # not JSON, a field twice, a number of thousands of digits
        raise AnswerError(f"the answer is not JSON alone: {text.strip()[:60]!r}") from error
    if not isinstance(found, dict) or set(found) != {name} or not isinstance(found[name], kind):
        raise AnswerError(f'the answer is not of the form {{"{name}": ...}}: {text.strip()[:60]!r}')
    value: V = found[name]
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose fields are there once."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a field is there twice")
    return found


def _unfenced(text: str) -> tuple[str, int]:
    """The answer without a code fence around all of it, and where it begins."""
    match = _FENCE.fullmatch(text.strip())
    if not match:
        return text, 0
    return match.group(1), text.index(match.group(0)) + match.start(1)


def _leading_breaks(lines: Sequence[str]) -> int:
    return next((place for place, line in enumerate(lines) if line), 0)


def _indent(value: str) -> int:
    return len(value) - len(value.lstrip())
