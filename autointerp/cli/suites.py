"""Defines what `autointerp run` does with a suite, and which run folders a suite's folder stands for."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from sae.common.click_group import ARGUMENTS

if TYPE_CHECKING:
    from pathlib import Path

    from autointerp.runs.savings import Estimate
    from autointerp.store import RunFolder
    from sae.common.progress import Report


def run_suite(name: str, changes: Mapping[str, Any], dry_run: bool, quiet: bool, report: Report) -> None:
    """Run a suite by its path or name, or say what it would cost, and print the outcome."""
    from autointerp import suites
    from autointerp.runs import suite as runner
    from sae.common.errors import visible

    loaded = suites.load(name, changes)
    if dry_run:
        _print_estimates(runner.estimate(loaded, report))
        return
    folder = runner.run(loaded, report)
    if quiet:
        click.echo(visible(str(folder.path)))
    else:
        _print_outcome(folder.path)


def _print_outcome(path: Path) -> None:
    from autointerp.reporting.merging import merge_named
    from autointerp.reporting.tables import scores_tables
    from autointerp.suite_folder import SuiteFolder
    from sae.common.errors import visible
    from sae.common.tables import print_tables

    click.echo()
    print_tables(scores_tables(merge_named(SuiteFolder(path).runs)))
    click.echo(f"\nEverything is in {visible(str(path))}; the other tables in {visible(str(path / 'leaderboard.md'))}")
    click.echo(f"next: {shlex.join(['autointerp', 'verify', str(path)])}")


def _print_estimates(estimates: Mapping[str, Estimate]) -> None:
    """Print a dry run: a row per member, the sum, and the same command without --dry-run as the next one."""
    from sae.common.tables import Table, number, print_tables

    words = [word for word in click.get_current_context().meta[ARGUMENTS] if word != "--dry-run"]
    command = shlex.join(["autointerp", "run", *words])
    rows = {name: _summed(one) for name, one in estimates.items()}
    if not any(calls for calls, *_ in rows.values()):
        click.echo(f"this suite makes no model calls\nnext: {command}")
        return
    total = [_sum([row[column] for row in rows.values()]) for column in range(6)]
    header = ["member", "calls", "in cache", "tokens in", "tokens out", "usd", "most usd"]
    lines = [
        [name, *("-" if count is None else f"{count:,}" for count in row[:4]), number(row[4], 4), number(row[5], 4)]
        for name, row in (rows | {"all": total}).items()
    ]
    print_tables([Table(header, lines)])
    prices, most = next(iter(estimates.values())).prices, total[5]
    if most is None:
        click.echo("\nthe price of a model is not known; `--dry-run` of a single run says which")
    else:
        click.echo(
            f"\nabout ${total[4]:.2f}; at most ${most:.2f}, if every answer is as long as it may be. Tokens are "
            f"estimates; prices as of {prices.as_of}. --max-cost is for all members together"
        )
    known = most is not None and "--max-cost" not in command
    click.echo(f"next: {command}{f' --max-cost {math.ceil((most or 0) * 100) / 100:.2f}' if known else ''}")


def _summed(estimated: Estimate) -> list[float | None]:
    """Add up calls, cached answers, tokens in and out, and the expected and the largest cost of all stages."""
    stages = estimated.stages
    counts = [(one.calls, one.cached, one.usage.tokens_in, one.usage.tokens_out) for one in stages]
    whole = [_sum(column) for column in zip(*counts, strict=True)] if counts else [0, 0, 0, 0]
    return [*whole, _sum([one.usage.cost_usd for one in stages]), _sum([one.most_usd for one in stages])]


def _sum(values: Sequence[float | None]) -> float | None:
    """Add up values; None if one is not known."""
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def opened(folders: Sequence[str]) -> list[RunFolder]:
    """Open run folders; a suite's folder stands for its members. Raises UserError as `opening.open_folder`."""
    from autointerp.runs import opening
    from autointerp.suite_folder import runs_in
    from sae.common.resources import path_of

    return [opening.open_folder(path) for folder in folders for path in runs_in(path_of(folder))]
