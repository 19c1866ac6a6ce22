"""Makes tables that a person reads from leaderboard rows. Renders none of them."""

from collections.abc import Sequence

from autointerp import peer_faults
from autointerp.reporting import human
from autointerp.reporting.cells import Row, interval, with_interval, words
from autointerp.reporting.comparison_tables import comparisons_table, in_rounds, resolution_table
from autointerp.reporting.human import column_of
from autointerp.scorers import simulation
from sae.common.tables import Table, number

SIMULATION = simulation.NAMES
"""Simulation's scores, the main one first; the others have a table of their own."""
METHOD = ("explainer", "simulator", "judge")
FEW = 40
"""Features below which an interval can be too short on the side of the rare scores: with as many, each end of it misses
in at most 3.5% where one feature's score has a skewness of 2 (tests/benchmarks/README.md)."""
STABLE = 0.7
"""`sae.measuring.stability.THRESHOLD`, which cannot be imported without torch."""
ORIGIN = ("model", "corpus")
"""Columns that only the rows of several runs have."""


def all_tables(rows: Sequence[Row], comparisons: Sequence[Row]) -> list[Table]:
    """Make every table: scores, differences between dictionaries, scores by explainer, and what people said."""
    explainers = list(dict.fromkeys(row["explainer"] for row in rows))
    tables = scores_tables(rows)
    if comparisons:
        tables.append(resolution_table(comparisons) if in_rounds(comparisons) else comparisons_table(comparisons))
    if len(explainers) > 1:
        tables.append(_explainers_table(rows, explainers))
    return [*tables, *human_tables(rows)]


def human_tables(rows: Sequence[Row]) -> list[Table]:
    """Make the table of the human scores, and that of their rank correlation with every other score, if there are any.

    Rows of several runs make the first one only: they hold no correlations.
    """
    rated = [row for row in rows if row["scorer"] in human.CHANCES]
    if not rated:
        return []
    lines = [
        [row["dictionary"], row["scorer"], with_interval(row), number(row["chance"]), str(row["n_ok"])] for row in rated
    ]
    title = (
        "Human scores from 0 to 1, given without knowing the dictionary: mean over the features that were rated, with "
        f"95% interval{over(rated)}."
    )
    scores = Table(["dictionary", "score", "mean", "chance level", "features"], lines, title)
    agreement = _agreement_table(rows)
    return [scores, agreement] if agreement.rows else [scores]


def _agreement_table(rows: Sequence[Row]) -> Table:
    by_score = {(row["scorer"], name): row for row in rows for name in human.CHANCES if row.get(column_of(name, "n"))}
    by_score = {pair: row for pair, row in by_score.items() if pair[::-1] not in by_score or pair[0] < pair[1]}
    lines = []
    for (score, name), row in by_score.items():
        *rank, n = (row[column_of(name, column)] for column in human.COLUMNS)
        lines.append([score, name, interval(*rank), str(n)])
    title = (
        "Spearman's rank correlation of every score with the human ones, over the features of all dictionaries that "
        "have both, with 95% interval; features of one direction count as one there."
    )
    return Table(["score", "with", "rank correlation", "features"], lines, title)


def scores_tables(rows: Sequence[Row]) -> list[Table]:
    """Make the main explainer's tables: the main score with its controls, simulation's other scores, then the rest.

    What people said has tables of its own.
    """
    main = main_rows([row for row in rows if row["scorer"] not in human.CHANCES])
    if not main:
        return []
    first = [row for row in main if row["scorer"] == main[0]["scorer"]]
    others = [row for row in main if row["scorer"] != main[0]["scorer"]]
    published = [row for row in others if row["scorer"] in SIMULATION]
    judged = [row for row in others if row["scorer"] not in SIMULATION]
    tables = [_main_table(first), _counts_table(first)]
    tables += [_published_table(published)] if published else []
    return [*tables, _judged_table(judged)] if judged else tables


def main_rows(rows: Sequence[Row]) -> list[Row]:
    """Take each dictionary's rows of the first explainer that it has."""
    first: dict[str, str] = {}
    for row in rows:
        first.setdefault(row["dictionary"], row["explainer"])
    return [row for row in rows if row["explainer"] == first[row["dictionary"]]]


def _main_table(rows: Sequence[Row]) -> Table:
    """Make the table of the main score: how far is it above what uninformed explanations get?"""
    labels = _labels(rows)
    ranked = any(row.get("group") for row in rows)
    controls = {name: column for name, column in CONTROLS.items() if any(row[column] is not None for row in rows)}
    lines = [
        [
            *(row[label] or "-" for label in labels),
            with_interval(row),
            *(number(row[column]) for column in controls.values()),
            interval(row["lead"], row["lead_low"], row["lead_high"]),
            *([row["group"] or "-"] if ranked else []),
        ]
        for row in rows
    ]
    score = words(rows[0]["scorer"])
    chance = ", ".join(dict.fromkeys("-" if row["chance"] is None else f"{row['chance']:.2g}" for row in rows))
    text = f"mean {score} with 95% interval{over(rows)}; chance level {chance}. {meanings(list(controls))}{_few(rows)}"
    header = [*map(words, labels), score, *controls, "lead", *(["group"] if ranked else [])]
    groups = GROUPS_OF_RUNS if "model" in rows[0] else GROUPS
    return Table(header, lines, _title(rows, text + (groups if ranked else "")))


GROUPS = " group: the data separate two dictionaries if they share no letter."
GROUPS_OF_RUNS = " group: the data separate two dictionaries of one run if they share no letter."


def _few(rows: Sequence[Row]) -> str:
    """Warn of intervals of so few features that the sample may lack what is rare."""
    few = [row["dictionary"] for row in rows if row["n_ok"] + row["n_failed"] < FEW]
    which = "all" if len(few) == len(rows) else ", ".join(dict.fromkeys(few))
    return f" Of fewer than {FEW} features, so that rare high scores may be missed: {which}." if few else ""


def over(rows: Sequence[Row]) -> str:
    """Say what the intervals are over: of rows of an earlier version, and of some scores, over features only."""
    kinds = {row.get("se_documents") is not None for row in rows if row["ci_low"] is not None}
    return {frozenset({True}): " over features and documents", frozenset({False}): " over features only"}.get(
        frozenset(kinds), ""
    )


CONTROLS = {"mismatched": "control_mean", "permuted": "permuted_mean", "exchanged": "exchanged_mean"}
"""The kinds of controls, and the leaderboard's column of their mean."""
MEANINGS_OF_CONTROLS = {
    "mismatched": "mismatched: with the explanation of a feature of like density (the shuffled control)",
    "permuted": "permuted: with one learnt from the feature's fragments with their activations in another order",
    "exchanged": "exchanged: with its own explanation, the words exchanged for others as frequent",
}


def meanings(controls: Sequence[str]) -> str:
    """Say what the columns of controls hold, and what the lead is."""
    listed = [MEANINGS_OF_CONTROLS[name] for name in controls]
    return "; ".join([*listed, "lead: over the best control, feature by feature"]) + "." if listed else ""


def _published_table(rows: Sequence[Row]) -> Table:
    """Make the table of the scores that are published elsewhere, which over-sample each feature's top fragments."""
    labels, names = _labels(rows), values_of(rows, "scorer")
    by_dictionary: dict[tuple[str, ...], dict[str, Row]] = {}
    for row in rows:
        by_dictionary.setdefault(tuple(row[label] or "-" for label in labels), {})[row["scorer"]] = row
    lines = [
        [*key, *(with_interval(scores[name]) if name in scores else "-" for name in names)]
        for key, scores in by_dictionary.items()
    ]
    text = f"as published, over top and random fragments: mean correlation with 95% interval{over(rows)}."
    return Table([*map(words, (*labels, *names))], lines, _title(rows, text))


def _counts_table(rows: Sequence[Row]) -> Table:
    """Make the table of how many features each mean of the main table stands for, and what they are like."""
    stable = max((row.get("n_seeds") or 0 for row in rows), default=0)
    lines = [
        [
            row["dictionary"],
            _counts(row),
            f"{row['n_control'] - row['n_control_failed']}/{row['n_control_failed']}/{row['n_control_undefined']}",
            number(row["density_median"], 4),
            number(row["l0"], 1),
            number(row["fvu"], 3),
            *([number(row["stability"]), number(row["pw_mcc"])] if stable else []),
        ]
        for row in rows
    ]
    header = ["dictionary", COUNTS, "mismatched", "density", "L0", "FVU", *(["stability", "PW-MCC"] if stable else [])]
    title = (
        f"Number of features {COUNTS} ({MEANINGS}); of mismatched explanations ok/failed/undefined; the features' "
        "median density, the dictionary's L0 and FVU."
    ) + (STABILITY if stable else "")
    return Table(header, lines, title)


STABILITY = (
    f" stability: probability that a scored feature reappears in a dictionary of another seed (matched one to one, "
    f"cosines of encoder and decoder directions of at least {STABLE}); PW-MCC: mean absolute cosine of matched decoder "
    "directions."
)
MISMATCHED = MEANINGS_OF_CONTROLS["mismatched"] + "."
COUNTS = "ok/failed/undefined/error"
"""What `_counts` prints."""
MEANINGS = (
    "failed: a constant prediction of a varying truth, counted as 0; undefined: a constant truth has no correlation; "
    "error: no answer, or one that cannot be read"
)


def _judged_table(rows: Sequence[Row]) -> Table:
    labels = _labels(rows)
    header = [*map(words, labels), "scorer", "mean", "chance level", "mismatched", COUNTS]
    lines = [
        [
            *(row[label] or "-" for label in labels),
            row["scorer"],
            with_interval(row),
            number(row["chance"]),
            number(row["control_mean"]),
            _counts(row),
        ]
        for row in rows
    ]
    return Table(header, lines, _title(rows, f"mean with 95% interval; {MISMATCHED}"))


def _labels(rows: Sequence[Row]) -> list[str]:
    """Choose the columns that say which rows these are: what differs among them, and the origin of several runs."""
    differing = [name for name in ("hook_point", *METHOD) if len(values_of(rows, name)) > 1]
    differing += [peer_faults.COLUMN] if len(_faults_of(rows)) > 1 else []
    return ["dictionary", *(name for name in ORIGIN if name in rows[0]), *differing]


def _title(rows: Sequence[Row], text: str) -> str:
    method = method_of(rows)
    title = f"{method}: {text}" if method else text
    return title[0].upper() + title[1:]


def method_of(rows: Sequence[Row]) -> str:
    """Name what all rows have in common: `explainer rules-5, simulator rules`; and first, loudly, faults of some."""
    common = [f"{name} {values[0]}" for name in METHOD if len(values := values_of(rows, name)) == 1]
    faults = [name for name in _faults_of(rows) if name]
    return ", ".join([*([peer_faults.loudly(faults)] if faults else []), *common])


def _faults_of(rows: Sequence[Row]) -> list[str]:
    """List the different faults of the rows' runs; empty for a run without."""
    return list(dict.fromkeys(row.get(peer_faults.COLUMN) or "" for row in rows))


def values_of(rows: Sequence[Row], name: str) -> list[str]:
    """List the different values of a column, without nulls, in the order of the rows."""
    return list(dict.fromkeys(row[name] for row in rows if row[name] is not None))


def _counts(row: Row) -> str:
    return f"{row['n_ok']}/{row['n_failed']}/{row['n_undefined']}/{row['n_error']}"


def _explainers_table(rows: Sequence[Row], explainers: Sequence[str]) -> Table:
    main = [row for row in rows if row["scorer"] == rows[0]["scorer"]]
    names = list(dict.fromkeys(row["dictionary"] for row in main))
    cells = {(row["dictionary"], row["explainer"]): with_interval(row) for row in main}
    lines = [[name, *(cells.get((name, explainer), "-") for explainer in explainers)] for name in names]
    title = f"{rows[0]['scorer']} by explainer: mean with 95% interval."
    return Table(["dictionary", *explainers], lines, title)
