"""A small finished run folder, and a server of it in a thread."""

import contextlib
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from autointerp.serving.server import App, LoopbackServer
from autointerp.store import RunFolder
from tests.autointerp.reporting.site import made


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A finished run of six features of each of two dictionaries, of the rules-5 explainer."""
    run, folder = made.run(6, explainers=("rules-5",)), RunFolder(tmp_path / "run")
    folder.begin(run.about | {"config": run.about["config"] | {"explainers": ["rules-5"]}})
    folder.write_features(run.features)
    folder.append(result for own in run.results.values() for result in own)
    folder.write_json("leaderboard.json", list(run.rows))
    folder.seal(status="complete")
    return folder


@dataclass(frozen=True)
class Said:
    """What the server says."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


def say(url: str, data: bytes | None = None, **headers: str) -> Said:
    """Send a request without following redirects."""

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: Any) -> None:
            return None

    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, data, named)
    try:
        with urllib.request.build_opener(Stay).open(request, timeout=120) as reply:
            return Said(reply.status, dict(reply.headers), reply.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return Said(error.code, dict(error.headers), error.read().decode())


@pytest.fixture
def serve() -> Iterator[Callable[[App], str]]:
    """Serve an app until the test ends; returns its address."""
    with contextlib.ExitStack() as stack:

        def start(app: App) -> str:
            server = stack.enter_context(LoopbackServer(app))
            thread = threading.Thread(target=server.serve)
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.close)
            return server.url

        yield start
