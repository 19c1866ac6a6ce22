"""Progress of long work: one live line on a terminal, a plain line now and then elsewhere. Imports nothing heavy."""

import shutil
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

PLAIN_INTERVAL = 10.0
LIVE_INTERVAL = 0.2


class Progress:
    """Count, rate and a note of one piece of work; on leaving, a closing line with the time it took."""

    def __init__(self, title: str, stream: TextIO | None = None) -> None:
        self._title = title
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._started = self._shown = time.monotonic()
        self._done = 0
        self._note = ""

    def __enter__(self) -> "Progress":
        return self

    def update(self, done: int, total: int, note: str | None = None) -> None:
        """Say how far the work is; `note` stays until the next one."""
        self._done = done
        self._note = self._note if note is None else note
        now = time.monotonic()
        if now - self._shown >= (LIVE_INTERVAL if self._live else PLAIN_INTERVAL):
            self._shown = now
            rate = done / (now - self._started)
            speed = f", {rate:,.0f}/s, {(total - done) / rate:.0f} s left" if rate else ""
            self._write(f"{self._title}: {done:,}/{total:,}{speed}", self._note, self._live)

    def say(self, line: str) -> None:
        """A line of its own that stays; the live line goes on below."""
        self._write(line, "")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        seconds = time.monotonic() - self._started
        ending = "stopped after" if error else "done in"
        self._write(f"{self._title}: {ending} {seconds:.1f} s", self._note)

    def _write(self, text: str, note: str, passing: bool = False) -> None:
        """A line; a passing one is overwritten by the next, for which it is cut to the terminal's width."""
        line = f"{text}, {note}" if note else text
        if passing:
            line = line[: shutil.get_terminal_size().columns - 1]
        self._stream.write(("\r\033[K" if self._live else "") + line + ("" if passing else "\n"))
        self._stream.flush()


class Silent(Progress):
    """The same, showing nothing: for tests and for Python callers that ask for quiet."""

    def update(self, done: int, total: int, note: str | None = None) -> None:
        pass

    def _write(self, text: str, note: str, passing: bool = False) -> None:
        pass


Report = Callable[[str], Progress]
