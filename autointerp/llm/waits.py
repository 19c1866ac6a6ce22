"""Says what a run is waiting for while none of its calls is in flight, and for how long, for the progress line."""

import time
from dataclasses import dataclass, field

from autointerp.llm.limits import Limits


@dataclass(frozen=True)
class BatchState:
    """Tells how far a provider's batch is."""

    done: int
    total: int
    submitted: float
    """Seconds since the epoch."""

    def describe(self, batch: str) -> str:
        """Return the state of a batch with this id in a few words."""
        age = duration(time.time() - self.submitted)
        return f"waiting for batch {batch}: {self.done:,} of {self.total:,} done, submitted {age} ago"


@dataclass
class Waits:
    """Lists the provider batches and the retries that a run waits for."""

    batches: dict[str, BatchState] = field(default_factory=dict)
    """State of each batch, by its id."""
    retries: dict[object, float] = field(default_factory=dict)
    """When each call is tried again, on the monotonic clock."""

    def note(self, limits: Limits) -> str:
        """Say what is waited for: batches, else the end of a rate limit, else retries; "" while calls are under way."""
        if self.batches:
            return "; ".join(state.describe(batch) for batch, state in self.batches.items())
        if limits.has_calls:
            return ""
        if limits.seconds_closed:
            return f"rate limit: no call may start for {duration(limits.seconds_closed)} more"
        if self.retries:
            seconds = duration(max(0.0, min(self.retries.values()) - time.monotonic()))
            return f"waiting {seconds} before the next retry ({len(self.retries):,} calls failed and are tried again)"
        return ""


def duration(seconds: float) -> str:
    """Write a duration in the unit a reader would use: 45 s, 12 min, 3.5 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
