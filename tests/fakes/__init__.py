"""Fakes of Anthropic's and OpenAI's APIs on loopback, for tests that go through the real SDKs.

    with FakeApis(latency=0.05, faults={"529": 0.2}) as server:
        anthropic.AsyncAnthropic(base_url=server.url, api_key="test-key")
        openai.AsyncOpenAI(base_url=server.openai_url, api_key="test-key")

This file starts and stops the server's process; settings.py lists the settings, script.py says how to script the
answers.
"""

import json
import multiprocessing
import os
from http.client import HTTPConnection
from multiprocessing.process import BaseProcess
from typing import Any, Self
from urllib.parse import urlsplit

STARTER = multiprocessing.get_context("forkserver")
"""Starts each server as a fork of one process that has imported it: a hundred tests have servers of their own."""
STARTER.set_forkserver_preload(["tests.fakes.server"])
PAGE_TIMEOUT = 300
"""Seconds to wait for the server's own pages; a burst of requests may be before us."""


class FakeApis:
    """A server process that lives as long as the `with` block."""

    process: BaseProcess
    url: str
    """Base URL for Anthropic's SDK."""

    def __init__(self, **settings: Any) -> None:
        self._settings = settings

    @property
    def openai_url(self) -> str:
        """Base URL for OpenAI's SDK."""
        return self.url + "/v1"

    def __enter__(self) -> Self:
        from tests.fakes import server

        here, there = STARTER.Pipe(duplex=False)
        settings = json.dumps(self._settings, default=str)
        # In the caller's folder, so that a relative log is where the caller looks for it.
        self.process = STARTER.Process(target=server.serve_at, args=(settings, os.getcwd(), dict(os.environ), there))
        self.process.start()
        there.close()
        try:
            self.url = here.recv_bytes().decode()
        except EOFError:
            self.__exit__()
            raise RuntimeError(f"the fake server did not start with {self._settings}; see its traceback") from None
        finally:
            here.close()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.join()
        self.process.close()

    def configure(self, **settings: Any) -> None:
        """Change settings of the running server. Raises ValueError for those it does not take."""
        status, answer = self._ask("POST", "/_settings", json.dumps(settings, default=str))
        if status != 200:
            raise ValueError(answer["error"])

    def calls(self) -> list[dict[str, Any]]:
        """The calls that have ended, in the order in which they did; calls.py says what a call holds."""
        answer: list[dict[str, Any]] = self._ask("GET", "/_calls")[1]
        return answer

    def bodies(self) -> dict[str, Any]:
        """The distinct bodies that were sent, by the hash that the calls have as `body`."""
        answer: dict[str, Any] = self._ask("GET", "/_bodies")[1]
        return answer

    def _ask(self, method: str, path: str, body: str | None = None) -> tuple[int, Any]:
        connection = HTTPConnection(urlsplit(self.url).netloc, timeout=PAGE_TIMEOUT)
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()
