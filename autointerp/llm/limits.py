"""How many calls may be under way at one endpoint: grows while it is clean, backs off when it says so.

Slow start, then additive growth and multiplicative backing off (TCP's congestion control), on rate limits only: an
error of another kind says nothing about load. Knows nothing of requests.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

FIRST_LIMIT = 16.0


class Permits:
    """A semaphore whose number of places changes; nobody enters before `closed_until`."""

    def __init__(self, places: Callable[[], int]) -> None:
        self.taken = 0
        self.closed_until = 0.0
        self._places = places
        self._waiting: deque[asyncio.Future[None]] = deque()

    @asynccontextmanager
    async def place(self) -> AsyncIterator[float]:
        """Hold a place; gives the time it was taken."""
        await self._take()
        try:
            yield time.monotonic()
        finally:
            self.taken -= 1
            self.wake()

    async def _take(self) -> None:
        try:
            while (pause := self.closed_until - time.monotonic()) > 0 or self.taken >= self._places():
                await (asyncio.sleep(pause) if pause > 0 else self._turn())
        except asyncio.CancelledError:
            self.wake()  # whoever is cancelled after its turn came passes it on
            raise
        self.taken += 1

    async def _turn(self) -> None:
        """Wait until a place may be free."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        await turn

    def wake(self) -> None:
        """Let in as many as there are places."""
        free = self._places() - self.taken
        while free > 0 and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                free -= 1


class AdaptiveLimit:
    """How many calls may be under way, between 1 and `most`.

    slot: held by a call while it is on the wire. desk: held by a call that is being prepared, on the wire or read; a
    quarter more than slots, so that the next request is ready when a slot is free, and no more, so that calls wait
    where their time does not count.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.limit = min(FIRST_LIMIT, float(most))
        self._threshold = float(most)
        self._backed_off_at = 0.0
        self._slots = Permits(lambda: int(self.limit))
        self._desks = Permits(lambda: int(self.limit) + math.ceil(int(self.limit) / 4))
        self.slot, self.desk = self._slots.place, self._desks.place

    @property
    def under_way(self) -> int:
        """Calls on the wire."""
        return self._slots.taken

    def succeeded(self) -> None:
        """A clean answer: one more place (doubling every round) up to where it last went wrong, then one a round."""
        grown = self.limit + (1.0 if self.limit < self._threshold else 1.0 / self.limit)
        self.limit = min(float(self.most), grown)
        self._desks.wake()
        self._slots.wake()

    def throttled(self, began: float, retry_after: float | None) -> None:
        """Told to slow down by a call begun at `began`: half the places, once for all calls of that round.

        With retry_after, no call starts before that many seconds have passed.
        """
        if retry_after:
            for permits in (self._desks, self._slots):
                permits.closed_until = max(permits.closed_until, time.monotonic() + retry_after)
        if began > self._backed_off_at:  # on a coarse clock, its round's other calls began at this very time
            self._backed_off_at = time.monotonic()
            self.limit = self._threshold = max(1.0, self.limit / 2)


class Limits:
    """One limit per endpoint, shared by all its judges."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._limits: dict[str, AdaptiveLimit] = {}

    def of(self, endpoint: str) -> AdaptiveLimit:
        return self._limits.setdefault(endpoint, AdaptiveLimit(self._most))
