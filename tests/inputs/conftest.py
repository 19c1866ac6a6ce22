"""Ends a test that hangs, which is one of the bad answers."""

import signal
from collections.abc import Iterator

import pytest

MOST_SECONDS = 30


@pytest.fixture(autouse=True)
def no_hanging(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that takes longer than the machine's slowest honest answer."""

    def hangs(number: int, frame: object) -> None:
        raise TimeoutError(f"no answer after {MOST_SECONDS} s")

    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(MOST_SECONDS * (10 if request.node.get_closest_marker("slow") else 1))
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
