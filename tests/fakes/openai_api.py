"""OpenAI's chat and plain completions: checks a request, has the script answer it, words the reply as the real one.

The server says which fault bends an answer.
Streaming, tools, stop sequences and more than one choice are not here.
"""

import time
from typing import Any

from tests.fakes import usage
from tests.fakes.calls import sha_of
from tests.fakes.faults import Failure, Written, bend, limited
from tests.fakes.http import Reply, Request, json_reply
from tests.fakes.logprobs import chat_content, completion_logprobs, tokens_at
from tests.fakes.openai_batches import Batches
from tests.fakes.openai_files import Files
from tests.fakes.schemas import openai_fault
from tests.fakes.settings import Settings
from tests.fakes.world import World

MOST_LOGPROBS = 20
DEFAULT_MAX_TOKENS = 16
"""Of a plain completion, as ever."""
STOP = {"end": "stop", "length": "length", "refusal": "stop"}


class OpenAiApi:
    def __init__(self, world: World) -> None:
        self._world = world
        answers = {"/v1/chat/completions": self.chat, "/v1/completions": self.completion}
        self._files = Files()
        self._batches = Batches(world, self._files, answers, self.error)

    def owns(self, request: Request) -> bool:
        return True

    def is_answer(self, request: Request) -> bool:
        """Whether this is a call to the model, rather than about files, batches or models."""
        return request.route in (("POST", "v1", "chat", "completions"), ("POST", "v1", "completions"))

    def respond(self, request: Request, body: Any, fault: str | None) -> Reply:
        """The reply to an admitted request. Raises Failure for one that is wrong."""
        match request.route:
            case ("POST", "v1", "chat", "completions"):
                return json_reply(self.chat(body, fault))
            case ("POST", "v1", "completions"):
                return json_reply(self.completion(body, fault))
            case ("GET", "v1", "models"):
                names = self._world.settings.models or ["fake-model"]
                return json_reply({"object": "list", "data": [_model(name) for name in names]})
            case (method, "v1", "files", *rest):
                return self._files.respond((method, *rest), request)
            case (method, "v1", "batches", *rest):
                return self._batches.respond((method, *rest), request, body)
        raise Failure(404, f"Invalid URL ({request.method} {request.path})")

    def error(self, failure: Failure, request_id: str) -> dict[str, Any]:
        kind = "server_error" if failure.status >= 500 else "invalid_request_error"
        if failure.status == 429:
            kind = "insufficient_quota" if failure.code == "insufficient_quota" else "requests"
        return {"error": {"message": failure.message, "type": kind, "param": failure.param, "code": failure.code}}

    def wrong_key(self, key: str, settings: Settings) -> Failure:
        shown = key if settings.echo_key else f"{key[:5]}***{key[-3:]}"
        advice = "You can find your API key at https://platform.openai.com/account/api-keys."
        return Failure(401, f"Incorrect API key provided: {shown}. {advice}", "invalid_api_key")

    def no_credit(self, settings: Settings) -> Failure:
        advice = "please check your plan and billing details."
        return Failure(429, f"You exceeded your current quota, {advice}", "insufficient_quota")

    def chat(self, body: Any, fault: str | None = None) -> dict[str, Any]:
        """A chat completion, alone or in a batch. Raises Failure if the request is wrong."""
        self._check(body)
        check_chat(body)
        messages = conversation(body)
        limit = body.get("max_completion_tokens") or body.get("max_tokens")
        reply = bend(self._world.script.answer(messages, body), fault)
        reply = limited(reply, limit * usage.CHARACTERS) if limit else reply
        refused = reply.stop == "refusal"
        message = {"role": "assistant", "content": None if refused else reply.text}
        choice = {
            "index": 0,
            "message": message | {"refusal": reply.text if refused else None, "annotations": []},
            "logprobs": self._chat_logprobs(messages, reply, body),
            "finish_reason": STOP[reply.stop],
        }
        prompt = "".join(message["content"] for message in messages)
        return self._completion_object(body, choice, "chat.completion", prompt, reply.text)

    def completion(self, body: Any, fault: str | None = None) -> dict[str, Any]:
        """A plain completion, alone or in a batch. Raises Failure if the request is wrong."""
        self._check(body)
        check_completion(body)
        prompt = body["prompt"]
        limit = DEFAULT_MAX_TOKENS if body.get("max_tokens") is None else body["max_tokens"]
        written = _first_tokens(self._world.script.answer(_as_messages(prompt), body), limit)
        echoed = prompt if body.get("echo") else ""
        reply = bend(echoed + written.text, fault)
        choice = {
            "index": 0,
            "text": reply.text,
            "logprobs": self._logprobs(prompt, echoed, reply.text, body),
            "finish_reason": STOP[written.stop if reply.stop == "end" else reply.stop],
        }
        return self._completion_object(body, choice, "text_completion", prompt, written.text)

    def _check(self, body: Any) -> None:
        if not isinstance(body, dict):
            raise Failure(400, "We could not parse the JSON body of your request.")
        if not isinstance(body.get("model"), str):
            raise Failure(400, "you must provide a model parameter")
        if not self._world.knows(body["model"]):
            message = f"The model `{body['model']}` does not exist or you do not have access to it."
            raise Failure(404, message, "model_not_found")
        for name in self._world.settings.refuses:
            if body.get(name) is not None:
                message = f"Unsupported parameter: '{name}' is not supported with this model."
                raise Failure(400, message, "unsupported_parameter", name)
        if body.get("stream") or body.get("n", 1) != 1:
            raise Failure(400, "this fake neither streams nor makes more than one choice")

    def _chat_logprobs(
        self, messages: list[dict[str, str]], reply: Written, body: dict[str, Any]
    ) -> dict[str, Any] | None:
        if not body.get("logprobs"):
            return None
        content = chat_content(
            reply.text,
            lambda offset, token: self._world.script.top_logprobs(messages, reply.text, offset, token),
            body.get("top_logprobs") or 0,
        )
        refused = reply.stop == "refusal"
        return {"content": None if refused else content, "refusal": content if refused else None}

    def _logprobs(self, prompt: str, echoed: str, text: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """For the text of a plain completion, which begins with the prompt if that is echoed."""
        if body.get("logprobs") is None:
            return None
        script, messages, written = self._world.script, _as_messages(prompt), text[len(echoed) :]

        def top(offset: int, token: str) -> dict[str, float]:
            if offset < len(echoed):
                return script.prompt_logprobs(prompt, offset, token)
            return script.top_logprobs(messages, written, offset - len(echoed), token)

        # Apart, since no token begins in the prompt and ends in what the model wrote.
        offsets = tokens_at(text[: len(echoed)]) + tokens_at(written, len(echoed))
        return completion_logprobs(offsets, top, body["logprobs"], self._world.settings.bos if echoed else None)

    def _completion_object(
        self, body: dict[str, Any], choice: dict[str, Any], kind: str, prompt: str, text: str
    ) -> dict[str, Any]:
        """What is around the choice, in both APIs."""
        asked, reply = usage.count(prompt), usage.count(text)
        cached = self._world.cache.blocks(body["model"], prompt, self._world.settings.prompt_cache)
        return {
            "id": f"{'chatcmpl' if kind == 'chat.completion' else 'cmpl'}-{sha_of(body)[:29]}",
            "object": kind,
            "created": int(time.time()),
            "model": body["model"],
            "choices": [choice],
            "usage": {
                "prompt_tokens": asked,
                "completion_tokens": reply,
                "total_tokens": asked + reply,
                "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
            },
            "system_fingerprint": "fp_fake",
        }


def check_chat(body: dict[str, Any]) -> None:
    """Raises Failure for what the chat API refuses."""
    if not body.get("messages"):
        raise Failure(400, "Invalid 'messages': empty array.", "empty_array", "messages")
    _check_count(body.get("top_logprobs"), "top_logprobs")
    if body.get("top_logprobs") is not None and not body.get("logprobs"):
        raise Failure(400, "Invalid 'top_logprobs': allowed only with 'logprobs'.", "invalid_value", "top_logprobs")
    response_format = body.get("response_format") or {"type": "text"}
    if response_format.get("type") != "json_schema":
        return
    described = response_format.get("json_schema") or {}
    if not described.get("name") or not isinstance(described.get("schema"), dict):
        message = "Missing required parameter: 'response_format.json_schema'."
        raise Failure(400, message, "missing_required_parameter", "response_format")
    if described.get("strict") and (fault := openai_fault(described["schema"])):
        message = f"Invalid schema for response_format '{described['name']}': {fault}"
        raise Failure(400, message, param="response_format")


def check_completion(body: dict[str, Any]) -> None:
    if not isinstance(body.get("prompt"), str):
        raise Failure(400, "this fake takes one string as a prompt", param="prompt")
    # OpenAI itself stops at 5, servers of open models at 20.
    _check_count(body.get("logprobs"), "logprobs")


def _check_count(given: int | None, name: str) -> None:
    if given is not None and not 0 <= given <= MOST_LOGPROBS:
        message = f"Invalid '{name}': integer out of range. Expected 0 to {MOST_LOGPROBS}, but got {given} instead."
        raise Failure(400, message, "integer_above_max_value", name)


def conversation(body: dict[str, Any]) -> list[dict[str, str]]:
    """The request's messages as the script takes them, the system's first."""
    flat = [
        {"role": "system" if each["role"] == "developer" else each["role"], "content": _text(each["content"])}
        for each in body["messages"]
    ]
    return sorted(flat, key=lambda message: message["role"] != "system")


def _text(content: str | list[dict[str, Any]]) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def _as_messages(prompt: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}]


def _first_tokens(text: str, limit: int) -> Written:
    """As many tokens as log-probabilities are given for."""
    offsets = tokens_at(text)
    return Written(text) if len(offsets) <= limit else Written(text[: offsets[limit][0]], "length")


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "fake"}
