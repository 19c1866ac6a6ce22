"""Shows the progress of long work: one live line on a terminal, a plain line now and then elsewhere.

Imports nothing heavy.
"""

import logging
import shutil
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

from sae.common.errors import visible

log = logging.getLogger(__name__)
PLAIN_INTERVAL = 10.0
"""Seconds between two lines where there is no terminal."""
LIVE_INTERVAL = 0.2
"""Seconds between two states of a terminal's live line."""
TICK = 1.0
"""Seconds after which a line is brought up to date although nobody called `update`."""
STILL_AFTER = 10.0
"""Seconds without a finished piece after which the line says how long it has waited, instead of a rate."""


class Progress:
    """Shows how much of one piece of work is done, at what rate, and a note; at the end, how long it took.

    Work of which nothing is finished for a while shows how long it has been waiting, and the note says for what. Use it
    as a context manager: inside, a thread keeps the line up to date while the work says nothing.
    """

    def __init__(self, title: str, stream: TextIO | None = None) -> None:
        self._title = title
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._started = self._shown = self._changed = time.monotonic()
        self._done = self._total = 0
        self._note = ""
        self._lock = threading.RLock()
        self._ended = threading.Event()
        self._ticker = threading.Thread(target=self._tick, name=f"progress of {title}", daemon=True)

    def __enter__(self) -> "Progress":
        self._ticker.start()
        return self

    def update(self, done: int, total: int, note: str | None = None) -> None:
        """Say how many pieces of the work are done; `note` stays until the next one, "" removes it."""
        with self._lock:
            if done != self._done:
                self._changed = time.monotonic()
            self._done, self._total = done, total
            self._note = self._note if note is None else note
            self._show()

    def say(self, line: str) -> None:
        """Print a line of its own that stays; the live line continues below."""
        log.info("%s", line)
        with self._lock:
            self._write(line, "")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._ticker.join()
        ending = "stopped after" if error else "done in"
        line = f"{self._title}: {ending} {time.monotonic() - self._started:.1f} s"
        log.info("%s%s", line, f", {self._note}" if self._note else "")
        self._write(line, self._note)

    def _tick(self) -> None:
        while not self._ended.wait(TICK):
            with self._lock:
                self._show()

    def _show(self) -> None:
        """Write the line, unless that was done a moment ago."""
        now = time.monotonic()
        if now - self._shown >= (LIVE_INTERVAL if self._live else PLAIN_INTERVAL):
            self._shown = now
            self._write(f"{self._title}: {', '.join(self._figures(now))}", self._note, self._live)

    def _figures(self, now: float) -> list[str]:
        """Return how much is done, and the rate, or how long nothing was finished."""
        count = [f"{self._done:,}/{self._total:,}"] if self._total else []
        waited = now - self._changed
        if not self._done or waited >= STILL_AFTER:
            return [*count, f"waiting for {duration(waited)}"]
        rate = self._done / max(now - self._started, 1e-9)
        speed = f"{rate:,.0f}/s" if rate >= 1 else f"{duration(1 / rate)} each"
        return [*count, speed, f"{duration((self._total - self._done) / rate)} left"]

    def _write(self, text: str, note: str, passing: bool = False) -> None:
        """Write a line; a passing one is overwritten by the next, for which it is cut to the terminal's width."""
        line = visible(f"{text}, {note}" if note else text)
        if passing:
            line = line[: shutil.get_terminal_size().columns - 1]
        self._stream.write(("\r\033[K" if self._live else "") + line + ("" if passing else "\n"))
        self._stream.flush()


class Quiet(Progress):
    """Shows nothing on the terminal; what stays of a stage is logged as always."""

    def _write(self, text: str, note: str, passing: bool = False) -> None:
        pass


class Silent(Progress):
    """Stands in for Progress, shows nothing and logs nothing: for tests and for Python callers that ask for quiet."""

    def __enter__(self) -> "Silent":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def update(self, done: int, total: int, note: str | None = None) -> None:
        pass

    def say(self, line: str) -> None:
        pass


def duration(seconds: float) -> str:
    """Return a time as `35 s`, `12 min` or `3 h 20 min`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02} min"


Report = Callable[[str], Progress]
"""Makes the progress display of one piece of work from its title."""
