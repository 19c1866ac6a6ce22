"""Sends requests through OpenAI's Batch API."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from autointerp.llm.faults import CallError
from autointerp.llm.providers.batches import CLOCK_SKEW, Outcome, Progress, batch_faults, downloaded, outcome_of
from autointerp.llm.types import Request

if TYPE_CHECKING:
    from autointerp.llm.providers.openai.chat import OpenAIProvider

TAG = "autointerp"
"""The name under which a batch's metadata holds our tag."""


class OpenAIBatches:
    """Uses the Batch API of an OpenAI model, over uploaded files of Chat Completions requests."""

    most = 10_000

    def __init__(self, provider: OpenAIProvider) -> None:
        self._provider = provider
        self._sdk = provider.sdk

    async def submit(self, requests: Mapping[str, Request], tag: str) -> str:
        """Upload requests, start a batch with the tag in its metadata, and return its id."""
        lines = [
            {
                "custom_id": key,
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": self._provider.parameters(request),
            }
            for key, request in requests.items()
        ]
        content = "".join(json.dumps(line) + "\n" for line in lines).encode()
        async with batch_faults(self._provider):
            file = await self._sdk.files.create(file=(f"{tag}.jsonl", content), purpose="batch")
            batch = await self._sdk.batches.create(
                input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={TAG: tag}
            )
            return str(batch.id)

    async def find(self, tag: str, count: int, since: float, others: Collection[str]) -> str | None:
        """Find the newest batch with this tag since then; no other batch has it."""
        async with batch_faults(self._provider):
            page = await self._sdk.batches.list(limit=50)
            ours = (batch for batch in page.data if (batch.metadata or {}).get(TAG) == tag)
            # An older one of the same requests has ended without doing them.
            return next((batch.id for batch in ours if batch.created_at >= since - CLOCK_SKEW), None)

    async def progress(self, batch: str) -> Progress:
        """Ask how far a batch is, and why it was refused if it was. Raises Lost."""
        async with batch_faults(self._provider, batch):
            state = await self._sdk.batches.retrieve(batch)
            counts = state.request_counts
            done, total = (counts.completed + counts.failed, counts.total) if counts else (0, 0)
            if state.status == "failed":
                problems = state.errors.data if state.errors and state.errors.data else []
                reason = "; ".join(str(problem.message) for problem in problems)
                return Progress(True, done, total, self._provider.reason(reason) or "no reason given")
            return Progress(state.status in ("completed", "expired", "cancelled"), done, total)

    async def results(self, batch: str, requests: Mapping[str, Request]) -> dict[str, Outcome]:
        """Read an ended batch's outcomes from its files of answers and of errors. Raises Lost."""
        async with batch_faults(self._provider, batch):
            state = await self._sdk.batches.retrieve(batch)
            files = [file for file in (state.output_file_id, state.error_file_id) if file]

            async def download() -> bytes:
                return b"\n".join([(await self._sdk.files.content(file)).content for file in files])

            lines = await downloaded(download, requests)
        return {key: self._outcome(lines[key], request) for key, request in requests.items() if key in lines}

    def _outcome(self, line: Any, request: Request) -> Outcome:
        return outcome_of(self._provider, lambda: self._read(line, request))

    def _read(self, line: Any, request: Request) -> Outcome:
        response, error = line.get("response") or {}, line.get("error")
        status = response.get("status_code")
        if not error and status == 200:
            return self._provider.read(response["body"], request)
        reason = self._provider.reason(json.dumps(error or response.get("body")))
        is_rejected = status and 400 <= status < 500 and status not in (408, 409, 429)
        return CallError("rejected" if is_rejected else "transient", f"{self._provider.spec.text}: {reason}")
