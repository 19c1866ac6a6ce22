"""Calls OpenAI's Chat Completions (and Completions, for the prompt's log-probabilities) through its official SDK.

Serves `openai/MODEL` and every server that speaks the same protocol. The SDK's own retries are off.
"""

import json
from typing import Any, ClassVar

import httpx2
import openai

from autointerp.llm import keys
from autointerp.llm.faults import CallError
from autointerp.llm.limits import Limits
from autointerp.llm.providers.gate import Gate
from autointerp.llm.providers.hosted import HostedProvider
from autointerp.llm.providers.openai.batches import OpenAIBatches
from autointerp.llm.providers.openai.echo import slot_logprobs
from autointerp.llm.specs import ModelSpec
from autointerp.llm.types import Completion, Request, StopReason, TokenLogprobs, Usage

MOST_LOGPROBS = 20
"""Most log-probabilities that the API gives for one generated token."""
STOPS: dict[str | None, StopReason] = {"stop": "stop", "length": "length", "content_filter": "refusal"}


class _Http(Gate, openai.DefaultAioHttpClient):
    """Runs the SDK's client over aiohttp, which takes half the CPU of the usual transport."""


class ChatProvider(HostedProvider):
    """Asks a model by OpenAI's protocol."""

    sdk: openai.AsyncOpenAI
    Http = _Http
    SDK = openai.AsyncOpenAI
    ApiError = openai.APIError
    StatusError = openai.APIStatusError
    NotFoundError = openai.NotFoundError
    max_tokens_name: ClassVar[str]
    """What the API calls the limit on an answer's tokens."""

    async def complete(self, request: Request) -> Completion:
        """Make one attempt. Raises CallError."""
        try:
            if request.slots:
                body = echo_parameters(self.spec, request)
                echoed = await self.sdk.post("/completions", cast_to=httpx2.Response, body=body)
                return self.read_echo(json.loads(echoed.content), request)
            body = self.parameters(request)
            chat = await self.sdk.post("/chat/completions", cast_to=httpx2.Response, body=body)
            return self.read(json.loads(chat.content), request)
        except (openai.APIError, httpx2.HTTPError, ValueError) as error:
            raise self.fault(error) from error

    def parameters(self, request: Request) -> dict[str, Any]:
        """Return the body of a call, or of a request in a batch."""
        return parameters(self.spec.model, self.max_tokens_name, request)

    def read(self, answer: Any, request: Request) -> Completion:
        """Read a chat completion's JSON, live or from a batch. Raises CallError if it is not whole."""
        try:
            choice, usage = answer["choices"][0], usage_of(answer.get("usage"))
            stop, refusal = choice["finish_reason"], choice["message"].get("refusal")
            text, logprobs = choice["message"].get("content") or "", _logprobs(choice)
        except (AttributeError, KeyError, TypeError, IndexError) as error:
            raise self.broken(f"an answer that is no completion ({error!r})") from error
        if refusal:
            return Completion(refusal, "refusal", usage)
        if stop not in STOPS:
            raise CallError("rejected", f"{self.spec.text}: stopped for {stop!r}")
        if request.top_logprobs and not logprobs and text:
            raise CallError("fatal", f"{self.spec.text} gave no log-probabilities; set simulation.method=text")
        return Completion(text, STOPS[stop], usage, logprobs)

    def read_echo(self, answer: Any, request: Request) -> Completion:
        """Read the log-probabilities at the request's slots from an echoed prompt. Raises CallError."""
        try:
            choice, usage = answer["choices"][0], usage_of(answer.get("usage"))
            # llama.cpp's server does not echo, and does not say so.
            echoed, logprobs = choice["text"].startswith(request.messages[0].content), choice.get("logprobs")
        except (AttributeError, KeyError, TypeError, IndexError) as error:
            raise self.broken(f"an answer that is no completion ({error!r})") from error
        if not echoed or not logprobs or not logprobs.get("tokens") or not logprobs.get("top_logprobs"):
            raise CallError("fatal", f"{self.spec.text} does not echo log-probabilities; set simulation.method=text")
        try:
            tops = slot_logprobs(request.messages[0].content, request.slots, logprobs)
        except LookupError as error:
            raise CallError("rejected", f"{self.spec.text}: {error}; set simulation.method=text") from error
        except (AttributeError, TypeError, ValueError) as error:
            raise self.broken(f"an answer that is no completion ({error!r})") from error
        return Completion("", "stop", usage, slots=tops)


class OpenAIProvider(ChatProvider):
    """Asks a model of OpenAI, `openai/MODEL`."""

    max_tokens_name = "max_completion_tokens"  # its newer models take no other

    def __init__(self, spec: ModelSpec, seconds: float, limits: Limits) -> None:
        super().__init__(spec, seconds, limits)
        self.batches = OpenAIBatches(self)


class CompatibleProvider(ChatProvider):
    """Asks a model on your own server, `http://host:port/v1#MODEL`."""

    max_tokens_name = "max_tokens"  # most servers know only the old name

    def __init__(self, spec: ModelSpec, seconds: float, limits: Limits) -> None:
        with keys.without_openai_variables():
            super().__init__(spec, seconds, limits)


def parameters(model: str, max_tokens_name: str, request: Request) -> dict[str, Any]:
    """Return the arguments of `chat.completions.create`."""
    values: dict[str, Any] = {
        "model": model,
        "messages": [{"role": message.role, "content": message.content} for message in request.messages],
        max_tokens_name: request.max_tokens,
    }
    if request.temperature is not None:
        values["temperature"] = request.temperature
    if request.top_logprobs:
        values |= {"logprobs": True, "top_logprobs": min(request.top_logprobs, MOST_LOGPROBS)}
    if request.schema:
        schema = {"name": "answer", "strict": True, "schema": json.loads(request.schema)}
        values["response_format"] = {"type": "json_schema", "json_schema": schema}
    return values


def echo_parameters(spec: ModelSpec, request: Request) -> dict[str, Any]:
    """Return the arguments of `completions.create` for the prompt's log-probabilities.

    One token is generated and ignored: not every server allows none.
    """
    prompt = request.messages[0].content
    return {
        "model": spec.model, "prompt": prompt, "echo": True, "logprobs": request.top_logprobs, "max_tokens": 1,
        "temperature": 0,
    }  # fmt: skip


def _logprobs(choice: dict[str, Any]) -> tuple[TokenLogprobs, ...]:
    content = (choice.get("logprobs") or {}).get("content") or ()
    return tuple(
        TokenLogprobs(
            item["token"],
            {top["token"]: top["logprob"] for top in item["top_logprobs"]} | {item["token"]: item["logprob"]},
        )
        for item in content
    )


def usage_of(usage: dict[str, Any] | None) -> Usage:
    """Read the usage; cached tokens are among prompt_tokens. A server that does not count leaves zeros."""
    counts = usage or {}
    details = counts.get("prompt_tokens_details") or {}
    read, written = details.get("cached_tokens") or 0, details.get("cache_write_tokens") or 0
    return Usage(1, counts.get("prompt_tokens") or 0, counts.get("completion_tokens") or 0, read, written)
