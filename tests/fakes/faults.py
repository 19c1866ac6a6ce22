"""What goes wrong: which fault strikes a request, the status it answers with, and how it bends a text.

Whether and which fault strikes is a pure function of the seed, the request's hash and how often the same request was
let in before, so that runs are alike whatever the order of their requests. The hash is that of a question's body, or of
the method and path of a call about batches and files, whose bodies hold what differs from run to run: boundaries of
forms, and names by which a client finds its results.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from tests.fakes.http import Reply
from tests.fakes.settings import Settings


@dataclass
class Failure(Exception):
    """A request that gets an error instead of an answer; each API puts it in its own words."""

    status: int
    message: str
    code: str | None = None
    """OpenAI's error code; Anthropic's format has none."""
    param: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


class Faults:
    """Remembers how often each request was asked and struck."""

    def __init__(self) -> None:
        self._asked: Counter[str] = Counter()
        self._struck: Counter[str] = Counter()

    def strike(self, settings: Settings, probabilities: Mapping[str, float], sha: str) -> str | None:
        """The fault for this task of the request, if any."""
        asked = self._asked[sha]
        self._asked[sha] += 1
        limit = settings.max_faults_per_request
        if limit is not None and self._struck[sha] >= limit:
            return None
        fault = draw(settings.seed, sha, asked, probabilities)
        self._struck[sha] += fault is not None
        return fault


def draw(seed: int, sha: str, asked: int, probabilities: Mapping[str, float]) -> str | None:
    """One of the names with its probability, or None with what is left."""
    digest = hashlib.sha256(f"{seed}:{sha}:{asked}".encode()).digest()
    point = int.from_bytes(digest[:8], "big") / 2**64
    for name, probability in sorted(probabilities.items()):
        point -= probability
        if point < 0:
            return name
    return None


def failure_of(fault: str | None, settings: Settings) -> Failure | None:
    """The error that a fault answers with, for the faults that do."""
    match fault:
        case "429":
            return Failure(429, "Rate limit reached, please slow down.", code="rate_limit_exceeded")
        case "429-after":
            after = {"retry-after": f"{settings.retry_after:g}"}
            return Failure(429, "Rate limit reached, please try again later.", "rate_limit_exceeded", headers=after)
        case "500":
            return Failure(500, "Internal server error")
        case "503":
            return Failure(503, "The server is temporarily unavailable.")
        case "529":
            return Failure(529, "Overloaded")
        case _:
            return None


def transmit(reply: Reply, fault: str | None) -> Reply:
    """The reply as a faulty connection carries it.

    A reply that was lost had been worked for: what the request changed on the server stays changed.
    """
    match fault:
        case "drop" | "timeout":
            return replace(reply, cut="before")
        case "half":
            return replace(reply, cut="half")
        case "garbage":
            return replace(reply, body=reply.body[: len(reply.body) // 2])
        case _:
            return reply


@dataclass(frozen=True)
class Written:
    text: str
    stop: Literal["end", "length", "refusal"] = "end"


def bend(text: str, fault: str | None) -> Written:
    """The text as the fault leaves it."""
    match fault:
        case "refusal":
            return Written("I'm sorry, but I can't help with that.", "refusal")
        case "length":
            return Written(text[: len(text) // 2], "length")
        case "shape":
            return Written(_without_last(text))
        case _:
            return Written(text)


def limited(written: Written, characters: int) -> Written:
    """What fits into a request's limit on tokens."""
    return written if len(written.text) <= characters else Written(written.text[:characters], "length")


def _without_last(text: str) -> str:
    """A JSON text without its last list's last element, or else a text without its last line or word."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = None
    if _shorten(value):
        return json.dumps(value)
    head, separator, _ = text.rstrip("\n").rpartition("\n")
    return head if separator else text.rpartition(" ")[0]


def _shorten(value: Any) -> bool:
    """Drop the last element of a list, or of an object's last list; an object without lists loses its last key."""
    if isinstance(value, list) and value:
        value.pop()
    elif isinstance(value, dict) and value:
        lists = [each for each in value.values() if isinstance(each, list) and each]
        _ = lists[-1].pop() if lists else value.popitem()
    else:
        return False
    return True
