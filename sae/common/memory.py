"""Tells how much memory this computer has, so that what cannot be held is refused before it is tried."""

import os

from sae.common.errors import UserError


def memory_bytes() -> int:
    """Return the bytes of physical memory."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def refuse_beyond_memory(needed: float, what: str, remedy: str) -> None:
    """Raise UserError if so many bytes cannot be held.

    Args:
        what: what would be held: "1,000,000 records".
        remedy: what to do instead.
    """
    if needed > memory_bytes():
        gigabytes = f"{needed / 1e9:,.0f}" if needed < 1e15 else f"{needed / 1e9:.1e}"
        raise UserError(
            f"{what} would take about {gigabytes} GB of memory, and this computer has {memory_bytes() / 1e9:,.0f} GB; "
            f"{remedy}"
        )
