"""OpenAI's batches: a file of requests in, a while in progress, then a file of answers and a file of failures.

What becomes of each line is settled when the batch is created and
shown when it has ended; batches live as long as the server does, whoever asks for them.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.calls import sha_of
from tests.fakes.faults import Failure
from tests.fakes.http import Reply, Request, json_reply, jsonl
from tests.fakes.openai_files import Files
from tests.fakes.world import World

DAY = 24 * 3600
VALIDATING = 0.2
"""The part of a batch's time in which it is still being validated."""


@dataclass
class Batch:
    id: str
    asked: dict[str, Any]
    """The body that created it."""
    total: int
    created: float
    world: World
    outcome: str
    """The status it ends with."""
    cancelled: float | None = None
    output: list[dict[str, Any]] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)
    faults: list[dict[str, Any]] = field(default_factory=list)
    """What validation found wrong with the input file."""

    @property
    def ends(self) -> float:
        return self.cancelled or self.created + self.world.settings.batch_seconds

    @property
    def status(self) -> str:
        now = time.time()
        if now >= self.ends:
            return self.outcome
        return "validating" if now < self.created + VALIDATING * (self.ends - self.created) else "in_progress"


class Batches:
    def __init__(
        self,
        world: World,
        files: Files,
        answers: Mapping[str, Callable[[Any], dict[str, Any]]],
        error: Callable[[Failure, str], dict[str, Any]],
    ) -> None:
        self._world = world
        self._answers = answers
        """How to answer a line, by endpoint."""
        self._error = error
        self._files = files
        self._batches: dict[str, Batch] = {}

    def respond(self, route: tuple[str, ...], request: Request, body: Any) -> Reply:
        """The reply to a request below /v1/batches. Raises Failure for one that is wrong."""
        match route:
            case ("POST",):
                return json_reply(self._shown(self._create(body)))
            case ("GET",):
                return json_reply(self._page(request.query))
            case ("GET", name):
                return json_reply(self._shown(self._batch(name)))
            case ("POST", name, "cancel"):
                return json_reply(self._cancel(self._batch(name)))
        raise Failure(404, f"Invalid URL ({request.method} {request.path})")

    def _batch(self, name: str) -> Batch:
        if name not in self._batches:
            raise Failure(404, f"No batch found with id '{name}'.")
        return self._batches[name]

    def _create(self, body: Any) -> Batch:
        self._check(body)
        lines, faults = read_lines(self._files.get(body["input_file_id"]).content, body["endpoint"])
        batch = Batch(
            f"batch_{len(self._batches):024x}",
            asked=body,
            total=len(lines),
            created=time.time(),
            world=self._world,
            outcome="failed" if faults else "completed",
            faults=faults,
        )
        if not faults:
            self._work(batch, lines)
        self._batches[batch.id] = batch
        return batch

    def _check(self, body: Any) -> None:
        if not isinstance(body, dict) or body.get("endpoint") not in self._answers:
            raise Failure(400, f"Invalid 'endpoint': expected one of {', '.join(self._answers)}", param="endpoint")
        if body.get("completion_window") != "24h":
            raise Failure(400, "Invalid 'completion_window': expected '24h'", param="completion_window")
        if self._files.get(str(body.get("input_file_id"))).purpose != "batch":
            raise Failure(400, "Invalid 'input_file_id': not a file for batches", param="input_file_id")

    def _work(self, batch: Batch, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            result = self._result(line, batch.asked["endpoint"])
            done = result["response"] is not None and result["response"]["status_code"] == 200
            (batch.output if done else batch.errors).append(result)
            if result["error"]:
                batch.outcome = "expired"
        # Not in the order of submission, so that a client that goes by order is found out.
        batch.output = batch.output[1:] + batch.output[:1]

    def _result(self, line: dict[str, Any], endpoint: str) -> dict[str, Any]:
        settings, sha = self._world.settings, sha_of(line["body"])
        fault = self._world.faults.strike(settings, settings.batch_faults, f"batch:{sha}")
        if fault == "expired":
            message = "This request could not be executed before the completion window expired."
            return _line(line, None, {"code": "batch_expired", "message": message})
        request_id = f"req_{sha[:24]}"
        try:
            if fault == "errored":
                raise Failure(500, "The server had an error while processing your request")
            if fault == "invalid":
                raise Failure(400, "this item is invalid by the test's wish")
            status, answer = 200, self._answers[endpoint](line["body"])
        except Failure as failure:
            status, answer = failure.status, self._error(failure, request_id)
        return _line(line, {"status_code": status, "request_id": request_id, "body": answer}, None)

    def _cancel(self, batch: Batch) -> dict[str, Any]:
        if time.time() >= batch.ends:
            raise Failure(409, f"Cannot cancel a batch with status '{batch.status}'.")
        message = "This request was not executed because the batch was cancelled."
        cancelled = {"code": "batch_cancelled", "message": message}
        batch.errors = [_line(each, None, cancelled) for each in batch.output + batch.errors]
        batch.output, batch.outcome, batch.cancelled = [], "cancelled", time.time()
        # Seen once on its way, since a client must expect to see it there.
        return self._shown(batch) | {"status": "cancelling", "output_file_id": None, "error_file_id": None}

    def _page(self, query: Mapping[str, str]) -> dict[str, Any]:
        names = list(reversed(self._batches))
        after, limit = query.get("after"), int(query.get("limit", 20))
        later = names[names.index(self._batch(after).id) + 1 :] if after else names
        page = later[:limit]
        return {
            "object": "list",
            "data": [self._shown(self._batches[name]) for name in page],
            "first_id": page[0] if page else None,
            "last_id": page[-1] if page else None,
            "has_more": len(later) > limit,
        }

    def _shown(self, batch: Batch) -> dict[str, Any]:
        """The batch as the API shows it; its files come into being when it is first seen to have ended."""
        status = batch.status
        ended = time.time() >= batch.ends
        moment = {f"{status}_at": int(batch.ends)} if ended else {}
        return {
            "id": batch.id,
            "object": "batch",
            "endpoint": batch.asked["endpoint"],
            "errors": {"object": "list", "data": batch.faults} if batch.faults and ended else None,
            "input_file_id": batch.asked["input_file_id"],
            "completion_window": batch.asked["completion_window"],
            "status": status,
            "output_file_id": self._result_file(batch, "output", batch.output) if ended else None,
            "error_file_id": self._result_file(batch, "error", batch.errors) if ended else None,
            "created_at": int(batch.created),
            "expires_at": int(batch.created + DAY),
            "request_counts": {
                "total": batch.total,
                "completed": len(batch.output) if ended else 0,
                "failed": len(batch.errors) if ended else 0,
            },
            "metadata": batch.asked.get("metadata"),
        } | moment

    def _result_file(self, batch: Batch, kind: str, lines: list[dict[str, Any]]) -> str | None:
        if not lines:
            return None
        return self._files.once(f"{batch.id}_{kind}.jsonl", jsonl(lines)).id


def _line(line: dict[str, Any], response: dict[str, Any] | None, error: dict[str, str] | None) -> dict[str, Any]:
    name = f"batch_req_{sha_of(line)[:24]}"
    return {"id": name, "custom_id": line["custom_id"], "response": response, "error": error}


def read_lines(content: bytes, endpoint: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """An input file's requests and what is wrong with it."""
    lines: list[dict[str, Any]] = []
    faults: list[dict[str, Any]] = []
    seen: set[str] = set()
    for number, raw in enumerate(content.splitlines(), start=1):
        line = _parsed(raw)
        code = _fault_of(line, endpoint) or _clash_of(line, lines, seen)
        if code:
            faults.append({"code": code, "message": f"{code} in line {number}", "param": None, "line": number})
        else:
            lines.append(line)
            seen.add(line["custom_id"])
    if not lines and not faults:
        faults.append({"code": "empty_file", "message": "The input file is empty.", "param": None, "line": None})
    return lines, faults


def _parsed(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except json.JSONDecodeError:
        return None


def _fault_of(line: Any, endpoint: str) -> str | None:
    """What is wrong with a line by itself."""
    if not isinstance(line, dict):
        return "invalid_json_line"
    if not isinstance(line.get("custom_id"), str) or not isinstance(line.get("body"), dict):
        return "missing_required_parameter"
    if line.get("url") != endpoint:
        return "mismatched_endpoint"
    return None if line.get("method") == "POST" else "invalid_method"


def _clash_of(line: dict[str, Any], earlier: list[dict[str, Any]], seen: set[str]) -> str | None:
    """What is wrong with it beside the lines before it."""
    if line["custom_id"] in seen:
        return "duplicate_custom_id"
    same_model = not earlier or line["body"].get("model") == earlier[0]["body"].get("model")
    return None if same_model else "mismatched_model"
