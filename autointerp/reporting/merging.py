"""Merges runs into one leaderboard, whose rows name their model and corpus."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autointerp import peer_faults
from autointerp.reporting.cells import Row, to_csv
from autointerp.reporting.leaderboard import COLUMNS
from autointerp.reporting.stability import STABILITY_COLUMNS
from autointerp.reporting.tables import all_tables
from autointerp.store import RunFolder, as_json
from sae.common.tables import to_latex, to_markdown

MERGED_COLUMNS = (*COLUMNS[:3], "model", "corpus", *COLUMNS[3:])
"""Columns of the rows of several runs in one table; STABILITY_COLUMNS follow if one of the runs has them."""


def merge(paths: Sequence[Path]) -> list[Row]:
    """Read the rows of one run, or of several, main explainers first.

    Rows of several runs name their dictionary RUN:DICTIONARY and hold the run's model and corpus. RUN is the folder's
    name, or its path where two folders share a name. Raises UserError if a run is not finished.
    """
    folders = list(dict.fromkeys(path.resolve() for path in paths))
    if len(folders) == 1:
        return RunFolder(paths[0]).read_leaderboard()
    names = [folder.name for folder in folders]
    labels = [str(folder) if names.count(folder.name) > 1 else folder.name for folder in folders]
    return merge_named(dict(zip(labels, map(RunFolder, folders), strict=True)))


def merge_named(runs: Mapping[str, RunFolder]) -> list[Row]:
    """Do the same for runs that have names, one or several."""
    boards = {label: _labelled(run, label) for label, run in runs.items()}
    known = {name for rows in boards.values() for row in rows for name in row}
    extra = [name for name in (*STABILITY_COLUMNS, peer_faults.COLUMN) if name in known]
    columns = (*MERGED_COLUMNS, *extra)
    merged = [{name: row.get(name) for name in columns} for rows in boards.values() for row in rows]
    order = list(dict.fromkeys(row["explainer"] for row in merged))
    return sorted(merged, key=lambda row: order.index(row["explainer"]))


def _labelled(folder: RunFolder, label: str) -> list[Row]:
    """Read a run's rows with the label, model and corpus of the run."""
    rows, config = folder.read_leaderboard(), folder.about["config"]
    subject = config["subject"]
    model = subject["model"] + (" (weights reset)" if subject.get("reset_weights") else "")
    origin = {"model": model, "corpus": config["corpus"]["source"]}
    return [row | origin | {"dictionary": f"{label}:{row['dictionary']}"} for row in rows]


def texts(rows: list[Row]) -> dict[str, str]:
    """Return the tables of a suite as they are written, by file name."""
    tables = all_tables(rows, [])
    return {
        "leaderboard.json": as_json(rows),
        "leaderboard.csv": to_csv(rows),
        "leaderboard.md": to_markdown(tables),
        "leaderboard.tex": to_latex(tables),
    }


def subjects_of(runs: Mapping[str, RunFolder]) -> dict[str, str]:
    """Name the subject of every run: the same name for the same weights on the same text.

    It is the model's name or, where other subjects are called so too (toys of different sizes), that of the first run
    with it.
    """
    keys = {name: _subject(run.about) for name, run in runs.items()}
    firsts = {key: name for name, key in reversed(keys.items())}
    models = {key: str(runs[name].about["config"]["subject"]["model"]) for key, name in firsts.items()}
    called = list(models.values())
    return {name: models[key] if called.count(models[key]) == 1 else firsts[key] for name, key in keys.items()}


def _subject(about: Mapping[str, Any]) -> str:
    """Write down everything that a run's weights and text depend on; its seed only where the weights do."""
    config, inputs = about["config"], about["inputs"]
    is_reset = config["subject"]["reset_weights"]
    is_seeded = is_reset or config["subject"]["model"] == "toy"
    return json.dumps([inputs["model"], inputs["corpus"], is_reset, config["seed"] if is_seeded else None])
