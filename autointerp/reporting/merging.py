"""Reads the leaderboards of several runs as one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from autointerp.reporting.leaderboard import COLUMNS
from autointerp.reporting.tables import Row
from autointerp.store import RunFolder

MERGED_COLUMNS = (*COLUMNS[:3], "model", "corpus", *COLUMNS[3:])
"""Columns of the rows of several runs in one table."""


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
    merged = [row for folder, label in zip(folders, labels, strict=True) for row in _labelled(RunFolder(folder), label)]
    order = list(dict.fromkeys(row["explainer"] for row in merged))
    return sorted(merged, key=lambda row: order.index(row["explainer"]))


def _labelled(folder: RunFolder, label: str) -> list[Row]:
    """Read a run's rows with MERGED_COLUMNS; null where an earlier version wrote none."""
    rows, config = folder.read_leaderboard(), folder.about["config"]
    subject = config["subject"]
    model = subject["model"] + (" (weights reset)" if subject.get("reset_weights") else "")
    origin = {"model": model, "corpus": config["corpus"]["source"]}
    named = [row | origin | {"dictionary": f"{label}:{row['dictionary']}"} for row in rows]
    return [{name: row.get(name) for name in MERGED_COLUMNS} for row in named]
