"""The adaptive limit: never exceeded, grown by rounds, halved once a round, paused, and no waiter is forgotten."""

import asyncio
import random
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from itertools import pairwise
from typing import Any

import pytest

from autointerp.llm import limits
from autointerp.llm.limits import AdaptiveLimit

really_sleep = asyncio.sleep


class Clock:
    """Time that passes only in sleeps, at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(limits, "time", self)
        monkeypatch.setattr(asyncio, "sleep", self.sleep)

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        until = self.now + seconds
        await really_sleep(0)
        self.now = max(self.now, until)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def run(work: Coroutine[Any, Any, None]) -> None:
    async def in_time() -> None:
        async with asyncio.timeout(200):
            await work

    asyncio.run(in_time())


async def a_round(limit: AdaptiveLimit, throttled: int = 0, retry_after: float | None = None) -> int:
    """As many calls at once as the limit lets; the first are throttled, the others succeed."""
    async with AsyncExitStack() as calls:
        began = [await calls.enter_async_context(limit.in_flight()) for _ in range(int(limit.limit))]
        for index, start in enumerate(began):
            if index < throttled:
                limit.throttled(start, retry_after)
            else:
                limit.succeeded()
    return len(began)


@pytest.mark.parametrize("most", [1, 5, 100])
def test_slow_start_doubles_up_to_most(most: int, clock: Clock) -> None:
    async def work() -> None:
        limit = AdaptiveLimit(most)
        assert [await a_round(limit) for _ in range(6)] == [min(most, 16 * 2**n) for n in range(6)]

    run(work())


@pytest.mark.parametrize("throttled", [1, 10, 64])
def test_a_throttled_round_halves_once_and_then_it_grows_by_one_a_round(throttled: int, clock: Clock) -> None:
    async def work() -> None:
        limit = AdaptiveLimit(100)
        assert [await a_round(limit) for _ in range(2)] == [16, 32]
        clock.now += 1
        assert await a_round(limit, throttled) == 64
        assert int(limit.limit) == pytest.approx(32, abs=2)  # and 2 rounds' growth by those that succeeded
        clock.now += 1
        sizes = [await a_round(limit) for _ in range(6)]
        assert {after - before for before, after in pairwise(sizes)} <= {0, 1}
        assert sizes[-1] - sizes[0] >= 4
        clock.now += 1
        assert sizes[-1] <= await a_round(limit, throttled=5) <= sizes[-1] + 1
        assert limit.limit == pytest.approx(sizes[-1] / 2, abs=3)

    run(work())


def test_the_limit_stays_above_none(clock: Clock) -> None:
    async def work() -> None:
        limit = AdaptiveLimit(8)
        for _ in range(20):
            clock.now += 1
            assert await a_round(limit, throttled=1) >= 1
        assert limit.limit >= 1

    run(work())


def test_retry_after_pauses_all(clock: Clock) -> None:
    started: list[float] = []

    async def call(limit: AdaptiveLimit) -> None:
        async with limit.in_flight():
            started.append(clock.now)

    async def work() -> None:
        limit = AdaptiveLimit(4)
        await a_round(limit, throttled=3, retry_after=30)
        await a_round(limit, throttled=1, retry_after=None)
        await asyncio.gather(*(call(limit) for _ in range(10)))

    run(work())
    assert len(started) == 10
    assert min(started) >= 1030
    assert max(started) < 1031


def test_other_errors_leave_the_limit_alone_and_give_the_place_back() -> None:
    async def work() -> None:
        limit = AdaptiveLimit(3)
        for _ in range(50):
            with pytest.raises(ZeroDivisionError):
                async with limit.in_flight():
                    raise ZeroDivisionError
        assert (limit.limit, limit._flights.taken) == (3, 0)
        assert await a_round(limit) == 3

    run(work())


async def call(limit: AdaptiveLimit, rng: random.Random, inside: list[int]) -> None:
    async with limit.in_flight() as began:
        inside.append(1)
        assert len(inside) <= int(limit.limit)
        try:
            for _ in range(rng.randrange(4)):
                await really_sleep(0)
            if rng.random() < 0.3:
                limit.throttled(began, rng.choice([None, 0.5, 3]))
            else:
                limit.succeeded()
        finally:
            inside.pop()


def test_the_limit_is_kept_and_no_wake_up_is_lost(clock: Clock) -> None:
    """Callers come, are throttled, pause and are cancelled at random: whoever is left always gets its turn."""

    async def crowd(seed: int) -> None:
        rng, inside = random.Random(seed), list[int]()
        limit = AdaptiveLimit(rng.randint(1, 6))
        tasks = [asyncio.create_task(call(limit, rng, inside)) for _ in range(rng.randint(2, 40))]
        for _ in range(len(tasks)):
            rng.choice(tasks).cancel()
            for _ in range(rng.randrange(4)):
                await really_sleep(0)
        outcomes = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 100)
        assert {type(outcome) for outcome in outcomes} <= {type(None), asyncio.CancelledError}
        assert (limit._flights.taken, inside) == (0, [])

    for seed in range(300):
        asyncio.run(crowd(seed))
