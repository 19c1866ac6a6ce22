"""Keeps an invocation's spending below a limit."""

import asyncio

from sae.common.errors import UserError


class BudgetReached(UserError):
    """Stops a run before a call whose cost could exceed --max-cost."""

    status = 1


class Budget:
    """Counts this invocation's money. A call reserves the most it can cost, and is charged what it did cost.

    Several runs can share one, one after the other.
    """

    def __init__(self, limit: float | None) -> None:
        self.limit = limit
        self.spent = 0.0
        self._reserved = 0.0
        self._settled = asyncio.Event()
        self._closed = False

    @property
    def left(self) -> float:
        """What is neither spent nor reserved."""
        return float("inf") if self.limit is None else self.limit - self.spent - self._reserved

    async def reserve(self, bound: float | None) -> float:
        """Wait until `bound` fits beside the calls under way. Raises BudgetReached if it cannot fit any more."""
        amount = bound or 0.0
        while amount > self.left:
            if not self._reserved or self._closed:
                self._closed = True  # a cheaper call might still fit: what is stopped is the run
                raise self.reached()
            await self._settled.wait()
        self._reserved += amount
        return amount

    def settle(self, reserved: float, cost: float | None) -> None:
        """Replace a reservation by what the call did cost, or can have cost at most if nobody counted."""
        left = self._reserved - reserved
        self._reserved = left if left > 1e-12 else 0.0  # no residue of rounding: `reserve` tests for nothing reserved
        self.spent += cost or 0.0
        self._settled.set()
        self._settled = asyncio.Event()  # a new one each time: an event belongs to the loop that waited for it

    def reached(self) -> BudgetReached:
        return BudgetReached(
            f"stopped before a call that could pass --max-cost {self.limit:g}: ${self.spent:.4f} spent; everything is "
            "kept, the same command continues with a new budget"
        )
