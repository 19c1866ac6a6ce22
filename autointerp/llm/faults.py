"""Classifies what goes wrong with a call, by HTTP status and body, for every provider."""

import email.utils
import math
import os
import socket
import time
from collections.abc import Mapping
from datetime import UTC
from typing import Literal

from pydantic import SecretStr

from autointerp.llm.keys import redact
from autointerp.llm.specs import ModelSpec

CallErrorKind = Literal["transient", "rate_limit", "rejected", "fatal"]


class CallError(Exception):
    """Says why an attempt brought no answer."""

    def __init__(
        self, kind: CallErrorKind, message: str, retry_after: float | None = None, may_cost: bool = False
    ) -> None:
        """Make an error.

        Args:
            kind: `transient`, the same call may succeed soon (timeouts, dropped connections, half bodies, 5xx);
                `rate_limit`, the same after waiting, and with fewer calls at once (429, 529); `rejected`, this request
                never will (400, 413); `fatal`, no request will until the user does something (401, 403, unknown model,
                no credit).
            retry_after: seconds that the provider asks to wait.
            may_cost: whether the provider may charge for the attempt: it was sent, and no answer says that it failed.
        """
        super().__init__(message)
        self.kind = kind
        self.retry_after = retry_after
        self.may_cost = may_cost


class NoLogprobs(CallError):
    """Says that a model answered without the log-probabilities that the request asks for."""

    def __init__(self, message: str) -> None:
        super().__init__("rejected", message, may_cost=True)


KINDS: dict[int, CallErrorKind] = {
    400: "rejected", 401: "fatal", 402: "fatal", 403: "fatal", 404: "fatal", 408: "transient", 409: "transient",
    413: "rejected", 422: "rejected", 425: "transient", 429: "rate_limit", 499: "transient", 529: "rate_limit",
}  # fmt: skip
"""Kinds of error by HTTP status. Others: 5xx is transient, the rest rejected."""
CREDIT = (
    "credit balance", "credit_balance", "insufficient_quota", "billing_", "spend_limit", "usage_limit_exceeded",
    "api usage limits",
)  # fmt: skip
"""Marks of exhausted credit, or of a limit that the user has set, which come as 400, 402 or 429: no waiting helps."""
FLAGGED = ("flagged_input", "requires moderation")
"""Marks of a prompt that OpenRouter's moderation refuses, which comes as 403: others are answered."""
BAD_KEY = ("api_key_invalid", "api key not valid")
"""Marks of a key that is not accepted, for which Google's API answers 400."""
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
    if 300 <= status < 400:
        return CallError("fatal", f"{spec.text}: {_redirect(headers.get('location', ''))}")
    out_of_credit = any(mark in body.lower() for mark in CREDIT) and status in (400, 402, 403, 429)
    bad_key = status == 400 and any(mark in body.lower() for mark in BAD_KEY)
    kind = "fatal" if out_of_credit or bad_key else KINDS.get(status, "transient" if status >= 500 else "rejected")
    if status == 403 and not out_of_credit and any(mark in body.lower() for mark in FLAGGED):
        kind = "rejected"
    advice = ADVICE[402] if out_of_credit else ADVICE.get(401 if bad_key else status, "")
    message = one_line(redact(body, secret))
    if kind == "fatal":
        message = f"{advice.format(variable=variable)}, then run the same command ({message})"
    return CallError(kind, f"{spec.text}: HTTP {status}: {message}", retry_after(headers))


def _redirect(location: str) -> str:
    """Say where a redirect leads, and how to go there if that is right. Any password in the address is left out."""
    host = location.split("://")[-1].split("/")[0].split("@")[-1] or "another address"
    return (
        f"the server redirects to {one_line(host)}, which is refused, because the prompts would go there; if that is "
        "right, give that address instead, then run the same command"
    )


def broken(spec: ModelSpec, secret: SecretStr, what: str | Exception, was_sent: bool = True) -> CallError:
    """Return the error for a call that brought no whole answer: a timeout, a dropped connection, half a body.

    An SDK's exception says little more than "Connection error."; the reason is in its first cause.

    Args:
        was_sent: whether the request can have reached the model.
    """
    if isinstance(what, Exception):
        what = cause_of(what)
    return CallError("transient", f"{spec.text}: {one_line(redact(what, secret))}", may_cost=was_sent)


def chain_of(error: BaseException) -> list[BaseException]:
    """Return an exception, its cause, that one's cause, and so on."""
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) and cause not in chain:
        chain.append(cause)
    return chain


def cause_of(error: Exception) -> str:
    """Name the cause of an exception in a few words, such as "connection refused"."""
    for each in reversed(chain_of(error)):
        if isinstance(each, ConnectionError) and each.errno:
            return os.strerror(each.errno).lower()
        if isinstance(each, socket.gaierror):
            return f"no address for this host ({str(each.strerror).lower()})"
    first: BaseException = error
    while first.__cause__:
        first = first.__cause__
    return f"{type(error).__name__}: {first}" if str(first) else f"{type(error).__name__}: {type(first).__name__}"


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Read how many seconds a response asks to wait: retry-after-ms, or Retry-After, seconds or a date (RFC 9110)."""
    milliseconds, value = _number(headers.get("retry-after-ms")), headers.get("retry-after")
    seconds = _number(value) if milliseconds is None else milliseconds / 1000
    if seconds is None and value:
        try:
            date = email.utils.parsedate_to_datetime(value)
            # One that names no zone is in UTC, whatever the zone here.
            seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - time.time()
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
