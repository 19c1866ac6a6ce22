"""OpenAI's Chat Completions (and Completions, for the prompt's log-probabilities) through its official SDK.

Serves `openai/MODEL` and every server that speaks the same protocol. Knows one attempt; the SDK's retries are off.
"""

import json
from typing import Any

import httpx2
import openai

from autointerp.llm.faults import CallError
from autointerp.llm.providers.gate import Gate
from autointerp.llm.providers.hosted import HostedJudge
from autointerp.llm.specs import ModelSpec
from autointerp.llm.types import Completion, Request, StopReason, TokenLogprobs, Usage

MOST_LOGPROBS = 20
"""The API's limit for generated tokens."""
STOPS: dict[str | None, StopReason] = {"stop": "stop", "length": "length", "content_filter": "refusal"}


class _Http(Gate, openai.DefaultAioHttpClient):
    """aiohttp takes half the CPU of the SDK's usual transport."""


class OpenAIJudge(HostedJudge):
    """`openai/MODEL` or `http://host:port/v1#MODEL`."""

    sdk: openai.AsyncOpenAI
    Http = _Http
    StatusError = openai.APIStatusError
    SDK = openai.AsyncOpenAI

    async def complete(self, request: Request) -> Completion:
        try:
            if request.slots:
                body = echo_parameters(self.spec, request)
                echoed = await self.sdk.post("/completions", cast_to=httpx2.Response, body=body)
                return self.read_echo(json.loads(echoed.content), request)
            body = parameters(self.spec, request)
            chat = await self.sdk.post("/chat/completions", cast_to=httpx2.Response, body=body)
            return self.read(json.loads(chat.content), request)
        except (openai.APIError, httpx2.HTTPError, ValueError) as error:
            raise self.fault(error) from error

    def read(self, answer: Any, request: Request) -> Completion:
        """A chat completion's JSON, live or from a batch. Raises CallError if it is not whole."""
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
        """The log-probabilities at the request's slots of an echoed prompt."""
        try:
            choice, usage = answer["choices"][0], usage_of(answer.get("usage"))
            # llama.cpp's server does not echo, and does not say so.
            echoed, found = choice["text"].startswith(request.messages[0].content), choice.get("logprobs")
        except (AttributeError, KeyError, TypeError, IndexError) as error:
            raise self.broken(f"an answer that is no completion ({error!r})") from error
        if not echoed or not found or not found.get("text_offset") or not found.get("top_logprobs"):
            raise CallError("fatal", f"{self.spec.text} does not echo log-probabilities; set simulation.method=text")
        places = {offset: place for place, offset in reversed(list(enumerate(found["text_offset"])))}
        missing = [slot for slot in request.slots if slot not in places]
        if missing:
            where = f"its tokenizer joins the slot at offset {missing[0]} with the text before it"
            raise CallError("rejected", f"{self.spec.text}: {where}")
        slots = tuple(dict(found["top_logprobs"][places[slot]] or {}) for slot in request.slots)
        return Completion("", "stop", usage, slots=slots)


def parameters(spec: ModelSpec, request: Request) -> dict[str, Any]:
    """What `chat.completions.create` and a batch's `body` take."""
    # OpenAI's newer models take only the new name, other servers mostly only the old one.
    limit = "max_completion_tokens" if spec.provider == "openai" else "max_tokens"
    values: dict[str, Any] = {
        "model": spec.model,
        "messages": [{"role": message.role, "content": message.content} for message in request.messages],
        limit: request.max_tokens,
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
    """What `completions.create` takes to tell the prompt's log-probabilities. One token is generated and ignored:
    not every server allows none."""
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
    """Cached tokens are among prompt_tokens. A server that does not count leaves zeros."""
    found = usage or {}
    details = found.get("prompt_tokens_details") or {}
    read, written = details.get("cached_tokens") or 0, details.get("cache_write_tokens") or 0
    return Usage(1, found.get("prompt_tokens") or 0, found.get("completion_tokens") or 0, read, written)
