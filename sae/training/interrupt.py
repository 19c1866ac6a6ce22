"""Turns Ctrl-C and SIGTERM into a request to stop, so that the current step can be finished."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass
class Stop:
    """Says whether a stop was requested."""

    asked: bool = False


@contextmanager
def interrupted() -> Iterator[Stop]:
    """Note only the first Ctrl-C or SIGTERM inside the block; a second one acts as it did before."""
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
