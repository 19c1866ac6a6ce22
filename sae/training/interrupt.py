"""Ctrl-C as a question instead of an end, so that what is under way can be finished; knows nothing about that."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass
class Stop:
    """Whether somebody asked for an end."""

    asked: bool = False


@contextmanager
def interrupted() -> Iterator[Stop]:
    """The first Ctrl-C or SIGTERM is noted only; a second one acts as it did before."""
    stop = Stop()
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, frame: FrameType | None) -> None:
        stop.asked = True
        restore()

    for number in SIGNALS:
        signal.signal(number, note)
    try:
        yield stop
    finally:
        restore()
