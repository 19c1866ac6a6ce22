"""Sends requests through Anthropic's Message Batches API."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from autointerp.llm import faults
from autointerp.llm.faults import CallError
from autointerp.llm.providers.batches import CLOCK_SKEW, Lost, Outcome, Progress, batch_faults, outcome_of
from autointerp.llm.types import Request

if TYPE_CHECKING:
    from autointerp.llm.providers.anthropic.messages import AnthropicProvider


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
            return (await self._api.create(requests=items)).id

    async def find(self, tag: str, count: int, since: float) -> str | None:
        """Find the newest batch of this size since then; its results' names will tell whether it is ours."""
        earliest = datetime.fromtimestamp(since - CLOCK_SKEW, UTC)
        async with batch_faults(self._provider):
            page = await self._api.list(limit=20)
        for batch in page.data:
            counts = batch.request_counts
            total = counts.processing + counts.succeeded + counts.errored + counts.canceled + counts.expired
            if total == count and batch.created_at >= earliest:
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
        outcomes: dict[str, Outcome] = {}
        async with batch_faults(self._provider, batch):
            async for item in await self._api.results(batch):
                if item.custom_id in requests:
                    outcomes[item.custom_id] = self._outcome(item.to_dict(mode="json")["result"])
        return outcomes

    def _outcome(self, result: Any) -> Outcome:
        if result["type"] == "succeeded":
            return outcome_of(self._provider.read, result["message"])
        reason = json.dumps(result.get("error", {}))
        if result["type"] == "errored" and "invalid_request" in reason:
            return CallError("rejected", f"{self._provider.spec.text}: {faults.one_line(reason)}")
        return CallError(
            "transient", f"{self._provider.spec.text}: {result['type']} in its batch {faults.one_line(reason)}"
        )
