"""Reads values out of a server's JSON, whatever it holds, and takes the thinking off an answer.

A value that cannot be read raises one of UNREADABLE; a provider turns that into the CallError of that one call.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from autointerp.llm.pricing import most_tokens
from autointerp.llm.types import Answer, Completion, Request, TokenLogprobs, Usage

UNREADABLE = (
    AttributeError, IndexError, KeyError, OverflowError, RecursionError, TypeError, ValueError, ZeroDivisionError,
)  # fmt: skip
"""What reading a JSON value of an unexpected form can raise; ValueError includes broken JSON and broken UTF-8."""
MOST_TOKENS_COUNTED = 10**9
"""A larger count of tokens is not believed: no model reads or writes as much in one call."""
ROUNDING = 1e-3
"""How far above 0 a log-probability may lie by rounding."""
TEXT_PARTS = (None, "text", "output_text")
"""Types of the parts of an answer that hold its text; others hold the model's thinking."""
_THINKING = re.compile(r"\s*<think>.*?</think>\s*|(?:(?!<think>).)*?\n</think>[^\S\n]*(?:\n\s*|\Z)", re.DOTALL)
"""Thinking before an answer. Chat templates that write <think> themselves (DeepSeek R1, QwQ, Qwen3 Thinking) leave only
its end to the answer, alone on a line."""


def json_of(body: bytes) -> Any:
    """Parse a body. Raises one of UNREADABLE if it is no JSON, or is nested too deep."""
    return json.loads(body)


def text_of(content: Any) -> str:
    """Return a message's text: a string, or the text parts of a list, joined. Raises TypeError for anything else.

    Half a surrogate pair becomes U+FFFD: it could not be written to a file or sent to another model.
    """
    if isinstance(content, list):
        content = "".join(part["text"] for part in content if part.get("type") in TEXT_PARTS)
    if not isinstance(content, str):
        raise TypeError(f"a text that is {type(content).__name__}")
    return content if content.isascii() else content.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def optional_text(content: Any) -> str:
    """Return a message's text, or "" if there is none."""
    return "" if content is None else text_of(content)


def logprob_of(value: Any) -> float:
    """Return a log-probability, at most 0. Raises TypeError or ValueError if the value cannot be one."""
    number = float(value)
    if isinstance(value, str | bool) or not number <= ROUNDING:
        raise ValueError(f"a log-probability of {value!r}")
    return min(0.0, number)


def logprobs_of(values: Mapping[str, Any]) -> dict[str, float]:
    """Return log-probabilities by token."""
    return {text_of(token): logprob_of(value) for token, value in values.items()}


def usage_of(tokens_in: Any, tokens_out: Any, cache_read: Any, cache_write: Any) -> Usage | None:
    """Return the usage that a server counted; None if it counted none, or what it says cannot be."""
    counted_in, counted_out = count_of(tokens_in), count_of(tokens_out)
    if counted_in is None or counted_out is None:
        return None
    read = min(count_of(cache_read) or 0, counted_in)
    return Usage(1, counted_in, counted_out, read, min(count_of(cache_write) or 0, counted_in - read))


def most_usage(request: Request) -> Usage:
    """Return the most that an answer can have taken, for one that came without a count of its tokens."""
    return Usage(1, most_tokens(request), request.max_tokens)


def count_of(value: Any) -> int | None:
    """Return a whole number of tokens; None if the value is none."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return int(number) if math.isfinite(number) and 0 <= number <= MOST_TOKENS_COUNTED else None


def without_thinking(answer: Answer) -> Answer:
    """Return an answer without the thinking before it, and without that part's log-probabilities."""
    thinking = _THINKING.match(answer.text) if isinstance(answer, Completion) else None
    if not isinstance(answer, Completion) or not thinking:
        return answer
    return replace(answer, text=answer.text[thinking.end() :], logprobs=_after(answer.logprobs, thinking.end()))


def _after(tokens: tuple[TokenLogprobs, ...], start: int) -> tuple[TokenLogprobs, ...]:
    """Return the tokens from an offset of the text on; one that it cuts keeps its end, without alternatives."""
    kept, offset = [], 0
    for item in tokens:
        offset += len(item.token)
        if offset - len(item.token) >= start:
            kept.append(item)
        elif offset > start:
            kept.append(TokenLogprobs(item.token[start - offset :], {}))
    return tuple(kept)
