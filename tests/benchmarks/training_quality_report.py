"""Prints and draws what `training_quality.py` measured."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from tests.benchmarks.training_quality_measure import goal
from tests.benchmarks.training_quality_sources import Task

Row = dict[str, Any]
HEAD = "| source | family | library | rate | {goal} | L0 | dead | MMCS | s | ours against the best peer |"
TICKS = (2, 4, 8, 16, 32, 64, 128)
METRICS = {
    "fvu": "FVU", "ce": "CE recovered", "mmcs": "MMCS with the true directions",
    "population": "population score",
}  # fmt: skip
OURS = "ours"
MARKERS = {OURS: "ko-", "SAELens": "C1s--", "dictionary_learning": "C2^:", "sparsify": "C3x-."}


def line(row: Row) -> str:
    """Return one training in words."""
    settings = ", ".join(f"{name}={value}" for name, value in row["changes"].items())
    figures = ", ".join(
        f"{name} {row[name]:.4g}" for name in ("objective", "fvu", "l0", "dead", "mmcs", "ce") if name in row
    )
    about = f"{row['task']['source']} {row['family']} {row['library']} {settings}".strip()
    return f"{about}, rate {row['rate']:g}, seed {row['seed']}: {figures} ({row['seconds']:.0f} s)"


def sweep_table(tried: Sequence[Sequence[Row]], metric: str, seeds: int) -> str:
    """Return changed settings, each with its seeds, the best first, and which of those with all seeds wins."""
    lines = [f"| source | family | changed | rate | {metric} | L0 | dead | MMCS |", "|---|---|---|--:|--:|--:|--:|--:|"]
    tried = sorted(tried, key=lambda rows: mean(row[metric] for row in rows))
    for rows in tried:
        cells = [rows[0]["task"]["source"], rows[0]["family"], _changed(rows), f"{rows[0]['rate']:g}"]
        cells += [_mean(rows, metric), f"{mean(row['l0'] for row in rows):.1f}"]
        lines.append("| " + " | ".join([*cells, f"{mean(row['dead'] for row in rows):.1%}", _mmcs(rows)]) + " |")
    complete = [rows for rows in tried if len(rows) == seeds]
    defaults = mean(row[metric] for rows in complete if not rows[0]["changes"] for row in rows)
    best = mean(row[metric] for row in complete[0])
    against = f"{metric} {best / defaults - 1:+.1%} against the defaults ({seeds} seeds)"
    return "\n".join([*lines, "", f"Winner: {_changed(complete[0])}, {against}."])


def _changed(rows: Sequence[Row]) -> str:
    return ", ".join(f"{name}={value}" for name, value in rows[0]["changes"].items()) or "(defaults)"


def _mean(rows: Sequence[Row], metric: str) -> str:
    """Return the mean over seeds with its standard deviation."""
    values = [row[metric] for row in rows]
    return f"{mean(values):.4g}" + (f" ± {stdev(values):.2g}" if len(values) > 1 else " (one seed)")


def tables(rows: Sequence[Row], tasks: Mapping[str, Task], methods: Mapping[str, Mapping[str, object]]) -> str:
    """Return one table: every library at its best rate, the mean over seeds, and who is ahead by how much."""
    lines = [HEAD.format(goal="objective or FVU"), "|---|---|---|--:|--:|--:|--:|--:|--:|--:|"]
    for task in tasks.values():
        for family in methods:
            lines += _block(rows, task, family, methods[family])
    return "\n".join(lines)


def compared(rows: Iterable[Row], task: Task, family: str, libraries: Iterable[str]) -> dict[str, list[Row]]:
    """Return the rows of each library, all seeds at the rate that was best with seed 0."""
    here = [row for row in rows if not row["changes"] and row["task"] == asdict(task) and row["family"] == family]
    at_best = {library: _at_best_rate(here, library, goal(family)) for library in libraries}
    return {library: own for library, own in at_best.items() if own}


def best_peer(rows: Mapping[str, list[Row]], family: str) -> list[Row]:
    """Return the rows of the best library but ours; none without one."""
    peers = [own for library, own in rows.items() if library != OURS]
    return min(peers, key=lambda own: mean(row[goal(family)] for row in own), default=[])


def dead(rows: Sequence[Row]) -> float:
    """Return the mean share of dead features."""
    return mean(row["dead"] for row in rows)


def _at_best_rate(rows: Sequence[Row], library: str, metric: str) -> list[Row]:
    own = [row for row in rows if row["library"] == library]
    first = [row for row in own if row["seed"] == 0 and row[metric] == row[metric]]
    if not first:
        return []
    rate = min(first, key=lambda row: row[metric])["rate"]
    return [row for row in own if row["rate"] == rate]


def _block(rows: Sequence[Row], task: Task, family: str, libraries: Iterable[str]) -> list[str]:
    """Return the lines of a family, and one of ours with as few dead features as the best peer where it has more."""
    best = compared(rows, task, family, libraries)
    peer = best_peer(best, family)
    lines = [(library, own) for library, own in best.items()]
    if OURS in best and peer and (fewer := _with_fewer_dead(rows, best[OURS], dead(peer))):
        lines.append((f"{OURS}, fewer dead", fewer))
    return [_comparison(task, family, name, own, peer if name.startswith(OURS) else []) for name, own in lines]


def _with_fewer_dead(rows: Iterable[Row], best: Sequence[Row], most: float) -> list[Row]:
    """Return the rows of ours at the highest rate with at most this share dead; none if the best rate's are."""
    if dead(best) <= most:
        return []
    same = ("task", "family", "library", "changes")
    own = [row for row in rows if all(row[name] == best[0][name] for name in same) and row["rate"] < best[0]["rate"]]
    for rate in sorted({row["rate"] for row in own}, reverse=True):
        at_rate = [row for row in own if row["rate"] == rate]
        if len(at_rate) == len(best) and dead(at_rate) <= most:
            return at_rate
    return []


def _comparison(task: Task, family: str, name: str, rows: Sequence[Row], peer: Sequence[Row]) -> str:
    metric = goal(family)
    against = f"{mean(row[metric] for row in rows) / mean(row[metric] for row in peer) - 1:+.1%}" if peer else ""
    cells = [task.source, family, name, f"{rows[0]['rate']:g}", _mean(rows, metric)]
    cells += [f"{mean(row['l0'] for row in rows):.1f}", f"{dead(rows):.1%}", _mmcs(rows)]
    return "| " + " | ".join([*cells, f"{mean(row['seconds'] for row in rows):.0f}", against]) + " |"


def _mmcs(rows: Sequence[Row]) -> str:
    return f"{mean(row['mmcs'] for row in rows):.3f}" if "mmcs" in rows[0] else ""


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw FVU, and the other metrics that there are, against L0: our architectures, then each beside its peers."""
    import matplotlib
    from matplotlib.figure import Figure

    from autointerp.reporting.plots import STYLE

    metrics = [metric for metric in METRICS if any(metric in row for row in rows)]
    columns, task = _columns(rows), rows[0]["task"]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(2.4 * len(columns), 2.3 * len(metrics) + 0.6), layout="constrained")
        axes = figure.subplots(len(metrics), len(columns), squeeze=False, sharex=True, sharey="row")
        for panels, metric in zip(axes, metrics, strict=True):
            panels[0].set_ylabel(METRICS[metric])
            for panel, lines in zip(panels, columns.values(), strict=True):
                for label, (own, style) in lines.items():
                    _line(panel, own, metric, label=label, **style)
        for panel, title in zip(axes[0], columns, strict=True):
            panel.set_title(title, fontsize=9)
            panel.legend(fontsize=6)
        for panel in axes[-1]:
            panel.set(xscale="log", xlabel="L0")
            panel.set_xticks(TICKS, [str(tick) for tick in TICKS])
            panel.minorticks_off()
        figure.suptitle(f"{task['source']}, {task['steps']} steps, seed 0; L0: mean active features of a vector")
        figure.savefig(path, dpi=100)


Lines = dict[str, tuple[list[Row], dict[str, Any]]]
"""By label, the rows of a line and its style."""


def _columns(rows: Sequence[Row]) -> dict[str, Lines]:
    """Return the lines of each column of panels by its title."""
    from sae.training.architectures.registry import ARCHITECTURES

    families = list(dict.fromkeys(row["family"] for row in rows))

    def of(family: str, library: str) -> list[Row]:
        return [row for row in rows if (row["family"], row["library"]) == (family, library)]

    ours: Lines = {
        family: (own, {"fmt": "o-", "color": ARCHITECTURES.get(family).colour})
        for family in families
        if (own := of(family, "ours"))
    }
    columns = {"ours": ours} if ours else {}
    for family in families:
        lines = {name: (own, {"fmt": fmt}) for name, fmt in MARKERS.items() if (own := of(family, name))}
        if set(lines) - {"ours"}:
            columns[family] = lines
    return columns


def _line(panel: Any, rows: Sequence[Row], metric: str, **style: Any) -> None:
    """Draw a metric against L0, with its interval where the rows have one."""
    rows = sorted((row for row in rows if metric in row), key=lambda row: row["l0"])
    ends = [[abs(row.get(f"{metric}_{end}", row[metric]) - row[metric]) for row in rows] for end in ("low", "high")]
    x, y = ([row[name] for row in rows] for name in ("l0", metric))
    panel.errorbar(x, y, yerr=ends if any(map(any, ends)) else None, markersize=3, linewidth=1, elinewidth=0.5, **style)
