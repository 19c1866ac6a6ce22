"""The fake as a process: lets requests in, strikes some, has the right API answer the others, keeps the log.

    python -m tests.fakes.server --settings '{"latency": 0.2}'

prints its address and serves until it is killed. POST /_settings changes settings, GET /_calls and GET /_bodies show
what was asked.
"""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from tests.fakes.anthropic_api import AnthropicApi
from tests.fakes.calls import Call, CallLog, sha_of
from tests.fakes.faults import Failure, failure_of, transmit
from tests.fakes.http import Reply, Request, Sender, json_reply, listen
from tests.fakes.openai_api import OpenAiApi
from tests.fakes.settings import Settings
from tests.fakes.world import World

SLOWER = 10
"""How much the fault slow is."""
OF_ANSWERS = {"refusal", "length", "shape"}
"""Faults that a reply about batches or files cannot have."""
Api = AnthropicApi | OpenAiApi


class FakeServer:
    def __init__(self, settings: Settings) -> None:
        self._world = World(settings)
        self._apis: tuple[Api, ...] = (AnthropicApi(self._world), OpenAiApi(self._world))
        self._log = CallLog()
        self._requests = 0
        self._answers = 0
        """Completed answers of the model, which use up the credit."""

    async def handle(self, request: Request, sender: Sender) -> None:
        if request.path.startswith("/_"):
            await sender.send(self._own(request))
            return
        body = _parsed(request.body)
        call = self._log.begin(request, body)
        api = next(api for api in self._apis if api.owns(request))
        try:
            reply = await self._reply(api, request, body, call)
            call.status = reply.status if reply.cut != "before" else None
            right = reply.status == 200 and call.fault in (None, "slow")
            call.completed = await sender.send(reply) and right
            self._answers += call.completed and api.is_answer(request)
        finally:
            self._log.end(call, self._world.settings.log)

    async def _reply(self, api: Api, request: Request, body: Any, call: Call) -> Reply:
        self._requests += 1
        request_id = f"req_{self._requests:024d}"
        # The one name is Anthropic's, the other OpenAI's.
        headers = {"request-id": request_id, "x-request-id": request_id}
        try:
            self._let_in(api, request, call)
            call.fault = self._strike(api, request, call)
            await self._wait(call.fault)
            reply = self._answer(api, request, body, call.fault)
        except Failure as failure:
            reply = json_reply(api.error(failure, request_id), failure.status, failure.headers)
        return transmit(Reply(reply.status, reply.body, {**reply.headers, **headers}), call.fault)

    def _let_in(self, api: Api, request: Request, call: Call) -> None:
        settings = self._world.settings
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        key = request.headers.get("x-api-key", bearer)
        if key != settings.key:
            raise api.wrong_key(key, settings)
        if settings.max_in_flight is not None and call.in_flight > settings.max_in_flight:
            raise Failure(429, "Too many concurrent requests", "rate_limit_exceeded")

    def _strike(self, api: Api, request: Request, call: Call) -> str | None:
        settings, is_answer = self._world.settings, api.is_answer(request)
        if self._without_credit(request) or not (is_answer or settings.faults_on == "everything"):
            return None
        possible = {name: chance for name, chance in settings.faults.items() if is_answer or name not in OF_ANSWERS}
        sha = call.body if is_answer and call.body else sha_of(request.route)
        return self._world.faults.strike(settings, possible, sha)

    async def _wait(self, fault: str | None) -> None:
        settings = self._world.settings
        if fault == "timeout":
            await asyncio.sleep(settings.hang)
        elif settings.latency:
            await asyncio.sleep(settings.latency * (SLOWER if fault == "slow" else 1))

    def _answer(self, api: Api, request: Request, body: Any, fault: str | None) -> Reply:
        # Asked only now, so that not one answer more than the credit is given, however many were under way.
        if self._without_credit(request):
            raise api.no_credit(self._world.settings)
        if failure := failure_of(fault, self._world.settings):
            raise failure
        return api.respond(request, body, fault)

    def _without_credit(self, request: Request) -> bool:
        credit = self._world.settings.credit
        return credit is not None and self._answers >= credit and request.method == "POST"

    def _own(self, request: Request) -> Reply:
        """The reply to the test itself."""
        match request.route:
            case ("GET", "_calls"):
                return json_reply([vars(call) for call in self._log.finished])
            case ("GET", "_bodies"):
                return json_reply(self._log.bodies)
            case ("POST", "_settings"):
                return self._configure(json.loads(request.body))
        return json_reply({"error": f"no {request.path} here"}, 404)

    def _configure(self, changes: dict[str, Any]) -> Reply:
        try:
            self._world.configure(changes)
        except (ValueError, TypeError, ImportError, AttributeError) as error:
            return json_reply({"error": str(error)}, 400)
        return json_reply(vars(self._world.settings))


def _parsed(body: bytes) -> Any:
    """The body if it is JSON, else None."""
    try:
        return json.loads(body)
    except ValueError:
        return None


async def serve(settings: Settings, tell: Callable[[str], None]) -> None:
    server = await listen(FakeServer(settings).handle)
    host, port = server.sockets[0].getsockname()
    tell(f"http://{host}:{port}")
    await server.serve_forever()


def serve_at(settings: str, folder: str, environment: dict[str, str], there: Connection) -> None:
    """Serve in a forked process as if it were started in a folder, with an environment; its URL goes `there`."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.path[:0] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))  # where a script may be

    def tell(url: str) -> None:
        there.send_bytes(url.encode())
        there.close()

    asyncio.run(serve(Settings().changed(json.loads(settings)), tell))


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve fakes of Anthropic's and OpenAI's APIs on a free local port.")
    parser.add_argument("--settings", type=json.loads, default={}, help="JSON; tests/fakes/settings.py lists them")
    asyncio.run(serve(Settings().changed(parser.parse_args().settings), lambda url: print(url, flush=True)))


if __name__ == "__main__":
    main()
