"""Sends requests through Anthropic's Message Batches API."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx2

from autointerp.llm.faults import CallError
from autointerp.llm.providers.batches import CLOCK_SKEW, Lost, Outcome, Progress, batch_faults, downloaded, outcome_of
from autointerp.llm.types import Request

if TYPE_CHECKING:
    from autointerp.llm.providers.anthropic.messages import AnthropicProvider

RESULTS = "/v1/messages/batches/{}/results"


class AnthropicBatches:
    """Uses the Message Batches API of a Claude model."""

    most = 10_000

    def __init__(self, provider: AnthropicProvider) -> None:
        self._provider = provider
        self._api = provider.sdk.messages.batches

    async def submit(self, requests: Mapping[str, Request], tag: str) -> str:
        """Submit requests and return the batch's id. The tag is not sent: batches have none here."""
        items: Any = [
            {"custom_id": key, "params": self._provider.parameters(request)} for key, request in requests.items()
        ]
        async with batch_faults(self._provider):
            return str((await self._api.create(requests=items)).id)

    async def find(self, tag: str, count: int, since: float, others: Collection[str]) -> str | None:
        """Find the newest batch of this size since then; its results' names will tell whether it is ours."""
        earliest = datetime.fromtimestamp(since - CLOCK_SKEW, UTC)
        async with batch_faults(self._provider):
            for batch in (await self._api.list(limit=20)).data:
                counts = batch.request_counts
                total = counts.processing + counts.succeeded + counts.errored + counts.canceled + counts.expired
                if total == count and batch.created_at >= earliest and batch.id not in others:
                    return batch.id
        return None

    async def progress(self, batch: str) -> Progress:
        """Ask how far a batch is. Raises Lost if it or its results are gone."""
        async with batch_faults(self._provider, batch):
            state = await self._api.retrieve(batch)
            if state.archived_at:
                raise Lost(f"{self._provider.spec.text}: the results of batch {batch} are gone")
            counts = state.request_counts
            done = counts.succeeded + counts.errored + counts.canceled + counts.expired
            return Progress(state.processing_status == "ended", done, done + counts.processing)

    async def results(self, batch: str, requests: Mapping[str, Request]) -> dict[str, Outcome]:
        """Read an ended batch's outcomes. Raises Lost."""
        async with batch_faults(self._provider, batch):
            lines = await downloaded(lambda: self._content(batch), requests)
        return {key: self._outcome(lines[key], request) for key, request in requests.items() if key in lines}

    async def _content(self, batch: str) -> bytes:
        return bytes((await self._provider.sdk.get(RESULTS.format(batch), cast_to=httpx2.Response)).content)

    def _outcome(self, line: Any, request: Request) -> Outcome:
        return outcome_of(self._provider, lambda: self._read(line["result"], request))

    def _read(self, result: Any, request: Request) -> Outcome:
        if result["type"] == "succeeded":
            return self._provider.read(result["message"], request)
        reason, spec = self._provider.reason(json.dumps(result.get("error", {}))), self._provider.spec.text
        if result["type"] == "errored" and "invalid_request" in reason:
            return CallError("rejected", f"{spec}: {reason}")
        return CallError("transient", f"{spec}: {result['type']} in its batch {reason}")
