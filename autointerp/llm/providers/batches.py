"""Defines what a provider's batch API must offer: submit many requests, ask how far they are, read their results.

Answers come within a day at half price. Every method makes one attempt and raises CallError.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import httpx2

from autointerp.llm.faults import CallError
from autointerp.llm.reading import UNREADABLE, json_of
from autointerp.llm.types import Completion, Request

CLOCK_SKEW = 300.0
"""Seconds by which a provider's clock may be behind ours."""
DOWNLOADS = 3
"""How often results are downloaded if some are missing."""
Outcome = Completion | CallError
"""The result of one request: rejected for good, or (transient) not done and to be submitted again."""


class Lost(CallError):
    """Says that a provider does not know a batch, or not any more: deleted, archived, or another account's."""

    def __init__(self, message: str) -> None:
        super().__init__("rejected", message)


@dataclass(frozen=True)
class Progress:
    """Tells how far a batch is."""

    ended: bool
    """Whether no result will be added."""
    done: int
    """Requests with a result."""
    total: int
    """Requests in the batch."""
    refused: str = ""
    """Why the provider did not even begin."""


class Batches(Protocol):
    """Defines the batch API of a provider's model."""

    most: int
    """Requests that one batch may have, well below the providers' own limits in bytes and counts."""

    async def submit(self, requests: Mapping[str, Request], tag: str) -> str:
        """Submit requests by their cache keys (64 characters each) and return the new batch's id."""
        ...

    async def find(self, tag: str, count: int, since: float, others: Collection[str]) -> str | None:
        """Find the id of a batch that was submitted, but whose id was lost before it could be written down.

        Args:
            tag: as it was given to `submit`.
            count: requests in the batch.
            since: time of the submission, in seconds since the epoch.
            others: ids of batches that are known to be others.
        """
        ...

    async def progress(self, batch: str) -> Progress:
        """Ask how far a batch is. Raises Lost."""
        ...

    async def results(self, batch: str, requests: Mapping[str, Request]) -> dict[str, Outcome]:
        """Read an ended batch's outcomes for those of its requests that are given. Raises Lost."""
        ...


def outcome_of(provider: Any, read: Callable[[], Outcome]) -> Outcome:
    """Read one line's outcome; a completion has the batch's price. Returns why there is none.

    Args:
        provider: a HostedProvider.
        read: reads the line, whatever it holds.
    """
    try:
        with provider.reading():
            outcome = read()
    except CallError as error:
        return error
    if isinstance(outcome, CallError):
        return outcome
    return replace(outcome, usage=replace(outcome.usage, batch=1))


def lines_by_id(content: bytes) -> dict[str, Any]:
    """Parse the JSON objects of a file of results, a line each, by their custom_id; lines that are none are left out.

    Not by splitlines: U+2028 and its like may stand inside a JSON string. Raises ValueError if no line is one: then the
    file was damaged on its way, and is worth another download, not another batch.
    """
    lines: dict[str, Any] = {}
    for text in content.split(b"\n"):
        try:
            line = json_of(text)
            lines[str(line["custom_id"])] = line
        except UNREADABLE:
            continue  # its request is not among the results, and is submitted again
    if content.strip() and not lines:
        raise ValueError("results without a readable line")
    return lines


async def downloaded(download: Callable[[], Awaitable[bytes]], keys: Collection[str]) -> dict[str, Any]:
    """Return a batch's lines of results by their custom_id.

    Where keys are missing, the file may have been cut on its way: it is downloaded again before they are paid again.
    """
    lines: dict[str, Any] = {}
    for _ in range(DOWNLOADS):
        lines |= lines_by_id(await download())
        if lines.keys() >= set(keys):
            break
    return lines


@asynccontextmanager
async def batch_faults(provider: Any, batch: str | None = None) -> AsyncIterator[None]:
    """Turn an SDK's exceptions into CallErrors.

    Args:
        provider: a HostedProvider; it knows its SDK's exceptions.
        batch: the batch that the call is about; if the API does not know it, Lost is raised.
    """
    try:
        with provider.reading():
            yield
    except (provider.ApiError, httpx2.HTTPError) as error:
        if batch and isinstance(error, provider.NotFoundError):
            raise Lost(f"{provider.spec.text}: there is no batch {batch}") from error
        raise provider.fault(error) from error
