"""Calls Anthropic's Messages API through its official SDK, whose own retries are off."""

import json
from dataclasses import replace
from typing import Any

import anthropic
import httpx2

from autointerp.llm import reading
from autointerp.llm.faults import CallError
from autointerp.llm.limits import Limits
from autointerp.llm.providers.anthropic.batches import AnthropicBatches
from autointerp.llm.providers.gate import Gate
from autointerp.llm.providers.hosted import HostedProvider, with_extra
from autointerp.llm.reading import json_of, most_usage, text_of
from autointerp.llm.specs import ModelSpec
from autointerp.llm.types import Completion, Request, StopReason, Usage

STOPS: dict[str | None, StopReason] = {
    "end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "model_context_window_exceeded": "length",
    "refusal": "refusal",
}  # fmt: skip


class _Http(Gate, anthropic.DefaultAioHttpClient):
    """Runs the SDK's client over aiohttp, which takes half the CPU of the usual transport."""


class AnthropicProvider(HostedProvider):
    """Asks a Claude model, `anthropic/MODEL`. Its tokens have no log-probabilities."""

    sdk: anthropic.AsyncAnthropic
    Http = _Http
    SDK = anthropic.AsyncAnthropic
    ApiError = anthropic.APIError
    StatusError = anthropic.APIStatusError
    NotFoundError = anthropic.NotFoundError

    def __init__(self, spec: ModelSpec, seconds: float, limits: Limits) -> None:
        super().__init__(spec, seconds, limits)
        self.batches = AnthropicBatches(self)

    async def complete(self, request: Request) -> Completion:
        """Make one attempt. Raises CallError."""
        body = self.parameters(request)
        try:
            response = await self.sdk.post("/v1/messages", cast_to=httpx2.Response, body=body)
        except (anthropic.APIError, httpx2.HTTPError, ValueError) as error:
            raise self.fault(error) from error
        with self.reading():
            return self.read(json_of(response.content), request)

    def parameters(self, request: Request) -> dict[str, Any]:
        """Return the body of a call, or of a request in a batch. Raises CallError for what the API does not offer."""
        return with_extra(parameters(self.spec, request), request)

    def read(self, message: Any, request: Request) -> Completion:
        """Read a message's JSON, live or from a batch. Raises CallError if it is not whole."""
        with self.reading():
            stop, usage = message["stop_reason"], usage_of(message.get("usage"))
            text = "".join(text_of(block["text"]) for block in message["content"] if block["type"] == "text")
            known = STOPS.get(stop)
        self.require_no_key(text)
        if known is None:
            raise CallError("rejected", f"{self.spec.text}: stopped for {self.reason(repr(stop))}", may_cost=True)
        return Completion(text, known, usage or most_usage(request), is_counted=usage is not None)


def parameters(spec: ModelSpec, request: Request) -> dict[str, Any]:
    """Return the arguments of `messages.create`. Raises CallError for what the API does not offer."""
    if request.slots or request.top_logprobs:
        raise CallError("fatal", f"{spec.text} gives no log-probabilities; set simulation.method=text")
    if request.temperature is not None:
        # Not in the API any more: from version 2026-10-21 on, which this SDK speaks, it is a bad request.
        raise CallError("fatal", f"{spec.text} takes no temperature; leave all temperatures null")
    blocks = [_block(message.content, index == request.static - 1) for index, message in enumerate(request.messages)]
    turns = list(zip(request.messages, blocks, strict=True))
    system = [block for message, block in turns if message.role == "system"]
    dialogue = [{"role": message.role, "content": [block]} for message, block in turns if message.role != "system"]
    values: dict[str, Any] = {"model": spec.model, "max_tokens": request.max_tokens, "messages": dialogue}
    if system:
        values["system"] = system
    if request.schema:
        values["output_config"] = {"format": {"type": "json_schema", "schema": json.loads(request.schema)}}
    return values


def _block(text: str, ends_static_prefix: bool) -> dict[str, Any]:
    """Make a text block. The provider caches the prompt up to the marked one for five minutes."""
    mark = {"cache_control": {"type": "ephemeral"}} if ends_static_prefix else {}
    return {"type": "text", "text": text} | mark


def usage_of(usage: Any) -> Usage | None:
    """Read the usage; the API counts tokens read from and written to the prompt cache apart from input_tokens."""
    counts = usage if isinstance(usage, dict) else {}
    cached = [counts.get(name) or 0 for name in ("cache_read_input_tokens", "cache_creation_input_tokens")]
    plain = reading.usage_of(counts.get("input_tokens"), counts.get("output_tokens"), 0, 0)
    read, written = (reading.usage_of(number, 0, 0, 0) or Usage() for number in cached)
    return plain and replace(
        plain,
        tokens_in=plain.tokens_in + read.tokens_in + written.tokens_in,
        cache_read=read.tokens_in,
        cache_write=written.tokens_in,
    )
