"""Progress on a terminal and elsewhere."""

import io
import os
import time
from types import SimpleNamespace

import pytest

from sae.common import progress
from sae.common.progress import Progress, Silent


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(progress, "LIVE_INTERVAL", 0)
    monkeypatch.setattr(progress, "PLAIN_INTERVAL", 0)
    monkeypatch.setattr("shutil.get_terminal_size", lambda **fallback: os.terminal_size((60, 24)))
    with Progress("scoring", stream) as line:
        line.update(1, 3, "$0.1234, " + "many words " * 10)
        line.update(2, 3)
    return stream.getvalue()


def test_a_terminals_passing_lines_fit_and_are_overwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    *passing, last = shown(Terminal(newline=""), monkeypatch).removeprefix("\r\033[K").split("\r\033[K")
    assert len(passing) == 2
    assert all(len(line) == 59 for line in passing)
    assert passing[0].startswith("scoring: 1/3, ")
    assert "many words many words many words many words many words" in last


def test_elsewhere_lines_are_plain_and_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(io.StringIO(), monkeypatch).splitlines()
    assert len(lines) == 3
    assert all("\033" not in line and line.endswith("many words ") for line in lines)
    assert lines[-1].startswith("scoring: done in ")


def test_what_is_said_stays_above_the_live_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LIVE_INTERVAL", 0)
    stream = Terminal(newline="")
    with Progress("training", stream) as line:
        line.update(1, 3)
        line.say("topk, step 1: no feature is active: lower lr")
        line.update(2, 3)
    shown = stream.getvalue().split("\r\033[K")
    assert [part.endswith("\n") for part in shown[1:]] == [False, True, False, True]
    assert shown[2] == "topk, step 1: no feature is active: lower lr\n"


def test_silent_says_nothing_on_a_terminal() -> None:
    stream = Terminal(newline="")
    with Silent("training", stream) as line:
        line.update(1, 3)
        line.say("topk, step 1: no feature is active: lower lr")
    assert stream.getvalue() == ""


class Clock:
    """Stands still until it is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(progress.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(progress, "TICK", 3600.0)


def test_work_that_waits_says_how_long_and_for_what(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, stream = Clock(monkeypatch), io.StringIO()
    with Progress("scoring", stream) as line:
        for now, done in ((1010, 0), (1025, 0), (1040, 30), (1050, 30), (5040, 30), (5045, 30), (5051, 31), (5061, 41)):
            clock.now = now
            line.update(done, 100, "batch 7" if done < 31 else "")
    assert stream.getvalue().splitlines() == [
        "scoring: 0/100, waiting for 10 s, batch 7",
        "scoring: 0/100, waiting for 25 s, batch 7",
        "scoring: 30/100, 1 s each, 93 s left, batch 7",
        "scoring: 30/100, waiting for 10 s, batch 7",
        "scoring: 30/100, waiting for 67 min, batch 7",
        "scoring: 31/100, 2 min each, 2 h 30 min left",
        "scoring: 41/100, 99 s each, 97 min left",
        "scoring: done in 4061.0 s",
    ]


def test_the_line_is_kept_up_to_date_while_the_work_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each tick writes a line here, before and after the only update; none comes after the end."""
    monkeypatch.setattr(progress, "TICK", 0.001)
    monkeypatch.setattr(progress, "PLAIN_INTERVAL", 0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: 0.0))  # "0 s" on a busy machine too
    stream = io.StringIO()

    def wait_for(words: str) -> None:
        until = time.monotonic() + 300
        while words not in stream.getvalue() and time.monotonic() < until:
            time.sleep(0.001)

    with Progress("reading text", stream) as line:
        wait_for("reading text: waiting for 0 s\n")
        line.update(0, 7, "the model")
        wait_for("reading text: 0/7, waiting for 0 s, the model\nreading text: 0/7, waiting for 0 s, the model\n")
    lines = stream.getvalue().splitlines()
    assert {line.partition("0.")[0] for line in lines} == {
        "reading text: waiting for 0 s", "reading text: 0/7, waiting for 0 s, the model", "reading text: done in ",
    }  # fmt: skip
    time.sleep(0.02)
    assert stream.getvalue().splitlines() == lines


def test_times_are_short() -> None:
    assert [progress.duration(s) for s in (0.4, 119, 120, 3600, 7170, 7200, 12_000)] == [
        "0 s", "119 s", "2 min", "60 min", "2 h 00 min", "2 h 00 min", "3 h 20 min",
    ]  # fmt: skip
