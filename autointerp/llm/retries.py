"""Sets how often, for how long, and after which waits one call is tried again."""

import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import tenacity

from autointerp.llm.faults import CallError

T = TypeVar("T")
LONGEST_WAIT = 60.0
"""Seconds between tries, unless the provider asks for more."""


@dataclass(frozen=True)
class RetryPolicy:
    """Sets how often and for how long one call is tried.

    Waiting for a permit of the endpoint does not count: a long queue is no reason to give up.
    """

    tries: int = 8
    """The most attempts."""
    call_seconds: float = 600.0
    """The most seconds for all attempts and the waits between them."""
    attempt_seconds: float = 120.0
    """The most seconds for one attempt."""
    first_wait: float = 1.0
    """Mean seconds before the second attempt; the wait doubles from there."""


class Deadline:
    """Tells when one call is given up."""

    def __init__(self, seconds: float) -> None:
        self._at = time.monotonic() + seconds

    @property
    def left(self) -> float:
        return self._at - time.monotonic()

    def extend(self, seconds: float) -> None:
        self._at += seconds


def is_worth_another_try(error: BaseException) -> bool:
    """Return whether the same call may succeed soon."""
    return isinstance(error, CallError) and error.kind in ("transient", "rate_limit")


def wait_before(state: tenacity.RetryCallState, first_wait: float) -> float:
    """Return the seconds to wait: exponential with full jitter, and at least what the provider asks for."""
    mean = min(LONGEST_WAIT, first_wait * 2 ** (state.attempt_number - 1))
    error = state.outcome.exception() if state.outcome else None
    least = error.retry_after if isinstance(error, CallError) else None
    # The jitter decides when a call is made, never what it says: results do not depend on it.
    return (least or 0.0) + random.uniform(0, 2 * mean)


def awaiting(attempt: Callable[[], Awaitable[T]]) -> Callable[[], Awaitable[T]]:
    """Make a coroutine function: tenacity does not await what a plain function, such as a lambda, returns."""

    async def awaited() -> T:
        return await attempt()

    return awaited
