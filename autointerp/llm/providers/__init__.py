"""Providers: who answers requests, one file each. `make` finds one by a judge's spec; SDKs load only then.

A provider makes one attempt at one request. Retries, caching, concurrency and money are the client's business.
"""

from typing import Protocol

from autointerp.llm.types import Completion, Request


class Provider(Protocol):
    """Answers requests of one judge.

    endpoint: what shares a rate limit, such as a base URL with a hash of the account's key. fingerprint: what changes
    answers besides the request (weights, an overridden base URL); part of the cache's key. has_timeout: whether an
    attempt may be given up after attempt_seconds; a model in this process is not: its queue is its own.
    """

    endpoint: str
    fingerprint: str
    has_timeout: bool

    async def complete(self, request: Request) -> Completion:
        """One attempt. Raises CallError."""
        ...

    async def close(self) -> None: ...
