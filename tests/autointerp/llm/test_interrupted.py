"""Ctrl-C while calls are in flight, at a terminal and in a notebook: their answers are paid for, and are kept."""

import asyncio
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from autointerp.llm import client as clients
from autointerp.llm import resolver as resolvers
from autointerp.llm.ask import ask_once
from autointerp.llm.resolver import LiveResolver
from autointerp.llm.types import Completion
from autointerp.sections import Runtime
from tests.autointerp.llm.test_client import GPT, requests
from tests.fakes import FakeApis

CALLS = 3


@pytest.fixture
def default_interrupts() -> Iterator[None]:
    """Whoever runs the tests in the background may have told them to ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def resolve(folder: Path) -> dict[int, Completion]:
    answers: dict[int, Completion] = {}
    with LiveResolver([GPT], Runtime(), folder) as resolver:
        tasks = [ask_once(request, lambda answer: answer) for request in requests(GPT, CALLS)]
        resolver.resolve(tasks, answers.__setitem__, lambda: None)
    return answers


def resolve_in_a_notebook(folder: Path) -> None:
    async def cell() -> None:
        resolve(folder)

    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(cell())
    finally:
        loop.close()


@pytest.mark.usefixtures("default_interrupts")
@pytest.mark.parametrize("interrupted", [resolve, resolve_in_a_notebook])
def test_answers_in_flight_at_ctrl_c_are_kept(
    interrupted: Any, fake: FakeApis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.configure(latency=0.1)
    call, begun = clients._call, list[Any]()

    async def pressing(*given: Any) -> Any:
        begun.append(given)
        if len(begun) == CALLS:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        return await call(*given)

    monkeypatch.setattr(clients, "_call", pressing)
    monkeypatch.setattr(resolvers, "INTERRUPTED_SECONDS", 60.0)  # on a busy machine
    with pytest.raises(KeyboardInterrupt):
        interrupted(tmp_path)
    assert len(resolve(tmp_path)) == CALLS
    assert len(fake.calls()) == len(begun) == CALLS, "a call was made again, or another was begun"


@pytest.mark.usefixtures("default_interrupts")
def test_ctrl_c_waits_for_no_answer_that_does_not_come(
    fake: FakeApis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = list[Any]()

    async def hanging(*given: Any) -> None:
        begun.append(given)
        if len(begun) == CALLS:
            signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(1000)

    monkeypatch.setattr(resolvers, "INTERRUPTED_SECONDS", 0.1)
    monkeypatch.setattr(clients, "_call", hanging)
    with pytest.raises(KeyboardInterrupt):
        resolve(tmp_path)
