"""Anthropic's Message Batches: takes many requests, shows them as in progress for a while, then gives out the results.

What becomes of each item is settled when the batch is created and
shown when it has ended; batches live as long as the server does, whoever asks for them.
"""

import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.fakes.calls import sha_of
from tests.fakes.faults import Failure
from tests.fakes.http import Reply, Request, json_reply, jsonl_reply
from tests.fakes.world import World

CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
DAY = 24 * 3600


@dataclass
class Batch:
    id: str
    created: float
    results: list[dict[str, Any]]
    """One per item, in the order of submission."""
    world: World
    canceled: float | None = None

    @property
    def ends(self) -> float:
        return self.canceled or self.created + self.world.settings.batch_seconds

    @property
    def ended(self) -> bool:
        return time.time() >= self.ends

    def cancel(self) -> None:
        """Cancel all items, unless the batch has ended."""
        if not self.ended and self.canceled is None:
            self.canceled = time.time()
            self.results = [each | {"result": {"type": "canceled"}} for each in self.results]


class MessageBatches:
    def __init__(
        self,
        world: World,
        answer: Callable[[Any], dict[str, Any]],
        error: Callable[[Failure, str], dict[str, Any]],
    ) -> None:
        self._world = world
        self._answer = answer
        self._error = error
        self._batches: dict[str, Batch] = {}

    def respond(self, route: tuple[str, ...], request: Request, body: Any) -> Reply:
        """The reply to a request below /v1/messages/batches. Raises Failure for one that is wrong."""
        host = request.headers.get("host", "")
        match route:
            case ("POST",):
                return json_reply(shown(self._create(body), host))
            case ("GET",):
                return json_reply(self._page(request.query, host))
            case ("GET", name):
                return json_reply(shown(self._get(name), host))
            case ("GET", name, "results"):
                return jsonl_reply(self._results(name))
            case ("POST", name, "cancel"):
                return json_reply(self._cancel(name, host))
        raise Failure(404, "Not Found")

    def _create(self, body: Any) -> Batch:
        requests = body.get("requests") if isinstance(body, dict) else None
        if not isinstance(requests, list) or not requests:
            raise Failure(400, "requests: at least one request is required")
        _check_ids([each.get("custom_id") for each in requests])
        if any(not isinstance(each.get("params"), dict) for each in requests):
            raise Failure(400, "requests: every request needs params")
        results = [{"custom_id": each["custom_id"], "result": self._result(each["params"])} for each in requests]
        name = f"msgbatch_{len(self._batches):024x}"
        self._batches[name] = Batch(name, time.time(), results, self._world)
        return self._batches[name]

    def _result(self, params: dict[str, Any]) -> dict[str, Any]:
        """One item's result; what is wrong with its parameters is found only now, as in the real API."""
        settings = self._world.settings
        fault = self._world.faults.strike(settings, settings.batch_faults, f"batch:{sha_of(params)}")
        try:
            if fault == "expired":
                return {"type": "expired"}
            if fault == "errored":
                raise Failure(500, "Internal server error")
            if fault == "invalid":
                raise Failure(400, "messages: this item is invalid by the test's wish")
            message = self._answer(params)
        except Failure as failure:
            return {"type": "errored", "error": self._error(failure, f"req_{sha_of(params)[:24]}")}
        message["usage"]["service_tier"] = "batch"
        return {"type": "succeeded", "message": message}

    def _get(self, name: str) -> Batch:
        if name not in self._batches:
            raise Failure(404, f"Message batch {name} not found")
        return self._batches[name]

    def _cancel(self, name: str, host: str) -> dict[str, Any]:
        batch = self._get(name)
        was_running = not batch.ended
        batch.cancel()
        # Seen once on its way, since a client must expect to see it there.
        on_its_way = {"processing_status": "canceling", "ended_at": None, "results_url": None}
        return shown(batch, host) | (on_its_way if was_running else {})

    def _results(self, name: str) -> list[dict[str, Any]]:
        batch = self._get(name)
        if not batch.ended:
            raise Failure(404, f"Message batch {name} has no results yet")
        # Not one item stays in its place, so that a client that goes by order is found out.
        return batch.results[1:] + batch.results[:1]

    def _page(self, query: Mapping[str, str], host: str) -> dict[str, Any]:
        """Batches from the newest on, `limit` of them after one or before another."""
        names = list(reversed(self._batches))
        limit = int(query.get("limit", 20))
        if before := query.get("before_id"):
            earlier = names[: names.index(self._get(before).id)]
            page, more = earlier[-limit:], len(earlier) > limit
        else:
            after = query.get("after_id")
            later = names[names.index(self._get(after).id) + 1 :] if after else names
            page, more = later[:limit], len(later) > limit
        return {
            "data": [shown(self._batches[name], host) for name in page],
            "has_more": more,
            "first_id": page[0] if page else None,
            "last_id": page[-1] if page else None,
        }


def _check_ids(ids: list[Any]) -> None:
    for position, name in enumerate(ids):
        if not isinstance(name, str) or not CUSTOM_ID.fullmatch(name):
            raise Failure(400, f"requests.{position}.custom_id: String should match pattern '^[a-zA-Z0-9_-]{{1,64}}$'")
    repeated = [name for name, times in Counter(ids).items() if times > 1]
    if repeated:
        raise Failure(400, f"requests: custom_id must be unique; repeated: {', '.join(repeated)}")


def shown(batch: Batch, host: str) -> dict[str, Any]:
    """The batch as the API shows it."""
    kinds = Counter(each["result"]["type"] for each in batch.results) if batch.ended else Counter()
    counts = {kind: kinds[kind] for kind in ("succeeded", "errored", "canceled", "expired")}
    return {
        "id": batch.id,
        "type": "message_batch",
        "processing_status": "ended" if batch.ended else "in_progress",
        "request_counts": counts | {"processing": len(batch.results) - sum(counts.values())},
        "created_at": _rfc3339(batch.created),
        "expires_at": _rfc3339(batch.created + DAY),
        "ended_at": _rfc3339(batch.ends) if batch.ended else None,
        "cancel_initiated_at": _rfc3339(batch.canceled) if batch.canceled else None,
        "archived_at": None,
        "results_url": f"http://{host}/v1/messages/batches/{batch.id}/results" if batch.ended else None,
    }


def _rfc3339(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat().replace("+00:00", "Z")
