"""Progress on a terminal and elsewhere."""

import io
import os

import pytest

from sae import progress
from sae.progress import Progress


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
