"""Writes what stands in the cells and headers of tables: means with intervals, names in words."""

from typing import Any

from sae.common.tables import number

Row = dict[str, Any]
"""A row of the leaderboard, or of its comparisons."""


def words(name: str) -> str:
    """Write the name of a column or a score in words."""
    return name.removeprefix("simulation/").replace("_", " ")


def with_interval(row: Row) -> str:
    """Format a row's mean as `0.71 [0.66, 0.76]`, or what of it exists."""
    return interval(row["mean"], row["ci_low"], row["ci_high"])


def interval(mean: float | None, low: float | None, high: float | None) -> str:
    """Format a number with its interval, or the number alone."""
    if mean is None or low is None or high is None:
        return number(mean)
    return f"{mean:.2f} [{low:.2f}, {high:.2f}]"
