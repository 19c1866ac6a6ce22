"""Serves an app on loopback. Every address begins with a random token, which other users of the machine do not know.

Requests with another Host, or from the page of another origin, are refused: DNS rebinding and other sites' scripts
reach nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import Message
from hmac import compare_digest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from sae.common.errors import UserError

LONGEST_BODY = 200_000
"""Bytes of a request."""
SEALED = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Headers of every reply."""


@dataclass(frozen=True)
class Reply:
    """Holds what is sent back."""

    content: bytes
    kind: str = "text/plain; charset=utf-8"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class App(Protocol):
    """Answers requests; paths have neither the token nor a slash in front."""

    def get(self, path: str) -> Reply | None:
        """Return what lies at a path; None if nothing does."""
        ...

    def post(self, path: str, body: bytes) -> Reply | None:
        """Do what is asked; None if nothing can be asked there."""
        ...


class LoopbackServer:
    """Serves an app until it is closed; a context manager, which binds a free port of 127.0.0.1."""

    def __init__(self, app: App) -> None:
        self._token = secrets.token_urlsafe(24)
        self._http = _Server(("127.0.0.1", 0), _handler(app, self._token))

    @property
    def url(self) -> str:
        """The address of the first page, token included."""
        return f"http://127.0.0.1:{self._http.server_port}/{self._token}/"

    def serve(self) -> None:
        """Answer requests until `close` is called, or Ctrl-C."""
        self._http.serve_forever(poll_interval=0.1)

    def close(self) -> None:
        """Stop answering; called from another thread than `serve`."""
        self._http.shutdown()

    def __enter__(self) -> LoopbackServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.server_close()


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    """Connections that may wait to be accepted; at five, the standard library's, a browser's others are refused."""


def _handler(app: App, token: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        server_version, sys_version = "autointerp", ""

        def do_GET(self) -> None:
            self._answer(app.get)

        def do_POST(self) -> None:
            try:
                length = int(self.headers.get("Content-Length") or 0)
            except ValueError:
                length = -1
            if not 0 <= length <= LONGEST_BODY:
                self._send(_refusal(413, "too long"))
                return
            body = self.rfile.read(length)
            self._answer(lambda path: app.post(path, body))

        def _answer(self, find: Callable[[str], Reply | None]) -> None:
            reason = _foreign(self.headers, self.connection.getsockname()[1], self.command == "POST")
            given, _, path = urlsplit(self.path).path.lstrip("/").partition("/")
            if reason:
                self._send(_refusal(403, reason))
            elif not compare_digest(given.encode(), token.encode()):
                self._send(_refusal(404, "nothing here; use the address that the terminal shows"))
            else:
                self._send(_reply(find, unquote(path)))

        def _send(self, reply: Reply) -> None:
            self.send_response(reply.status)
            lines = {"Content-Type": reply.kind, "Content-Length": str(len(reply.content))}
            for name, value in (lines | SEALED | dict(reply.headers)).items():
                self.send_header(name, value)
            with suppress(ConnectionError):  # the page was closed before its answer came
                self.end_headers()
                self.wfile.write(reply.content)

        def log_message(self, format: str, *args: Any) -> None:
            """Print nothing: addresses hold the token."""

    return Handler


def _reply(find: Callable[[str], Reply | None], path: str) -> Reply:
    """Return an app's reply. A mistake of the user's, such as a full disk, is told in the browser, not a traceback."""
    try:
        return find(path) or _refusal(404, "nothing here")
    except UserError as error:
        return _refusal(500, str(error))


def _refusal(status: int, reason: str) -> Reply:
    return Reply(f"{reason}\n".encode(), status=status)


def _foreign(headers: Message, port: int, changes: bool) -> str | None:
    """Say why a request is not from our own pages; one that changes something must name its origin."""
    hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}
    if headers.get("Host") not in hosts:
        return "foreign host"
    origin = headers.get("Origin")
    if origin is None:
        return "no origin" if changes else None
    return None if origin in {f"http://{host}" for host in hosts} else "foreign origin"
