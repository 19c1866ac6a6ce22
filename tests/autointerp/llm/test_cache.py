"""The answer cache: keys that hold what changes an answer, damage that is a miss, and nothing paid for that is lost."""

import dataclasses
import hashlib
import json
import os
import pickle
import random
import resource
import sqlite3
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import diskcache
import pytest

from autointerp.llm.cache import AnswerCache, canonical, key_of
from autointerp.llm.types import Completion, EmbeddingRequest, Message, Request, TokenLogprobs, Usage, Vectors
from sae.common.errors import UserError

MESSAGES = (Message("system", "Sei kürz\n"), Message("user", '"日本" \\ \x00'))
REQUEST = Request("openai/m", MESSAGES, 7, 0.5, 3, '{"type": "object"}', (1, 4), 2)
CHANGES: dict[str, Any] = {
    "model": "openai/n", "messages": (*MESSAGES, Message("user", "")), "max_tokens": 8, "temperature": None,
    "top_logprobs": 2, "schema": None, "slots": (1, 5), "sample": 3,
    "extra": '{"reasoning_effort":"low"}', "likelihood_from": 0,
}  # fmt: skip
"""Fields that change an answer, each with another value than REQUEST's."""
FREE: dict[str, Any] = {"static": 1, "stage": "explain", "example": Completion("so")}
"""Fields that do not."""
USAGE = Usage(1, 30, 4, 10, 5, 1, 0.25)
LOGPROBS = (TokenLogprobs(" a", {" a": -0.1, "b\u2028": -2.5}), TokenLogprobs("🎉", {"🎉": float("-inf")}))
ANSWERS: tuple[Completion | Vectors, ...] = (
    Completion('Jö "日本" \ud800 \x00\n\u2028', "stop", USAGE, LOGPROBS, ({"0": -0.5, "10": -1.25}, {})),
    Completion(""),
    Vectors(((0.1, -1e-30), (2.0, 3.0)), USAGE),
)


def key(request: Request, fingerprint: str = "f") -> str:
    return key_of(canonical(request, fingerprint))


@contextmanager
def opened(folder: Path) -> Iterator[AnswerCache]:
    with closing(AnswerCache(folder)) as cache:
        yield cache


@contextmanager
def database(folder: Path) -> Iterator[sqlite3.Connection]:
    """The cache's own tables, past the cache."""
    with closing(sqlite3.connect(folder / "answers" / "cache.db")) as connection, connection:
        yield connection


def large() -> Completion:
    """An answer that does not fit into a row, however well it is compressed."""
    return Completion(random.Random(0).randbytes(60_000).hex())


def test_the_key_is_the_hash_of_the_documented_form() -> None:
    by_hand = (
        '{"fingerprint":"f","format":1,"judge":"openai/m","max_tokens":7,"messages":'
        '[{"content":"Sei kürz\\n","role":"system"},{"content":"\\"日本\\" \\\\ \\u0000","role":"user"}],'
        '"sample":2,"schema":"{\\"type\\": \\"object\\"}","slots":[1,4],"temperature":0.5,"top_logprobs":3}'
    )
    assert key(REQUEST) == hashlib.sha256(by_hand.encode()).hexdigest()
    texts = '{"fingerprint":"","format":1,"judge":"embedding/e","texts":["ä","b"]}'
    embedding = EmbeddingRequest("embedding/e", ("ä", "b"), stage="any")
    assert key_of(canonical(embedding, "")) == hashlib.sha256(texts.encode()).hexdigest()


def test_every_field_is_in_the_key_or_known_not_to_change_answers() -> None:
    assert {field.name for field in dataclasses.fields(Request)} == CHANGES.keys() | FREE.keys()
    changed = [key(dataclasses.replace(REQUEST, **{name: value})) for name, value in CHANGES.items()]
    assert len({key(REQUEST), key(REQUEST, "g"), *changed}) == len(CHANGES) + 2
    for name, value in FREE.items():
        assert key(dataclasses.replace(REQUEST, **{name: value})) == key(REQUEST), name


def test_boundaries_between_messages_count() -> None:
    ways = [(Message("user", "ab"), Message("user", "")), (Message("user", "a"), Message("user", "b"))]
    assert len({key(dataclasses.replace(REQUEST, messages=way)) for way in ways}) == 2


def test_answers_come_back_as_they_were(tmp_path: Path) -> None:
    with opened(tmp_path) as cache:
        for answer in [*ANSWERS, large()]:
            cache.put(key(REQUEST), canonical(REQUEST, "f"), answer)
            with opened(tmp_path) as other:
                assert other.get(key(REQUEST)) == answer
        assert cache.get(key(REQUEST, "g")) is None


@pytest.mark.parametrize("answer", [ANSWERS[0], large()], ids=["in its row", "in a file"])
def test_damage_is_a_miss_and_is_told(answer: Completion, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rng = random.Random(1)
    with opened(tmp_path) as cache:
        cache.put("k", {}, answer)
        files = list((tmp_path / "answers").rglob("*.val"))
        assert len(files) == (answer == large())
        with database(tmp_path) as rows:
            (whole,) = rows.execute("SELECT value FROM Cache").fetchone()
        whole = files[0].read_bytes() if files else whole
        flipped = [whole[:at] + bytes([whole[at] ^ 1 << rng.randrange(8)]) + whole[at + 1 :] for at in range(60)]
        for damaged in (*flipped, whole[: len(whole) // 2], b"", b"{}"):
            caplog.clear()
            if files:
                files[0].write_bytes(damaged)
            else:
                with database(tmp_path) as rows:
                    rows.execute("UPDATE Cache SET value = ?", (damaged,))
            assert cache.get("k") is None
            assert "damaged" in caplog.text
            assert list(cache.export()) == []
        cache.put("k", {}, answer)
        assert cache.get("k") == answer


@pytest.mark.parametrize(
    "value", [None, [], {"answer": {}}, {"answer": {"text": "a", "usage": {"calls": 1, "new": 2}}}]
)
def test_an_entry_of_another_shape_is_a_miss(value: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with opened(tmp_path) as cache:
        cache.put("k", {}, ANSWERS[1])
        with diskcache.Cache(tmp_path / "answers", disk=diskcache.JSONDisk) as plain:
            assert plain.set("k", value)
        assert cache.get("k") is None
        assert ("damaged" in caplog.text) == (value is not None)


class Bomb:
    """What its unpickling does is seen: it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._folder),)


@pytest.mark.parametrize("column", ["value", "key"])
def test_no_pickle_is_ever_loaded(column: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    mark = tmp_path / "executed"
    with opened(tmp_path) as cache:
        cache.put("a", {}, ANSWERS[1])
        cache.put("b", {}, ANSWERS[1])
        kind = f"mode = {diskcache.core.MODE_PICKLE}" if column == "value" else "raw = 0"
        with database(tmp_path) as rows:
            rows.execute(f"UPDATE Cache SET {kind}, {column} = ? WHERE rowid = 1", (pickle.dumps(Bomb(mark)),))
        assert cache.get("a") is None
        assert ("damaged" in caplog.text) == (column == "value")
        assert [entry["key"] for entry in cache.export()] == ["b"]
        assert cache.get("b") == ANSWERS[1]
        assert not mark.exists()
    with diskcache.Cache(tmp_path / "answers", disk=diskcache.JSONDisk) as plain, suppress(zlib.error, TypeError):
        plain.get("a")
        list(plain.iterkeys())
    assert mark.exists(), "the pickle would not have done anything anyway"


def test_nothing_is_evicted_however_full_the_cache_is(tmp_path: Path) -> None:
    with opened(tmp_path) as cache:
        settings = cache._disk
        assert (settings.eviction_policy, settings.cull_limit) == ("none", 0)
        assert settings.size_limit > 2**50
        settings.reset("size_limit", 1)
        for number in range(40):
            cache.put(str(number), {}, Completion(large().text + str(number)))
        assert cache.info()["bytes"] > 40 * 60_000
        assert all(cache.get(str(number)) for number in range(40))
    with opened(tmp_path) as cache:
        assert cache._disk.size_limit > 2**50


def test_export_lists_all_and_clear_forgets(tmp_path: Path) -> None:
    with opened(tmp_path) as cache:
        for number, answer in enumerate(ANSWERS):
            cache.put(str(number), {"sample": number}, answer)
        lines = [json.loads(json.dumps(entry)) for entry in cache.export()]
        assert {line["key"]: line["request"]["sample"] for line in lines} == {"0": 0, "1": 1, "2": 2}
        assert {line["answer"].get("text") for line in lines} == {'Jö "日本" \ud800 \x00\n\u2028', "", None}
        assert cache.info()["entries"] == cache.clear() == 3
        assert (cache.get("0"), list(cache.export()), cache.info()["entries"]) == (None, [], 0)


def test_a_database_that_is_damaged_within_is_told_in_a_line(tmp_path: Path) -> None:
    """It opens, as its first pages are whole."""
    with opened(tmp_path) as cache:
        for number in range(100):
            cache.put(str(number), {"sample": number}, Completion(random.Random(number).randbytes(300).hex()))
    path = tmp_path / "answers" / "cache.db"
    pages = path.read_bytes()
    path.write_bytes(pages[: 6 * 4096] + b"\xde\xad" * 2048 * 2 + pages[8 * 4096 :])
    with opened(tmp_path) as cache:
        for use in (lambda: list(cache.export()), cache.clear):
            with pytest.raises(UserError, match=r"is damaged .*; move it away and run again"):
                use()


WRITER = """
import sys
from pathlib import Path
from autointerp.llm.types import Completion
from autointerp.llm.cache import AnswerCache
cache, name = AnswerCache(Path(sys.argv[1])), sys.argv[2]
print("ready", flush=True)
input()
for number in range(200):
    shared = number % 4 == 0
    cache.put(f"{number}" if shared else f"{name}{number}", {}, Completion("same" if shared else name))
"""


def test_two_processes_at_once_lose_nothing(tmp_path: Path) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, tmp_path, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name in "ab"
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    assert [(writer.communicate()[0], writer.returncode) for writer in writers] == [("", 0)] * 2
    expected = {f"{name}{number}": name for name in "ab" for number in range(200) if number % 4}
    expected |= {f"{number}": "same" for number in range(0, 200, 4)}
    with opened(tmp_path) as cache:
        assert {entry["key"]: entry["answer"]["text"] for entry in cache.export()} == expected


@contextmanager
def disk_full_at(size: int) -> Iterator[None]:
    """No file of this process grows beyond this many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [20, 100_000], ids=["rows", "files"])
def test_a_full_disk_is_told_in_a_line_and_loses_nothing(size: int, tmp_path: Path) -> None:
    rng, kept = random.Random(0), dict[str, Completion]()

    def fill(cache: AnswerCache) -> None:
        for number in range(5000):
            answer = Completion(rng.randbytes(size if number else 10).hex())
            cache.put(str(number), {}, answer)
            kept[str(number)] = answer

    with opened(tmp_path) as cache:
        with disk_full_at(90_000), pytest.raises(UserError, match=r"cannot write the cache .*continues") as caught:
            fill(cache)
        assert "\n" not in str(caught.value)
    with opened(tmp_path) as cache:
        assert kept
        assert {number: cache.get(number) for number in kept} == kept
        assert cache.get(str(len(kept))) is None


def test_a_folder_that_cannot_be_used_is_told_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "broken" / "answers").mkdir(parents=True)
    (tmp_path / "broken" / "answers" / "cache.db").write_bytes(b"no database" * 100)
    for folder in (tmp_path / "file", tmp_path / "broken", Path("/proc/nowhere")):
        with pytest.raises(UserError, match="cannot open the cache") as caught:
            AnswerCache(folder)
        assert str(folder) in str(caught.value)
        assert "\n" not in str(caught.value)
