"""Makes the tables of comparisons of dictionaries: all pairs, or what a run in rounds has resolved."""

from collections.abc import Sequence

from autointerp.reporting.cells import Row, interval, words
from autointerp.statistics.comparisons import LEVEL, MARGIN
from sae.common.tables import Table, number


def comparisons_table(comparisons: Sequence[Row]) -> Table:
    """Make the table of all pairs of dictionaries, the higher mean first."""
    lines = [
        [
            f"{row['dictionary']} - {row['against']}",
            interval(row["difference"], row["low"], row["high"]),
            f"{row['p_holm']:.2g}",
            _verdict(row),
            number(row["effect"]),
            "more text" if row["features_needed"] is None else f"{row['features_needed']:,}",
        ]
        for row in comparisons
    ]
    what = comparisons[0]["scorer"]
    title = (
        f"Difference of means ({what}) with the pair's own 95% interval; p with Holm's correction over all pairs; "
        f"whether the two differ, are proven to differ by less than {MARGIN} (equal), or neither (open); the effect in "
        f"standard deviations of a feature's score; the features of each that a difference of {MARGIN} needs."
    )
    return Table(["comparison", "difference", "p", "verdict", "effect", "features needed"], lines, title)


def _verdict(row: Row) -> str:
    different, equal = row["p_holm"] < LEVEL, row["p_equivalence"] < LEVEL
    if different:
        return f"differ by less than {MARGIN}" if equal else "differ"
    return "equal" if equal else "open"


VERDICTS = {"differ": "differ", "equal": "equal", "open": "not resolved"}


def in_rounds(comparisons: Sequence[Row]) -> bool:
    """Tell whether comparisons are those of a run in rounds (--until-resolved)."""
    return any("verdict" in row for row in comparisons)


def resolution_table(rows: Sequence[Row]) -> Table:
    """Make the table of what was resolved, in which round and after how many features."""
    lines = [
        [
            row["dictionary"] + (f" - {row['against']}" if row["against"] else ", its lead"),
            interval(row["difference"], row["low"], row["high"]),
            VERDICTS[row["verdict"]] + ("" if row.get("chance") is None else f" ({row['chance']:.0%})"),
            "-" if row["round"] is None else str(row["round"]),
            f"{row['features']:,}",
        ]
        for row in rows
    ]
    first = rows[0]
    title = (
        f"Until resolved, by {words(first['scorer'])} in at most {first['rounds']} rounds: difference of means, or "
        "lead over the best control; all intervals of this table hold together, in every round, with probability 95%; "
        f"whether they differ, are proven to differ by less than {first['equal_within']:g} (equal), or neither (in "
        "brackets the chance that all features would have decided it); the round that decided it; the features of the "
        "first that had a score by then. The 95% intervals of other tables hold each for itself, in whichever round "
        f"scoring stopped.{_saved(first)}"
    )
    return Table(["comparison", "difference", "verdict", "round", "features"], lines, title)


def _saved(row: Row) -> str:
    """Say how many features were scored, and by what the differences are corrected; nothing of an earlier version's."""
    if "n_scored" not in row:
        return ""
    saved = f" {row['n_scored']:,} of {row['n_most']:,} features were scored ({row['n_scored'] / row['n_most']:.0%})."
    if row["n_free"] is None:
        return saved
    return saved + (
        f" Differences and leads are corrected by rules' scores of {row['n_free']:,} features, which cost nothing; "
        "means in other tables are not."
    )
