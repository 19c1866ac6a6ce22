"""The log of calls: what was asked, when, and what became of it. A call never holds a key."""

import hashlib
import json
import time
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.fakes.http import Request

SECRET = {"x-api-key", "authorization"}


@dataclass
class Call:
    path: str
    body: str | None
    """sha256 of the canonical JSON, or of the bytes if they are no JSON; None without a body."""
    model: str | None
    headers: list[str]
    """Names only, and not those of keys."""
    in_flight: int
    """Calls under way when this one came, itself included."""
    received: float = field(default_factory=time.time)
    answered: float | None = None
    status: int | None = None
    """None if no status was sent."""
    fault: str | None = None
    completed: bool = False
    """A right 200 answer was wholly written to an open connection. A slow one counts, for it is right."""


class CallLog:
    def __init__(self) -> None:
        self.finished: list[Call] = []
        self.bodies: dict[str, Any] = {}
        """The distinct JSON bodies by hash."""
        self._in_flight = 0

    def begin(self, request: Request, value: Any) -> Call:
        """Note a request; `value` is its body if that is JSON, else None."""
        self._in_flight += 1
        sha = sha_of(request.body if value is None else value) if request.body else None
        if sha and value is not None:
            self.bodies.setdefault(sha, value)
        model = value.get("model") if isinstance(value, dict) else None
        return Call(request.path, sha, model, sorted(set(request.headers) - SECRET), self._in_flight)

    def end(self, call: Call, path: str | None) -> None:
        """Note the outcome, also in the file at `path`."""
        self._in_flight -= 1
        call.answered = time.time()
        self.finished.append(call)
        if path:
            # Opened for each line, so that it is on its way to the disk when the next call comes.
            with open(path, "a", encoding="utf-8") as stream:
                stream.write(json.dumps(asdict(call)) + "\n")


def sha_of(value: Any) -> str:
    """sha256 of bytes, or of a value's canonical JSON."""
    canonical = value if isinstance(value, bytes) else json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    return hashlib.sha256(canonical).hexdigest()
