"""Anthropic's Messages API: checks a request, has the script answer it, words the reply as the real one would.

The server says which fault bends an answer. Streaming,
tools and stop sequences are not here.
"""

from dataclasses import dataclass
from typing import Any

from tests.fakes import usage
from tests.fakes.anthropic_batches import MessageBatches
from tests.fakes.calls import sha_of
from tests.fakes.faults import Failure, bend, limited
from tests.fakes.http import Reply, Request, json_reply
from tests.fakes.schemas import anthropic_fault
from tests.fakes.settings import Settings
from tests.fakes.world import World

ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    404: "not_found_error",
    429: "rate_limit_error",
    529: "overloaded_error",
}
"""All others are an api_error."""
NO_CREDIT = (
    "Your credit balance is too low to access the Anthropic API. "
    "Please go to Plans & Billing to upgrade or purchase credits."
)
STOP = {"end": "end_turn", "length": "max_tokens", "refusal": "refusal"}


class AnthropicApi:
    def __init__(self, world: World) -> None:
        self._world = world
        self._batches = MessageBatches(world, self.message, self.error)

    def owns(self, request: Request) -> bool:
        return request.path.startswith("/v1/messages")

    def is_answer(self, request: Request) -> bool:
        """Whether this is a call to the model, rather than about batches."""
        return request.route == ("POST", "v1", "messages")

    def respond(self, request: Request, body: Any, fault: str | None) -> Reply:
        """The reply to an admitted request. Raises Failure for one that is wrong."""
        if "anthropic-version" not in request.headers:
            raise Failure(400, "anthropic-version: header is required")
        match request.route:
            case ("POST", "v1", "messages"):
                return json_reply(self.message(body, fault))
            case (method, "v1", "messages", "batches", *rest):
                return self._batches.respond((method, *rest), request, body)
        raise Failure(404, "Not Found")

    def error(self, failure: Failure, request_id: str) -> dict[str, Any]:
        kind = ERROR_TYPES.get(failure.status, "api_error")
        return {"type": "error", "error": {"type": kind, "message": failure.message}, "request_id": request_id}

    def wrong_key(self, key: str, settings: Settings) -> Failure:
        return Failure(401, f"invalid x-api-key: {key}" if settings.echo_key else "invalid x-api-key")

    def no_credit(self, settings: Settings) -> Failure:
        return Failure(int(settings.credit_style), NO_CREDIT)

    def message(self, body: Any, fault: str | None = None) -> dict[str, Any]:
        """The answer to the body of one request, alone or in a batch. Raises Failure if it is wrong."""
        check(body)
        if not self._world.knows(body["model"]):
            raise Failure(404, f"model: {body['model']}")
        text = self._world.script.answer(conversation(body), body)
        reply = limited(bend(text, fault), body["max_tokens"] * usage.CHARACTERS)
        return {
            "id": f"msg_{sha_of(body)[:24]}",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "content": [{"type": "text", "text": reply.text}] if reply.text else [],
            "stop_reason": STOP[reply.stop],
            "stop_sequence": None,
            "usage": self._usage(body, reply.text),
        }

    def _usage(self, body: dict[str, Any], text: str) -> dict[str, Any]:
        prompt = marked_prompt(body)
        cached = usage.count(prompt.cached)
        read = bool(cached) and self._world.cache.holds(body["model"], prompt.cached, self._world.settings.prompt_cache)
        written = 0 if read else cached
        return {
            "input_tokens": usage.count(prompt.rest),
            "cache_creation_input_tokens": written,
            "cache_read_input_tokens": cached if read else 0,
            "cache_creation": {
                "ephemeral_5m_input_tokens": written if prompt.lifetime == "5m" else 0,
                "ephemeral_1h_input_tokens": written if prompt.lifetime == "1h" else 0,
            },
            "output_tokens": usage.count(text),
            "service_tier": "standard",
        }


def check(body: Any) -> None:
    """Raises Failure for a body that the API refuses."""
    if not isinstance(body, dict):
        raise Failure(400, "The request body is not valid JSON")
    for field, kind in (("model", str), ("max_tokens", int), ("messages", list)):
        if field not in body:
            raise Failure(400, f"{field}: Field required")
        if not isinstance(body[field], kind):
            raise Failure(400, f"{field}: Input should be a valid {kind.__name__}")
    if not body["messages"]:
        raise Failure(400, "messages: at least one message is required")
    if any(message["role"] not in ("user", "assistant") for message in body["messages"]):
        raise Failure(400, 'messages: Unexpected role; use "user", "assistant", or the top-level `system` parameter')
    if body.get("stream"):
        raise Failure(400, "stream: this fake does not stream")
    _check_format((body.get("output_config") or {}).get("format"))


def _check_format(output_format: Any) -> None:
    if output_format is None:
        return
    if output_format.get("type") != "json_schema" or not isinstance(output_format.get("schema"), dict):
        raise Failure(400, "output_config.format: Input should be a json_schema with its schema")
    if fault := anthropic_fault(output_format["schema"]):
        raise Failure(400, f"output_config.format.schema: {fault}")


def conversation(body: dict[str, Any]) -> list[dict[str, str]]:
    """The request's messages as the script takes them, the system's first."""
    system = [{"role": "system", "content": body["system"]}] if body.get("system") else []
    return [
        {"role": message["role"], "content": "".join(block["text"] for block in blocks(message["content"]))}
        for message in system + body["messages"]
    ]


def blocks(content: str | list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A message's or a system prompt's text blocks."""
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


@dataclass(frozen=True)
class MarkedPrompt:
    cached: str
    """The text up to and including the last block with cache_control."""
    rest: str
    lifetime: str
    """The mark's time to live."""


def marked_prompt(body: dict[str, Any]) -> MarkedPrompt:
    contents = [body.get("system") or "", *(message["content"] for message in body["messages"])]
    all_blocks = [block for content in contents for block in blocks(content)]
    marks = {index: block["cache_control"] for index, block in enumerate(all_blocks) if block.get("cache_control")}
    if body.get("cache_control"):
        # Marked as a whole: the API puts the mark on the last block itself.
        marks[len(all_blocks) - 1] = body["cache_control"]
    end = max(marks, default=-1)
    cached, rest = ("".join(block["text"] for block in part) for part in (all_blocks[: end + 1], all_blocks[end + 1 :]))
    return MarkedPrompt(cached, rest, marks[end].get("ttl", "5m") if marks else "5m")
