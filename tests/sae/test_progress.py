"""Progress on a terminal and elsewhere."""

import io
import os

import pytest

from sae.common import progress
from sae.common.progress import Progress, Silent


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(progress, "LIVE_INTERVAL", 0)
    monkeypatch.setattr(progress, "PLAIN_INTERVAL", 0)
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((60, 24)))
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
