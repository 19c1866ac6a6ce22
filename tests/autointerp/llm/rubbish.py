"""A loopback server that answers with any bytes, and random bytes, JSON and mutated answers to give it."""

import asyncio
import copy
import json
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

DEPTH = 10_000


@asynccontextmanager
async def answering(reply: Callable[[str], bytes]) -> AsyncIterator[str]:
    """Serve on loopback: each request, read whole, gets the bytes that `reply` makes of its path, and a closed
    connection. Gives the server's address.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            if lengths:
                await reader.readexactly(int(lengths[0].partition(b":")[2]))
            writer.write(reply(head.split(b" ")[1].decode("latin-1")))
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client hung up
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        yield f"http://{host}:{port}"


def http(body: bytes, status: int = 200, *headers: bytes) -> bytes:
    """An HTTP response."""
    head = [b"HTTP/1.1 %d Status" % status, b"content-length: %d" % len(body), b"content-type: application/json"]
    head.append(b"connection: close")
    return b"\r\n".join([*head, *headers]) + b"\r\n\r\n" + body


def random_json(rng: random.Random, depth: int = 3) -> str:
    """A JSON text of any form, with the numbers, letters and depths that readers stumble over."""
    if depth and rng.random() < 0.5:
        inner = [random_json(rng, depth - 1) for _ in range(rng.randrange(4))]
        if rng.random() < 0.5:
            return "[" + ",".join(inner) + "]"
        return "{" + ",".join(f"{json.dumps(rng.choice(NAMES))}:{value}" for value in inner) + "}"
    return rng.choice(SCALARS)


NAMES = (
    "choices", "message", "content", "text", "type", "usage", "prompt_tokens", "logprobs", "token", "top_logprobs",
    "text_offset", "finish_reason", "stop_reason", "error", "message", "custom_id", "result", "response", "\ud800", "",
)  # fmt: skip
SCALARS = (
    "null", "true", "0", "-7", "1e400", "-1e400", "NaN", "5000", "0.5", "9" * 5000, '"12"', '"\\ud800"', '"text"', '""',
    '"stop"', '"\\u2028"', "[]", "{}", "[" * DEPTH + "]" * DEPTH, '{"a":' * DEPTH + "1" + "}" * DEPTH,
)  # fmt: skip


def mutated(rng: random.Random, answer: Any) -> bytes:
    """A real answer with one to three of its values replaced, deleted, or moved."""
    changed, marks = copy.deepcopy(answer), {}
    for number in range(rng.randint(1, 3)):
        container, key = rng.choice(list(places(changed)) or [({}, "x")])
        action = rng.random()
        if action < 0.2:
            container.pop(key)
        elif action < 0.3:
            container[key] = [container[key]]
        else:
            marks[f"mark{number}"] = random_json(rng)
            container[key] = f"mark{number}"
    text = json.dumps(changed)
    for mark, value in marks.items():
        text = text.replace(f'"{mark}"', value)
    return text.encode("utf-8", "surrogatepass")


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every place in a JSON value: its container and its key."""
    if not isinstance(value, dict | list):
        return []
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    return [place for key in keys for place in ((value, key), *places(value[key]))]


def bent(rng: random.Random, response: bytes) -> bytes:
    """A response whose HTTP is wrong: another status line, a long or broken header, bytes cut, flipped or added."""
    head, _, body = response.partition(b"\r\n\r\n")
    return rng.choice(
        (
            rng.randbytes(rng.randrange(1, 200)),
            b"HTTP/1.1 2OO OK\r\n\r\n" + body,
            b"HTTP/9.9\r\n\r\n" + body,
            b"\r\n" + response,
            head + b"\r\nx-long: " + b"a" * 70_000 + b"\r\n\r\n" + body,
            b"HTTP/1.1 200 " + b"a" * 9000 + b"\r\n\r\n" + body,
            head + b"\r\n" + rng.randbytes(20) + b"\r\n\r\n" + body,
            head + b"\r\ncontent-encoding: gzip\r\n\r\n" + body,
            head + b"\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n" + body,
            head.replace(b"application/json", b"text/html; charset=\xff\xfe") + b"\r\n\r\n" + body,
            head.replace(b"content-length: ", b"content-length: -") + b"\r\n\r\n" + body,
            response[: rng.randrange(len(response))],
            b"",
        )
    )
