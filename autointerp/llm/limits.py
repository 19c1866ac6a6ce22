"""How many calls may be under way at one endpoint: grows while it is clean, backs off when it says so.

Slow start, then additive growth and multiplicative backing off (TCP's congestion control), on rate limits only: an
error of another kind says nothing about load. Knows nothing of requests.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

FIRST_LIMIT = 16.0


class AdaptiveLimit:
    """A semaphore whose size adapts between 1 and `most`."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.limit = min(FIRST_LIMIT, float(most))
        self.under_way = 0
        self._threshold = float(most)
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._paused_until = 0.0
        self._backed_off_at = 0.0

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[float]:
        """Hold one of the places; gives the time it was taken, which `throttled` wants to know."""
        await self._take()
        try:
            yield time.monotonic()
        finally:
            self.under_way -= 1
            self._wake()

    async def _take(self) -> None:
        try:
            while (pause := self._paused_until - time.monotonic()) > 0 or self.under_way >= int(self.limit):
                await (asyncio.sleep(pause) if pause > 0 else self._turn())
        except asyncio.CancelledError:
            self._wake()  # whoever is cancelled after its turn came passes it on
            raise
        self.under_way += 1

    async def _turn(self) -> None:
        """Wait until a place may be free."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        await turn

    def _wake(self) -> None:
        free = int(self.limit) - self.under_way
        while free > 0 and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                free -= 1

    def succeeded(self) -> None:
        """A clean answer: one more place (doubling every round) up to where it last went wrong, then one a round."""
        grown = self.limit + (1.0 if self.limit < self._threshold else 1.0 / self.limit)
        self.limit = min(float(self.most), grown)
        self._wake()

    def throttled(self, began: float, retry_after: float | None) -> None:
        """Told to slow down by a call begun at `began`: half the places, once for all calls of that round.

        With retry_after, no call starts before that many seconds have passed.
        """
        if retry_after:
            self._paused_until = max(self._paused_until, time.monotonic() + retry_after)
        if began > self._backed_off_at:  # on a coarse clock, its round's other calls began at this very time
            self._backed_off_at = time.monotonic()
            self.limit = self._threshold = max(1.0, self.limit / 2)
