"""Reads answers of language models strictly: what has not exactly the requested form raises AnswerError with a reason.

Nothing is repaired, completed or guessed. Four things are accepted because they change no answer: spaces at the ends
of a re-typed token, a code fence around the whole answer, quotes around a whole explanation, and the beginning of the
sentence that an explanation completes.
"""

import json
import math
import re
from bisect import bisect_right
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
_OPENING = re.compile(r"this feature is active on\b[\s.…:]*", re.IGNORECASE)
"""What the prompt says before an explanation, and all prompts that show one say again."""
_LAST_OBJECT = re.compile(r"^[ \t]*((?:```[a-z]*\n)?\{[^{}]*\}(?:\n```)?)\s*\Z", re.MULTILINE)
"""An object without objects inside, in a code fence or not, at the end of an answer."""
_FENCE = re.compile(r"```[a-z]*\n(.*)\n```", re.DOTALL)


@dataclass(frozen=True)
class Number:
    """Holds a whole number of an answer."""

    value: int
    start: int
    """Offset of its first character in the answer."""

    @property
    def text(self) -> str:
        """The number as digits."""
        return str(self.value)


def explanation(text: str, max_words: int) -> str:
    """Read an explanation: one line of at most `max_words` words."""
    line = text.strip()
    if len(line) > 1 and line[0] == line[-1] == '"' and line.count('"') == 2:
        line = line[1:-1].strip()
    line = _OPENING.sub("", line, count=1) if _OPENING.match(line) else line
    if not line.strip('"'):
        raise AnswerError("the answer is empty")
    if len(line.splitlines()) > 1:
        raise AnswerError("the explanation has more than one line")
    if _REFUSAL.match(line):
        raise AnswerError("the answer reads like a refusal, not like an explanation")
    words = len(line.split())
    if words > max_words:
        raise AnswerError(f"the explanation has {words} words; at most {max_words} are allowed")
    return line


def token_lines(text: str, tokens: Sequence[str]) -> list[Number]:
    """Read every token again on a line of its own, a tab, and a number from 0 to 10."""
    body, start = _unfenced(text)
    lines = body.rstrip().split("\n")
    start += _leading_breaks(lines)
    lines = lines[_leading_breaks(lines) :]
    numbers = []
    for number, (token, line) in enumerate(zip(tokens, lines, strict=False), start=1):
        typed, tab, value = line.rpartition("\t")
        if not tab:
            raise AnswerError(f"line {number} is not a token, a tab and a number: {line[:40]!r}")
        _check_token(typed, token, number)
        numbers.append(Number(_level(value.strip(), number), start + len(typed) + 1 + _indent(value)))
        start += len(line) + 1
    if len(lines) != len(tokens):
        raise AnswerError(f"{len(lines)} lines for {len(tokens)} tokens")
    return numbers


def token_json(text: str, tokens: Sequence[str]) -> list[int]:
    """Read {"activations": [{"t": token, "a": 0..10}, ...]}, an entry per token."""
    entries = _field(text, "activations", list)
    for number, (token, entry) in enumerate(zip(tokens, entries, strict=False), start=1):
        if not isinstance(entry, dict) or set(entry) != {"t", "a"} or not isinstance(entry["t"], str):
            raise AnswerError(f'entry {number} is not of the form {{"t": token, "a": number}}')
        _check_token(entry["t"], token, number)
        _check_whole(entry["a"], TOP, f"the activation of token {number}")
    if len(entries) != len(tokens):
        raise AnswerError(f"{len(entries)} entries for {len(tokens)} tokens")
    return [entry["a"] for entry in entries]


def choices(text: str, count: int, start: int = 0) -> list[Number]:
    """Read {"answers": [...]} with as many zeros and ones as there were texts, from an offset of the answer on."""
    text = text[start:]
    answers = _field(text, "answers", list)
    for number, value in enumerate(answers, start=1):
        _check_whole(value, 1, f"answer {number}")
    if len(answers) != count:
        raise AnswerError(f"{len(answers)} answers for {count} texts")
    # The list has been read: the digits after its bracket are its values, in order.
    offsets = [match.start() for match in re.finditer(r"[01]", text[text.index("[") :])]
    return [Number(value, start + text.index("[") + offset) for value, offset in zip(answers, offsets, strict=True)]


def after_reasoning(text: str) -> int:
    """Return the offset of the JSON object that ends an answer and begins on a line of its own."""
    match = _LAST_OBJECT.search(text)
    if not match:
        raise AnswerError("the answer does not end with a JSON object on a line of its own")
    return match.start(1)


def one_of(text: str, count: int) -> int:
    """Read {"intruder": n}, n from 1 to count, and return n - 1."""
    number = _field(text, "intruder", int)
    if isinstance(number, bool) or not 1 <= number <= count:
        raise AnswerError(f"the intruder is not one of the texts 1 to {count}")
    return int(number) - 1


def expected(slot: Mapping[str, float], allowed: Sequence[str] = NUMBERS) -> float | None:
    """Return the expected value, sum v p / sum p over the tokens that are exactly allowed numbers (Bills et al. 2023).

    It is None if no token is one.
    """
    weights = {int(token): math.exp(value) for token, value in slot.items() if token in allowed}
    total = sum(weights.values())
    if not total > 0:
        return None
    return sum(value * weight for value, weight in weights.items()) / total


def expected_at(
    completion: Completion, numbers: Sequence[Number], allowed: Sequence[str] = NUMBERS
) -> list[float | None]:
    """Return the expected value at each number the model wrote, from the log-probabilities of its tokens there.

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
    """Return the alternatives to a number: tokens that differ from the one it begins in by the number alone."""
    index = bisect_right(starts, number.start) - 1
    item = tokens[index]
    head = item.token[: number.start - starts[index]]
    tail = item.token[number.start - starts[index] + len(number.text) :]
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


def _check_token(typed: str, token: str, number: int) -> None:
    if typed.strip() not in (visible(token).strip(), token.strip()):
        raise AnswerError(f"token {number} is {visible(token)!r}, not {typed[:40]!r}: one is missing, added or changed")


def _level(text: str, number: int) -> int:
    if text not in NUMBERS:
        raise AnswerError(f"the activation of token {number} is {text[:20]!r}, not a whole number from 0 to {TOP}")
    return int(text)


def _check_whole(value: object, most: int, what: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise AnswerError(f"{what} is {value!r}, not a whole number from 0 to {most}")


def fields(text: str, kinds: Mapping[str, type]) -> dict[str, Any]:
    """Read a JSON object that has exactly these fields, each of its type."""
    try:
        values = json.loads(_unfenced(text)[0], object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:  # not JSON, a field twice, a number of thousands of digits
        raise AnswerError(f"the answer is not JSON alone: {text.strip()[:60]!r}") from error
    is_object = isinstance(values, dict) and set(values) == set(kinds)
    if not is_object or not all(isinstance(values[name], kind) for name, kind in kinds.items()):
        form = ", ".join(f'"{name}": ...' for name in kinds)
        raise AnswerError(f"the answer is not of the form {{{form}}}: {text.strip()[:60]!r}")
    return dict(values)


def _field(text: str, name: str, kind: type[V]) -> V:
    """Return the value of a JSON object's only field."""
    value: V = fields(text, {name: kind})[name]
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a JSON object; raises ValueError if a field is there twice."""
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a field is there twice")
    return values


def _unfenced(text: str) -> tuple[str, int]:
    """Return the answer without a code fence around all of it, and the offset where it begins."""
    match = _FENCE.fullmatch(text.strip())
    if not match:
        return text, 0
    return match.group(1), text.index(match.group(0)) + match.start(1)


def _leading_breaks(lines: Sequence[str]) -> int:
    return next((index for index, line in enumerate(lines) if line), 0)


def _indent(value: str) -> int:
    return len(value) - len(value.lstrip())
