"""Providers: who answers requests, one file each. `make` finds one by a judge's spec; SDKs load only then.

A provider makes one attempt at one request. Retries, caching, concurrency and money are the client's business.
"""

from typing import Literal, Protocol

from autointerp.asking import Completion, Request

CallErrorKind = Literal["transient", "rate_limit", "rejected", "fatal"]


class CallError(Exception):
    """An attempt that brought no answer.

    kind: `transient`, the same call may succeed soon (timeouts, dropped connections, half bodies, 5xx); `rate_limit`,
    the same after waiting, and with fewer calls at once (429, 529); `rejected`, this request never will (400, 413);
    `fatal`, no request will until the user does something (401, 403, unknown model, exhausted credit).
    retry_after: seconds the provider asked to wait.
    """

    def __init__(self, kind: CallErrorKind, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.retry_after = retry_after


class Provider(Protocol):
    """Answers requests of one judge.

    endpoint: what shares a rate limit, such as a base URL with a hash of the account's key. fingerprint: what changes
    answers besides the request (weights, an overridden base URL); part of the cache's key. hurried: whether an attempt
    may be given up after attempt_seconds; a model in this process is not: its queue is its own.
    """

    endpoint: str
    fingerprint: str
    hurried: bool

    async def complete(self, request: Request) -> Completion:
        """One attempt. Raises CallError."""
        ...

    async def close(self) -> None: ...
