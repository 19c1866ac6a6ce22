"""OpenAI's files: uploaded as forms, kept in memory, given out again."""

import re
import time
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.faults import Failure
from tests.fakes.http import Reply, Request, json_reply


@dataclass(frozen=True)
class File:
    id: str
    content: bytes
    filename: str
    purpose: str
    created: float = field(default_factory=time.time)

    def shown(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "file",
            "bytes": len(self.content),
            "created_at": int(self.created),
            "filename": self.filename,
            "purpose": self.purpose,
            "status": "processed",
        }


class Files:
    def __init__(self) -> None:
        self._files: dict[str, File] = {}
        self._kept = 0
        """How many there ever were, which numbers them."""

    def respond(self, route: tuple[str, ...], request: Request) -> Reply:
        """The reply to a request below /v1/files. Raises Failure for one that is wrong."""
        match route:
            case ("POST",):
                return json_reply(self._upload(request).shown())
            case ("GET", name):
                return json_reply(self.get(name).shown())
            case ("DELETE", name):
                del self._files[self.get(name).id]
                return json_reply({"id": name, "object": "file", "deleted": True})
            case ("GET", name, "content"):
                return Reply(200, self.get(name).content, {"content-type": "application/octet-stream"})
        raise Failure(404, f"Invalid URL ({request.method} {request.path})")

    def get(self, name: str) -> File:
        if name not in self._files:
            raise Failure(404, f"No such File object: {name}", param="id")
        return self._files[name]

    def once(self, filename: str, content: bytes) -> File:
        """The server's own file of that name, made the first time it is asked for."""
        known = next((file for file in self._files.values() if file.filename == filename), None)
        return known or self._keep(content, filename, "batch_output")

    def _upload(self, request: Request) -> File:
        parts = form_parts(request)
        if parts.get("purpose", Part(b"")).content != b"batch":
            raise Failure(400, "this fake takes files with purpose=batch only", param="purpose")
        if "file" not in parts:
            raise Failure(400, "'file' is a required property", param="file")
        return self._keep(parts["file"].content, parts["file"].filename, "batch")

    def _keep(self, content: bytes, filename: str, purpose: str) -> File:
        file = File(f"file-{self._kept:024x}", content, filename, purpose)
        self._kept += 1
        self._files[file.id] = file
        return file


@dataclass(frozen=True)
class Part:
    content: bytes
    filename: str = ""


def form_parts(request: Request) -> dict[str, Part]:
    """The parts of a multipart/form-data body by name."""
    boundary = request.headers.get("content-type", "").partition("boundary=")[2].strip('"')
    if not boundary:
        raise Failure(400, "the body is not multipart/form-data")
    result = {}
    for piece in request.body.split(b"--" + boundary.encode())[1:-1]:
        head, _, content = piece.partition(b"\r\n\r\n")
        names = dict(re.findall(r'\b(name|filename)="([^"]*)"', head.decode()))
        result[names["name"]] = Part(content.removesuffix(b"\r\n"), names.get("filename", ""))
    return result
