"""What the progress line says of a run that only waits: for a batch, the end of a rate limit, or the next retry."""

import random
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from autointerp.llm.ask import ask_once
from autointerp.llm.limits import Limits
from autointerp.llm.resolver import LiveResolver
from autointerp.llm.types import Completion, Message, Request
from autointerp.llm.waits import BatchState, Waits, duration
from autointerp.sections import Runtime
from tests.fakes import FakeApis

MODEL = "openai/gpt-4o-mini"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeApis]:
    with FakeApis(max_faults_per_request=1, retry_after=0.9) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.openai_url)
        monkeypatch.setenv("OPENAI_API_KEY", "test-key")
        yield server


def notes(runtime: Runtime, folder: Path, seen: Callable[[str], None] = lambda note: None) -> list[str]:
    """The notes during a run of three calls, without its counts; `seen` gets each as it is given."""
    reported: list[str] = []
    answers: dict[int, Completion] = {}
    requests = [Request(MODEL, (Message("user", f"question {number}"),), 60) for number in range(3)]
    with LiveResolver([MODEL], runtime, folder) as resolver:
        tasks = [ask_once(request, lambda answer: answer) for request in requests]

        def tick() -> None:
            reported.append(resolver.note().rpartition("tokens")[2].removeprefix(", "))
            seen(reported[-1])

        resolver.resolve(tasks, answers.__setitem__, tick)
    assert len(answers) == 3
    return reported


def test_a_rate_limit_says_for_how_long_no_call_may_start(fake: FakeApis, tmp_path: Path) -> None:
    fake.configure(faults={"429-after": 1})
    result = notes(Runtime(first_wait=0.0), tmp_path)
    assert [note for note in result if re.fullmatch(r"rate limit: no call may start for [01] s more", note)]
    assert result[-1] == "", "nothing is waited for at the end"


def test_retries_say_when_the_next_one_is_due(fake: FakeApis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    fake.configure(faults={"500": 1})
    result = notes(Runtime(first_wait=0.5), tmp_path)
    reported = r"waiting [01] s before the next retry \(3 calls failed and are tried again\)"
    assert [note for note in result if re.fullmatch(reported, note)]
    assert result[-1] == ""


def test_a_batch_says_how_far_and_how_old_it_is(fake: FakeApis, tmp_path: Path) -> None:
    fake.configure(batch_seconds=600)
    runtime = Runtime(batch=True, poll_seconds=0.1)
    result = notes(runtime, tmp_path, lambda note: fake.configure(batch_seconds=0) if note else None)
    reported = r"waiting for batch \S+: 0 of 3 done, submitted \d+ s ago"
    assert [note for note in result if re.fullmatch(reported, note)]
    assert result[-1] == ""


def test_nothing_is_said_while_a_call_is_in_flight(fake: FakeApis, tmp_path: Path) -> None:
    fake.configure(latency=0.6)
    assert set(notes(Runtime(), tmp_path)) == {""}


def test_several_batches_are_all_named() -> None:
    waits = Waits({name: BatchState(1, 2000, time.time() - 7300) for name in ("a", "b")})
    each = "waiting for batch {}: 1 of 2,000 done, submitted 2.0 h ago"
    assert waits.note(Limits(1)) == f"{each.format('a')}; {each.format('b')}"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (99, "99 s"), (100, "2 min"), (3600, "60 min"), (9e3, "2.5 h")]
)
def test_durations_are_written_in_a_readers_unit(seconds: float, text: str) -> None:
    assert duration(seconds) == text
