"""Keeps paid answers on disk, shared by all runs and processes.

A request's canonical form is the JSON object {"format", "judge", "fingerprint", "messages", "max_tokens",
"temperature", "top_logprobs", "schema", "slots", "sample"}, with "extra" and "likelihood_from" as well if the request
has them (for embeddings: {"format", "judge", "fingerprint", "texts"}), with sorted keys, no spare spaces, UTF-8; its
sha256 in hex is the key. Whatever is not in it (concurrency, prompt caching, batch or live, prices) does not change an
answer. Only whole answers that ended by themselves are kept: no refusal, nothing cut off, no error. An answer that
cannot be read is kept as well: it is paid for, and would be given again. "judge" holds the model's spec, whatever the
model does, and "slots" the offsets in the prompt at which log-probabilities are read: names that stay, because a key
with another name would not find what is paid for.

Reading and writing entries by hand is faster than by a pydantic TypeAdapter (0.05 against 0.8 ms to a dict, 0.4 against
0.7 ms from one, for 64 tokens with 15 log-probabilities each), and keeps lone surrogates and infinities.
"""

import hashlib
import json
import logging
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diskcache

from autointerp.llm.types import Answer, Completion, EmbeddingRequest, Question, TokenLogprobs, Usage, Vectors
from sae.common.errors import UserError

FORMAT = 1
"""Changes whenever the canonical form or the stored value does."""
KEEP_EVERYTHING = {"eviction_policy": "none", "cull_limit": 0, "size_limit": 2**62}
"""By default diskcache drops entries beyond 1 GB."""
log = logging.getLogger(__name__)


class _PlainDisk(diskcache.JSONDisk):  # type: ignore[misc]  # diskcache has no types
    """Stores JSON only; refuses what its base class would unpickle (CVE-2025-69872)."""

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> Any:
        if mode == diskcache.core.MODE_PICKLE:
            raise ValueError("a pickle")
        return super().fetch(mode, filename, value, read)

    def get(self, key: Any, raw: bool) -> Any:
        """Return a row's key; None if it is none of ours."""
        try:
            return super().get(key, raw) if raw else None
        except (zlib.error, ValueError, TypeError):
            return None


def canonical(question: Question, fingerprint: str) -> dict[str, Any]:
    """Return the parts of a question that are in its key."""
    form: dict[str, Any] = {"format": FORMAT, "judge": question.model, "fingerprint": fingerprint}
    if isinstance(question, EmbeddingRequest):
        form["texts"] = question.texts
    else:
        form["messages"] = [{"role": message.role, "content": message.content} for message in question.messages]
        for name in ("max_tokens", "temperature", "top_logprobs", "schema", "slots", "sample"):
            form[name] = getattr(question, name)
        if question.extra:
            form["extra"] = question.extra
        if question.likelihood_from is not None:
            form["likelihood_from"] = question.likelihood_from
    return form


def key_of(form: dict[str, Any]) -> str:
    """Return the hex sha256 of a canonical form."""
    text = json.dumps(form, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def is_clean(answer: Answer) -> bool:
    """Return whether an answer is whole and may be kept."""
    return isinstance(answer, Vectors) or (isinstance(answer, Completion) and answer.stop == "stop")


class AnswerCache:
    """Stores answers in the cache folder's `answers`. Nothing is ever evicted: every entry was paid for."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "answers"
        try:
            self._disk = diskcache.Cache(self.path, disk=_PlainDisk, disk_compress_level=6, **KEEP_EVERYTHING)
        except (sqlite3.Error, OSError) as error:
            raise UserError(f"cannot open the cache {self.path}: {error}; move it away and run again") from error

    def get(self, key: str) -> Completion | Vectors | None:
        """Look an answer up. A damaged entry is a miss, and a warning says so."""
        try:
            with self._intact():
                entry = self._disk.get(key)
            return None if entry is None else _answer(entry["answer"])
        except (zlib.error, ValueError, KeyError, TypeError) as error:
            log.warning(
                "autointerp: the cache's entry %s is damaged (%s); the call is made again",
                key[:12],
                type(error).__name__,
            )
        return None

    def put(self, key: str, form: dict[str, Any], answer: Answer) -> None:
        """Keep a clean answer with the request it answers. Raises UserError if the disk is full."""
        assert is_clean(answer), "only clean answers are kept"
        try:
            self._disk.set(key, {"request": form, "answer": _stored(answer)})
        except (sqlite3.Error, OSError, diskcache.Timeout) as error:
            raise UserError(
                f"cannot write the cache {self.path}: {error}; the same command continues from here"
            ) from error

    def info(self) -> dict[str, Any]:
        """Return the folder, the number of entries, and their bytes on disk."""
        with self._intact():
            return {"folder": str(self.path), "entries": len(self._disk), "bytes": self._disk.volume()}

    def export(self) -> Iterator[dict[str, Any]]:
        """Yield every readable entry: its key, request and answer."""
        with self._intact():
            for key in filter(None, self._disk.iterkeys()):
                if (answer := self.get(key)) is not None:
                    yield {"key": key, "request": self._disk.get(key).get("request"), "answer": _stored(answer)}

    def clear(self) -> int:
        """Delete all entries and return their number."""
        with self._intact():
            return int(self._disk.clear())

    def close(self) -> None:
        self._disk.close()

    @contextmanager
    def _intact(self) -> Iterator[None]:
        """Raise UserError where SQLite cannot read what it keeps."""
        try:
            yield
        except (sqlite3.DatabaseError, diskcache.Timeout) as error:
            raise UserError(f"the cache {self.path} is damaged ({error}); move it away and run again") from error


def _stored(answer: Answer) -> dict[str, Any]:
    """Turn an answer into JSON values, as dataclasses.asdict does, without its deep copies."""
    values = vars(answer) | {"usage": vars(answer.usage)}
    if isinstance(answer, Completion):
        values["logprobs"] = [vars(item) for item in answer.logprobs]
    return values


def _answer(stored: dict[str, Any]) -> Completion | Vectors:
    usage = Usage(**stored["usage"])
    if "vectors" in stored:
        return Vectors(tuple(tuple(map(float, vector)) for vector in stored["vectors"]), usage)
    logprobs = tuple(TokenLogprobs(str(item["token"]), dict(item["top"])) for item in stored["logprobs"])
    slots = tuple(dict(slot) for slot in stored["slots"])
    return Completion(str(stored["text"]), stored["stop"], usage, logprobs, slots, stored.get("is_counted", True))
