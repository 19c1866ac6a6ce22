"""Tasks without LLM calls on all cores: the same results in the same order, and no process left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from autointerp.llm.types import LLMTask
from autointerp.runs.offline import FEWEST_GROUPS, GROUP, Offline
from sae.common.errors import UserError

MANY = GROUP * FEWEST_GROUPS + 1
pytestmark = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core, one process")


def square_and_process(number: int) -> LLMTask[tuple[int, int]]:
    yield from ()
    return number**2, os.getpid()


def fails(error: Exception) -> LLMTask[Any]:
    yield from ()
    raise error


def resolved(tasks: list[LLMTask[Any]]) -> list[tuple[int, Any]]:
    ended: list[tuple[int, Any]] = []
    Offline().resolve(tasks, lambda index, value: ended.append((index, value)), lambda: None)
    return ended


def test_every_core_works_and_results_keep_their_order() -> None:
    ended = resolved([square_and_process(number) for number in range(MANY)])
    assert [(index, value) for index, (value, _) in ended] == [(number, number**2) for number in range(MANY)]
    processes = {process for _, (_, process) in ended}
    assert len(processes) == min(len(os.sched_getaffinity(0)), FEWEST_GROUPS + 1)
    assert os.getpid() not in processes


def test_few_tasks_stay_in_this_process() -> None:
    assert {process for _, (_, process) in resolved([square_and_process(1)])} == {os.getpid()}


def test_a_users_mistake_is_raised_here() -> None:
    with pytest.raises(UserError, match="no such thing"):
        resolved([*map(square_and_process, range(MANY)), fails(UserError("no such thing"))])


def test_a_bug_is_a_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match="its own traceback is above"):
        resolved([*map(square_and_process, range(MANY)), fails(ZeroDivisionError("a bug"))])
    assert "ZeroDivisionError: a bug" in capfd.readouterr().err


def test_what_stops_the_parent_stops_the_others() -> None:
    """As too many errors do, or Ctrl-C: nobody waits for results that nobody wants."""

    def stop(index: int, value: Any) -> None:
        raise KeyboardInterrupt

    before = children(os.getpid())  # of other tests: multiprocessing's helpers ignore Ctrl-C too
    with pytest.raises(KeyboardInterrupt):
        Offline().resolve([square_and_process(number) for number in range(MANY)], stop, lambda: None)
    assert children(os.getpid()) == before


def test_a_killed_run_leaves_nothing_behind(tmp_path: Path) -> None:
    program = (
        "import time\nfrom autointerp.runs.offline import Offline\n"
        "def slow():\n    yield from ()\n    time.sleep(900)\n"
        f"Offline().resolve([slow() for _ in range({MANY})], print, print)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path)
    try:
        working = next(filter(None, poll(lambda: children(parent.pid))))
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    assert any(not any(map(is_running, working)) for _ in poll(lambda: True))


def poll(ask: Any) -> Iterator[Any]:
    end = time.monotonic() + 600
    while time.monotonic() < end:
        yield ask()
        time.sleep(0.02)


def children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in listed.read_text().split() if is_scoring(int(child))]


def is_scoring(pid: int) -> bool:
    """Tell a process that was forked and has set itself up from those of other tests."""
    lines = dict(line.split(":\t", 1) for line in status_of(pid).splitlines() if ":\t" in line)
    return is_running(pid) and bool(int(lines.get("SigIgn", "0"), 16) & 1 << signal.SIGINT - 1)


def is_running(pid: int) -> bool:
    return "zombie" not in (status_of(pid) or "zombie")


def status_of(pid: int) -> str:
    """Return what Linux says of a process, nothing if it has ended."""
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
