"""A Hugging Face hub on loopback, as far as downloads of models need one, and its CDN on another port.

Answers as the hub does: the commit and the files of a revision; small files by way of a relative redirect, large ones
by one to the CDN, with ETags and X-Repo-Commit; X-Error-Code where there is nothing; parts of a file where a Range asks
for them. Settings make it refuse, limit or cut connections.
"""

import hashlib
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

LARGE = 1000
"""Bytes from which a file is on the CDN."""


@dataclass
class Repo:
    files: dict[str, bytes]
    commit: str = "a" * 40
    token: str | None = None
    """Who lacks it sees no such repository."""
    gated: bool = False
    """Its files are refused, though they are listed."""


@dataclass
class Hub:
    """Holds the repositories, what goes wrong, and the requests that came."""

    repos: dict[str, Repo] = field(default_factory=dict)
    busy: bool = False
    """Answer 429 to everything."""
    cut: int | None = None
    """Break the connection of the next file from the CDN after so many bytes."""
    log: list[str] = field(default_factory=list)
    """METHOD PATH [RANGE] of each request."""
    tokens_at_cdn: list[str] = field(default_factory=list)
    url: str = ""
    cdn_url: str = ""

    def __enter__(self) -> "Hub":
        self._servers = [_serve(self, _OfHub), _serve(self, _OfCdn)]
        self.url, self.cdn_url = (f"http://127.0.0.1:{server.server_port}" for server in self._servers)
        return self

    def __exit__(self, *error: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()


def _serve(hub: Hub, handler: type["_Handler"]) -> ThreadingHTTPServer:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (handler,), {"hub": hub}))
    server.daemon_threads = True
    threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01), daemon=True).start()
    return server


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        part = self.headers.get("Range")
        self.hub.log.append(f"{self.command} {self.path}{f' {part}' if part else ''}")
        self.answer(unquote(self.path.partition("?")[0]))

    do_HEAD = do_GET

    def answer(self, path: str) -> None:
        raise NotImplementedError

    def reply(self, status: int, headers: Mapping[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status: int, code: str, message: str, **headers: str) -> None:
        named = {"X-Error-Code": code} if code else {}
        body = json.dumps({"error": message}).encode()
        self.reply(status, {**named, "X-Error-Message": message, **headers}, body)


class _OfHub(_Handler):
    def answer(self, path: str) -> None:
        if self.hub.busy:
            self.refuse(429, "", "Too Many Requests", **{"Retry-After": "77"})
            return
        words = path.strip("/").split("/")
        if words[:2] == ["api", "models"]:
            self._about("/".join(words[2:4]), "/".join(words[5:]) or "main")
        elif words[0] == "cache":
            self._small(*words[1:4], "/".join(words[4:]))
        else:
            self._resolve("/".join(words[:2]), words[3], "/".join(words[4:]))

    def _repo(self, name: str, revision: str) -> Repo | None:
        """The repository; None if the refusal has been sent."""
        repo = self.hub.repos.get(name)
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if repo is None or repo.token not in (None, given):
            self.refuse(404 if given else 401, "RepoNotFound" if given else "", "Repository not found")
            return None
        if revision not in ("main", repo.commit):
            self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return None
        return repo

    def _about(self, name: str, revision: str) -> None:
        if repo := self._repo(name, revision):
            siblings = [{"rfilename": file} for file in repo.files]
            about = {"_id": "0", "id": name, "sha": repo.commit, "private": False, "siblings": siblings, "tags": []}
            self.reply(200, {"Content-Type": "application/json"}, json.dumps(about).encode())

    def _resolve(self, name: str, revision: str, file: str) -> None:
        repo = self._repo(name, revision)
        if repo is None:
            return
        if repo.gated:
            self.refuse(401, "GatedRepo", f"Access to model {name} is restricted")
        elif file not in repo.files:
            self.refuse(404, "EntryNotFound", "Entry not found", **{"X-Repo-Commit": repo.commit})
        elif len(repo.files[file]) < LARGE:
            self.reply(307, {"X-Repo-Commit": repo.commit, "Location": f"/cache/{name}/{repo.commit}/{file}"})
        else:
            linked = {"X-Linked-Size": str(len(repo.files[file])), "X-Linked-Etag": f'"{etag(repo.files[file])}"'}
            location = f"{self.hub.cdn_url}/{name}/{file}"
            self.reply(302, {"X-Repo-Commit": repo.commit, "Location": location, **linked})

    def _small(self, owner: str, name: str, commit: str, file: str) -> None:
        body = self.hub.repos[f"{owner}/{name}"].files[file]
        self.reply(200, {"X-Repo-Commit": commit, "ETag": f'"{etag(body)}"'}, body)


class _OfCdn(_Handler):
    def answer(self, path: str) -> None:
        self.hub.tokens_at_cdn += self.headers.get_all("Authorization") or []
        owner, name, file = path.strip("/").split("/", 2)
        body = self.hub.repos[f"{owner}/{name}"].files[file]
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        headers = {"ETag": f'"{etag(body)}"', "Content-Length": str(len(body) - start), "Accept-Ranges": "bytes"}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        until = None if self.hub.cut is None else start + self.hub.cut
        self.close_connection = until is not None
        self.hub.cut = None
        self.reply(206 if start else 200, headers, body[start:until])


def etag(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
