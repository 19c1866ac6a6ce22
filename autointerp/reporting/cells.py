"""Writes what stands in the cells and headers of tables: means with intervals, names in words; and tables as CSV."""

from collections.abc import Sequence
from typing import Any

from sae.common.errors import visible
from sae.common.tables import no_formula, number

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


def to_csv(rows: Sequence[Row]) -> str:
    """Render rows as CSV under their column names; what does not exist is empty.

    A text that a spreadsheet would take for a formula begins with an apostrophe.
    """
    import pandas

    cells = [{name: _no_formula(value) for name, value in row.items()} for row in rows]
    return pandas.DataFrame(cells, dtype=object).to_csv(index=False)


def _no_formula(value: Any) -> Any:
    """Return a cell's value; a text on one line of printable characters, and as `'=...` if it begins like a formula."""
    return visible(no_formula(value)) if isinstance(value, str) else value
