"""Calls OpenAI's Chat Completions (and Completions, for the prompt's log-probabilities) through its official SDK.

Serves `openai/MODEL` and every server that speaks the same protocol. The SDK's own retries are off.
"""

import json
import logging
from dataclasses import replace
from typing import Any, ClassVar

import httpx2
import openai

from autointerp.llm import keys, reading
from autointerp.llm.faults import CallError, NoLogprobs
from autointerp.llm.limits import Limits
from autointerp.llm.providers.gate import Gate
from autointerp.llm.providers.hosted import HostedProvider, with_extra
from autointerp.llm.providers.openai.batches import OpenAIBatches
from autointerp.llm.providers.openai.echo import slot_logprobs, token_texts
from autointerp.llm.reading import json_of, logprobs_of, most_usage, optional_text
from autointerp.llm.specs import ModelSpec
from autointerp.llm.types import Completion, Request, StopReason, TokenLogprobs, Usage

log = logging.getLogger(__name__)
MOST_LOGPROBS = 20
"""Most log-probabilities that the API gives for one generated token."""
STOPS: dict[str | None, StopReason] = {
    "stop": "stop", "eos": "stop", "length": "length", "content_filter": "refusal",
}  # fmt: skip
"""By the API's word; "eos" is what some gateways say for "stop"."""
INTERRUPTED = ("insufficient_system_resource", "error", "abort")
"""What DeepSeek, OpenRouter and vLLM say where they broke an answer off: the same call may succeed soon."""


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
        if request.slots:
            echoed = await self._post("/completions", with_extra(echo_parameters(self.spec, request), request))
            with self.reading():
                completion = self.read_echo(json_of(echoed), request)
                return replace(completion, slots=tuple(map(logprobs_of, completion.slots)))
        chat = await self._post("/chat/completions", self.parameters(request))
        with self.reading():
            return self.read(json_of(chat), request)

    async def _post(self, path: str, body: dict[str, Any]) -> bytes:
        try:
            response = await self.sdk.post(path, cast_to=httpx2.Response, body=body)
        except (openai.APIError, httpx2.HTTPError, ValueError) as error:
            raise self.fault(error) from error
        return response.content

    def parameters(self, request: Request) -> dict[str, Any]:
        """Return the body of a call, or of a request in a batch."""
        return with_extra(parameters(self.spec.model, self.max_tokens_name, request), request)

    def read(self, answer: Any, request: Request) -> Completion:
        """Read a chat completion's JSON, live or from a batch. Raises CallError if it is not whole."""
        with self.reading():
            choice, usage = answer["choices"][0], usage_of(answer.get("usage"))
            known, message = STOPS.get(choice["finish_reason"]), choice["message"]
            text, refusal = optional_text(message.get("content")), optional_text(message.get("refusal"))
            logprobs = _logprobs(choice, text) if request.top_logprobs else ()
        self.require_no_key(text + refusal)
        taken, is_counted = usage or most_usage(request), usage is not None
        if refusal:
            return Completion(refusal, "refusal", taken, is_counted=is_counted)
        if known is None:
            stop = choice["finish_reason"]
            reason = f"{self.spec.text}: stopped for {self.reason(repr(stop))}"
            raise CallError("transient" if stop in INTERRUPTED else "rejected", reason, may_cost=True)
        if request.top_logprobs and not logprobs and text:
            raise NoLogprobs(f"{self.spec.text} gave no log-probabilities; set simulation.method=text")
        return Completion(text, known, taken, logprobs, is_counted=is_counted)

    def read_echo(self, answer: Any, request: Request) -> Completion:
        """Read the log-probabilities at the request's slots from an echoed prompt. Raises CallError."""
        try:
            choice, usage = answer["choices"][0], usage_of(answer.get("usage")) or most_usage(request)
            # llama.cpp's server does not echo, and does not say so.
            echoed, logprobs = choice["text"].startswith(request.messages[0].content), choice.get("logprobs")
        except (AttributeError, KeyError, TypeError, IndexError) as error:
            raise self.broken(f"an answer that is no completion ({error!r})") from error
        with self.reading():
            if not echoed or not logprobs or not logprobs.get("tokens") or not logprobs.get("top_logprobs"):
                raise NoLogprobs(f"{self.spec.text} does not echo log-probabilities; set simulation.method=text")
            try:
                slots = slot_logprobs(request.messages[0].content, request.slots, logprobs)
            except LookupError as error:
                reason = f"{self.spec.text}: {error}; set simulation.method=text"
                raise CallError("rejected", reason, may_cost=True) from error
        return Completion("", "stop", usage, slots=slots)


class OpenAIProvider(ChatProvider):
    """Asks a model of OpenAI, `openai/MODEL`."""

    max_tokens_name = "max_completion_tokens"  # its newer models take no other

    def __init__(self, spec: ModelSpec, seconds: float, limits: Limits) -> None:
        super().__init__(spec, seconds, limits)
        self.batches = OpenAIBatches(self)


class CompatibleProvider(ChatProvider):
    """Asks a model on your own server, `http://host:port/v1#MODEL`, or Gemini; without a schema if it takes none."""

    max_tokens_name = "max_tokens"  # most servers know only the old name

    def __init__(self, spec: ModelSpec, seconds: float, limits: Limits) -> None:
        with keys.without_openai_variables():
            super().__init__(spec, seconds, limits)

    async def complete(self, request: Request) -> Completion:
        """Make one attempt; if it is rejected with a schema but not without, leave schemas out from then on."""
        plain = replace(request, schema=None)
        if not request.schema or not self.takes_schema:
            return await super().complete(plain)
        try:
            return await super().complete(request)
        except CallError as error:
            if error.kind != "rejected" or error.may_cost:  # else it was answered: the schema was taken
                raise
        completion = await super().complete(plain)
        if self.takes_schema:
            self.takes_schema = False
            log.warning("autointerp: %s takes no JSON schema; it is asked without one", self.spec.text)
        return completion


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


def _logprobs(choice: dict[str, Any], text: str) -> tuple[TokenLogprobs, ...]:
    content = (choice.get("logprobs") or {}).get("content") or ()
    return tuple(
        TokenLogprobs(
            token,
            logprobs_of({top["token"]: top["logprob"] for top in item["top_logprobs"]} | {token: item["logprob"]}),
        )
        for token, item in zip(token_texts(text, content), content, strict=True)
    )


def usage_of(usage: Any) -> Usage | None:
    """Read the usage; cached tokens are among prompt_tokens. None if the server did not count.

    OpenAI counts the tokens of thinking among completion_tokens; Gemini's address and xAI count them in total_tokens
    only, and charge for them as output.
    """
    counts = usage if isinstance(usage, dict) else {}
    details = counts.get("prompt_tokens_details")
    details = details if isinstance(details, dict) else {}
    counted = reading.usage_of(
        counts.get("prompt_tokens"),
        counts.get("completion_tokens"),
        details.get("cached_tokens"),
        details.get("cache_write_tokens"),
    )
    total = reading.count_of(counts.get("total_tokens"))
    if counted is None or total is None:
        return counted
    return replace(counted, tokens_out=max(counted.tokens_out, total - counted.tokens_in))
