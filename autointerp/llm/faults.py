"""Classifies what goes wrong with a call, by HTTP status and body, for every provider."""

import email.utils
import math
import time
from collections.abc import Mapping
from typing import Literal

from pydantic import SecretStr

from autointerp.llm.keys import redact
from autointerp.llm.specs import ModelSpec

CallErrorKind = Literal["transient", "rate_limit", "rejected", "fatal"]


class CallError(Exception):
    """Says why an attempt brought no answer."""

    def __init__(self, kind: CallErrorKind, message: str, retry_after: float | None = None) -> None:
        """Make an error.

        Args:
            kind: `transient`, the same call may succeed soon (timeouts, dropped connections, half bodies, 5xx);
                `rate_limit`, the same after waiting, and with fewer calls at once (429, 529); `rejected`, this request
                never will (400, 413); `fatal`, no request will until the user does something (401, 403, unknown model,
                no credit).
            retry_after: seconds that the provider asks to wait.
        """
        super().__init__(message)
        self.kind = kind
        self.retry_after = retry_after


KINDS: dict[int, CallErrorKind] = {
    400: "rejected", 401: "fatal", 402: "fatal", 403: "fatal", 404: "fatal", 408: "transient", 409: "transient",
    413: "rejected", 422: "rejected", 425: "transient", 429: "rate_limit", 499: "transient", 529: "rate_limit",
}  # fmt: skip
"""Kinds of error by HTTP status. Others: 5xx is transient, the rest rejected."""
CREDIT = ("credit balance", "credit_balance", "insufficient_quota", "billing_", "spend_limit", "usage_limit_exceeded")
"""Marks of exhausted credit, which comes as 400, 402 or 429: no waiting helps."""
ADVICE = {
    401: "the key is not accepted: check {variable}",
    402: "no credit is left: top it up",
    403: "the account may not use this model: choose another, or ask for access",
    404: "no such model there: check its name",
}
LONGEST_MESSAGE = 300


def status_error(
    spec: ModelSpec, secret: SecretStr, variable: str, status: int, body: str, headers: Mapping[str, str]
) -> CallError:
    """Return the error for an HTTP status and the body that came with it."""
    out_of_credit = any(mark in body.lower() for mark in CREDIT) and status in (400, 402, 403, 429)
    kind = "fatal" if out_of_credit else KINDS.get(status, "transient" if status >= 500 else "rejected")
    advice = ADVICE[402] if out_of_credit else ADVICE.get(status, "")
    message = one_line(redact(body, secret))
    if kind == "fatal":
        message = f"{advice.format(variable=variable)}, then run the same command ({message})"
    return CallError(kind, f"{spec.text}: HTTP {status}: {message}", retry_after(headers))


def broken(spec: ModelSpec, secret: SecretStr, what: str | Exception) -> CallError:
    """Return the error for a call that brought no whole answer: a timeout, a dropped connection, half a body.

    An SDK's exception says little more than "Connection error."; the reason is in its cause.
    """
    if isinstance(what, Exception):
        cause = what.__cause__ or what
        what = f"{type(what).__name__}: {what}" if cause is what else f"{type(what).__name__}: {cause!r}"
    return CallError("transient", f"{spec.text}: {one_line(redact(what, secret))}")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Read how many seconds a response asks to wait: retry-after-ms, or Retry-After, seconds or a date (RFC 9110)."""
    milliseconds, value = _number(headers.get("retry-after-ms")), headers.get("retry-after")
    seconds = _number(value) if milliseconds is None else milliseconds / 1000
    if seconds is None and value:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return None if seconds is None else max(0.0, seconds)


def _number(text: str | None) -> float | None:
    """Read a finite number, or None: waiting for `inf` would never end."""
    try:
        number = float(text) if text else None
    except ValueError:
        return None
    return number if number is not None and math.isfinite(number) else None


def one_line(text: str) -> str:
    """Shorten a server's message to one line for an error."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_MESSAGE else line[:LONGEST_MESSAGE] + "..."
