"""Limits concurrent calls to an endpoint: the limit grows while calls succeed, and halves on a rate limit.

Slow start, then additive growth and multiplicative backing off (TCP's congestion control), on rate limits only: an
error of another kind says nothing about load.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

FIRST_LIMIT = 16.0


class Permits:
    """Gives out permits like a semaphore, but their number changes; gives none before `closed_until`.

    `anyio.CapacityLimiter` does not fit: it hands a permit over when another is given back, before its new holder runs,
    so that a limit that is lowered in between is exceeded. Here a task that wakes up looks at the limit again.
    """

    def __init__(self, total: Callable[[], int]) -> None:
        self.taken = 0
        """How many permits are held."""
        self.closed_until = 0.0
        """Time on the monotonic clock, in seconds."""
        self._total = total
        self._waiting: deque[asyncio.Future[None]] = deque()

    @asynccontextmanager
    async def permit(self) -> AsyncIterator[float]:
        """Wait for a permit and hold it; gives the time at which it was given out."""
        await self._acquire()
        try:
            yield time.monotonic()
        finally:
            self.taken -= 1
            self.wake()

    async def _acquire(self) -> None:
        try:
            while (pause := self.closed_until - time.monotonic()) > 0 or self.taken >= self._total():
                await (asyncio.sleep(pause) if pause > 0 else self._turn())
        except asyncio.CancelledError:
            self.wake()  # a waiter that is cancelled after its turn came passes it on
            raise
        self.taken += 1

    async def _turn(self) -> None:
        """Wait until a permit may be free."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        await turn

    def wake(self) -> None:
        """Wake as many waiters as there are free permits."""
        free = self._total() - self.taken
        while free > 0 and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                free -= 1


class AdaptiveLimit:
    """Sets how many calls may be in flight, between 1 and `most`.

    `in_flight` gives a permit that is held only while the request is in flight. `call` gives one that is held while a
    call is prepared, in flight, or read: there are a quarter more of these, so that the next request is ready when a
    permit becomes free, and no more, so that calls wait where their time does not count.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.limit = min(FIRST_LIMIT, float(most))
        self._threshold = float(most)
        self._backed_off_at = 0.0
        self._flights = Permits(lambda: int(self.limit))
        self._calls = Permits(lambda: int(self.limit) + math.ceil(int(self.limit) / 4))
        self.in_flight, self.call = self._flights.permit, self._calls.permit

    @property
    def calls_under_way(self) -> int:
        """How many calls are prepared, in flight, or read."""
        return self._calls.taken

    @property
    def seconds_closed(self) -> float:
        """For how many seconds more no call may start; 0 if calls may."""
        return max(0.0, self._flights.closed_until - time.monotonic())

    def succeeded(self) -> None:
        """Record a clean answer: one permit more (doubling every round) up to the last threshold, then one a round."""
        grown = self.limit + (1.0 if self.limit < self._threshold else 1.0 / self.limit)
        self.limit = min(float(self.most), grown)
        self._calls.wake()
        self._flights.wake()

    def throttled(self, began: float, retry_after: float | None) -> None:
        """Record a rate limit: half the permits, once for all calls of that round.

        Args:
            began: when the throttled call got its permit, on the monotonic clock.
            retry_after: seconds before which no call may start, if the endpoint said so.
        """
        if retry_after:
            for permits in (self._calls, self._flights):
                permits.closed_until = max(permits.closed_until, time.monotonic() + retry_after)
        if began > self._backed_off_at:  # on a coarse clock, its round's other calls began at this very time
            self._backed_off_at = time.monotonic()
            self.limit = self._threshold = max(1.0, self.limit / 2)


class Limits:
    """Keeps one concurrency limit per endpoint, shared by all its models."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._limits: dict[str, AdaptiveLimit] = {}

    def of(self, endpoint: str) -> AdaptiveLimit:
        """Return the endpoint's limit; the same one each time."""
        return self._limits.setdefault(endpoint, AdaptiveLimit(self._most))

    @property
    def has_calls(self) -> bool:
        """Whether a call is prepared, in flight or read at any endpoint."""
        return any(limit.calls_under_way for limit in self._limits.values())

    @property
    def seconds_closed(self) -> float:
        """The longest time for which an endpoint starts no call."""
        return max((limit.seconds_closed for limit in self._limits.values()), default=0.0)
