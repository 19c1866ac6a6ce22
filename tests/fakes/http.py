"""A small HTTP/1.1 server for loopback: keeps connections alive, or breaks them where a reply says so.

Bodies carry a Content-Length; one request at a time on a connection.
A client that hangs up cancels its handler, so that nobody works for a closed connection.
"""

import asyncio
import json
import traceback
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http.client import responses
from typing import Any, Literal, Protocol
from urllib.parse import parse_qsl, unquote, urlsplit


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    """Decoded, without the query."""
    query: dict[str, str]
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def route(self) -> tuple[str, ...]:
        """The method and the path's parts, to be matched against."""
        return (self.method, *self.path.strip("/").split("/"))


@dataclass(frozen=True)
class Reply:
    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: Literal["nowhere", "half", "before"] = "nowhere"
    """Where the connection breaks: halfway through the promised body, or before the first byte."""

    def encoded(self) -> bytes:
        lines = [
            f"HTTP/1.1 {self.status} {responses.get(self.status, 'Unnamed')}",
            f"content-length: {len(self.body)}",
            *(f"{name}: {value}" for name, value in self.headers.items()),
        ]
        body = self.body[: len(self.body) // 2] if self.cut == "half" else self.body
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def json_reply(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """A reply whose body is `value` as JSON."""
    return Reply(status, json.dumps(value).encode(), {"content-type": "application/json", **(headers or {})})


def jsonl_reply(lines: list[Any]) -> Reply:
    """A reply of one JSON text a line."""
    return Reply(200, jsonl(lines), {"content-type": "application/x-jsonl"})


def jsonl(lines: list[Any]) -> bytes:
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


class Sender(Protocol):
    """A handler's view of the connection its request came by."""

    async def send(self, reply: Reply) -> bool:
        """Write a reply; True if all of it went to a connection that was open."""


Handler = Callable[[Request, Sender], Awaitable[None]]


async def listen(handler: Handler) -> asyncio.Server:
    """Serve on a free port of 127.0.0.1."""
    loop = asyncio.get_running_loop()
    return await loop.create_server(lambda: _Connection(handler), "127.0.0.1", 0, backlog=1024)


class _Connection(asyncio.Protocol):
    """One connection: gathers bytes until they are a request, then runs the handler on it."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._received = bytearray()
        self._running: asyncio.Task[None] | None = None
        self._drained = asyncio.Event()
        self._drained.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        # With a limit of 0, "drained" means that the kernel has every byte.
        transport.set_write_buffer_limits(high=0)

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._advance()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._running:
            self._running.cancel()

    def pause_writing(self) -> None:
        self._drained.clear()

    def resume_writing(self) -> None:
        self._drained.set()

    async def send(self, reply: Reply) -> bool:
        """Write a reply; True if all of it went to a connection that was open."""
        if self._transport.is_closing():
            return False
        if reply.cut != "before":
            self._transport.write(reply.encoded())
        if not self._drained.is_set():
            await self._drained.wait()
        if reply.cut != "nowhere":
            self._transport.close()
        return reply.cut == "nowhere"

    def _advance(self) -> None:
        if self._running is None and (request := _take_request(self._received)):
            self._running = asyncio.ensure_future(self._handler(request, self))
            self._running.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Future[None]) -> None:
        self._running = None
        if task.cancelled() or self._transport.is_closing():
            return
        if error := task.exception():
            # A bug in the fake or its script: the test that runs into it should see where.
            traceback.print_exception(error)
            self._transport.close()
        else:
            self._advance()


def _take_request(received: bytearray) -> Request | None:
    """Remove one request from the bytes received; None if it is not all there yet."""
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return None
    first, *lines = received[:end].decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    if "transfer-encoding" in headers:
        raise NotImplementedError("this server reads no chunked bodies")
    stop = end + 4 + int(headers.get("content-length", "0"))
    if len(received) < stop:
        return None
    body = bytes(received[end + 4 : stop])
    del received[:stop]
    method, target, _ = first.split(" ")
    url = urlsplit(target)
    return Request(method, unquote(url.path), dict(parse_qsl(url.query)), headers, body)
