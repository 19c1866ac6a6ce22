"""The providers' batch APIs: submit many requests, ask how far they are, read what came. One small class each.

Answers come within a day at half price. Knows nothing of waiting, caching or money. Every method makes one attempt and
raises CallError.
"""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Protocol

import anthropic
import httpx2
import openai

from autointerp.llm import faults
from autointerp.llm.faults import CallError
from autointerp.llm.providers import anthropic as messages
from autointerp.llm.providers import openai as chat
from autointerp.llm.types import Completion, Request

TAG = "autointerp"
CLOCK_SKEW = 300.0
"""Seconds by which a provider's clock may be behind ours."""
Outcome = Completion | CallError
"""What became of one request: rejected for good, or (transient) not done and to be submitted again."""


class Lost(CallError):
    """A batch that its provider does not know, or not any more: deleted, archived, or another account's."""

    def __init__(self, message: str) -> None:
        super().__init__("rejected", message)


@dataclass(frozen=True)
class Progress:
    """ended: no result will be added. refused: why the provider did not even begin."""

    ended: bool
    done: int
    total: int
    refused: str = ""


class Batches(Protocol):
    """most: requests that one batch may have (well below the providers' own limits in bytes and counts)."""

    most: int

    async def submit(self, requests: Mapping[str, Request], tag: str) -> str:
        """The new batch's id. Requests are named by their cache keys, 64 characters."""
        ...

    async def find(self, tag: str, count: int, since: float) -> str | None:
        """A batch that was submitted, but whose id was lost before it could be written down."""
        ...

    async def progress(self, batch: str) -> Progress:
        """How far it is. Raises Lost."""
        ...

    async def results(self, batch: str, requests: Mapping[str, Request]) -> dict[str, Outcome]:
        """What an ended batch brought, for those of its requests that are asked about. Raises Lost."""
        ...


class AnthropicBatches:
    """Message Batches."""

    most = 10_000

    def __init__(self, judge: messages.AnthropicJudge) -> None:
        self._judge = judge
        self._api = judge.sdk.messages.batches

    async def submit(self, requests: Mapping[str, Request], tag: str) -> str:
        items: Any = [
            {"custom_id": key, "params": messages.parameters(self._judge.spec, request)}
            for key, request in requests.items()
        ]
        async with _faults(self._judge):
            return (await self._api.create(requests=items)).id

    async def find(self, tag: str, count: int, since: float) -> str | None:
        """Batches have no tags here: the newest of this size since then; its results' names tell whether it is ours."""
        earliest = datetime.fromtimestamp(since - CLOCK_SKEW, UTC)
        async with _faults(self._judge):
            page = await self._api.list(limit=20)
        for batch in page.data:
            counts = batch.request_counts
            total = counts.processing + counts.succeeded + counts.errored + counts.canceled + counts.expired
            if total == count and batch.created_at >= earliest:
                return batch.id
        return None

    async def progress(self, batch: str) -> Progress:
        async with _faults(self._judge, batch):
            found = await self._api.retrieve(batch)
        if found.archived_at:
            raise Lost(f"{self._judge.spec.text}: the results of batch {batch} are gone")
        counts = found.request_counts
        done = counts.succeeded + counts.errored + counts.canceled + counts.expired
        return Progress(found.processing_status == "ended", done, done + counts.processing)

    async def results(self, batch: str, requests: Mapping[str, Request]) -> dict[str, Outcome]:
        outcomes: dict[str, Outcome] = {}
        async with _faults(self._judge, batch):
            async for item in await self._api.results(batch):
                if item.custom_id in requests:
                    outcomes[item.custom_id] = self._outcome(item.to_dict(mode="json")["result"])
        return outcomes

    def _outcome(self, result: Any) -> Outcome:
        if result["type"] == "succeeded":
            return in_batch(self._judge.read, result["message"])
        reason = json.dumps(result.get("error", {}))
        if result["type"] == "errored" and "invalid_request" in reason:
            return CallError("rejected", f"{self._judge.spec.text}: {faults.one_line(reason)}")
        return CallError(
            "transient", f"{self._judge.spec.text}: {result['type']} in its batch {faults.one_line(reason)}"
        )


class OpenAIBatches:
    """The Batch API, over uploaded files of Chat Completions requests."""

    most = 10_000

    def __init__(self, judge: chat.OpenAIJudge) -> None:
        self._judge = judge
        self._sdk = judge.sdk

    async def submit(self, requests: Mapping[str, Request], tag: str) -> str:
        lines = [
            {"custom_id": key, "method": "POST", "url": "/v1/chat/completions", "body": self._body(request)}
            for key, request in requests.items()
        ]
        content = "".join(json.dumps(line) + "\n" for line in lines).encode()
        async with _faults(self._judge):
            file = await self._sdk.files.create(file=(f"{tag}.jsonl", content), purpose="batch")
            batch = await self._sdk.batches.create(
                input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={TAG: tag}
            )
        return batch.id

    def _body(self, request: Request) -> dict[str, Any]:
        return chat.parameters(self._judge.spec, request)

    async def find(self, tag: str, count: int, since: float) -> str | None:
        async with _faults(self._judge):
            page = await self._sdk.batches.list(limit=50)
        ours = (batch for batch in page.data if (batch.metadata or {}).get(TAG) == tag)
        # An older one of the same requests has ended without doing them.
        return next((batch.id for batch in ours if batch.created_at >= since - CLOCK_SKEW), None)

    async def progress(self, batch: str) -> Progress:
        async with _faults(self._judge, batch):
            found = await self._sdk.batches.retrieve(batch)
        counts = found.request_counts
        done, total = (counts.completed + counts.failed, counts.total) if counts else (0, 0)
        if found.status == "failed":
            problems = found.errors.data if found.errors and found.errors.data else []
            said = "; ".join(str(problem.message) for problem in problems)
            return Progress(True, done, total, faults.one_line(said) or "no reason given")
        return Progress(found.status in ("completed", "expired", "cancelled"), done, total)

    async def results(self, batch: str, requests: Mapping[str, Request]) -> dict[str, Outcome]:
        outcomes: dict[str, Outcome] = {}
        async with _faults(self._judge, batch):
            found = await self._sdk.batches.retrieve(batch)
            for file in filter(None, (found.output_file_id, found.error_file_id)):
                content = await self._sdk.files.content(file)
                # Not splitlines: U+2028 and its like may stand inside a JSON string.
                for line in map(json.loads, filter(None, content.content.split(b"\n"))):
                    if line["custom_id"] in requests:
                        outcomes[line["custom_id"]] = self._outcome(line, requests[line["custom_id"]])
        return outcomes

    def _outcome(self, line: Any, request: Request) -> Outcome:
        response, error = line.get("response") or {}, line.get("error")
        status = response.get("status_code")
        if not error and status == 200:
            return in_batch(lambda body: self._judge.read(body, request), response["body"])
        reason = json.dumps(error or response.get("body"))
        kind = "rejected" if status and 400 <= status < 500 and status not in (408, 409, 429) else "transient"
        return CallError(kind, f"{self._judge.spec.text}: {faults.one_line(reason)}")  # type: ignore[arg-type]  # narrowed above


def in_batch(read: Any, body: Any) -> Outcome:
    """A completion at the batch's price, or why it is none."""
    try:
        completion: Completion = read(body)
    except CallError as error:
        return error
    return replace(completion, usage=replace(completion.usage, batch=1))


@asynccontextmanager
async def _faults(judge: messages.AnthropicJudge | chat.OpenAIJudge, batch: str | None = None) -> AsyncIterator[None]:
    """The SDKs' exceptions as CallErrors; batch: the one that a call is about."""
    try:
        yield
    except (anthropic.APIError, openai.APIError, httpx2.HTTPError, ValueError) as error:
        if batch and isinstance(error, anthropic.NotFoundError | openai.NotFoundError):
            raise Lost(f"{judge.spec.text}: there is no batch {batch}") from error
        raise judge.fault(error) from error


def of(judge: object) -> Batches | None:
    """A judge's batch API, or None if it has none."""
    if isinstance(judge, messages.AnthropicJudge):
        return AnthropicBatches(judge)
    if isinstance(judge, chat.OpenAIJudge) and judge.spec.provider == "openai":
        return OpenAIBatches(judge)
    return None
