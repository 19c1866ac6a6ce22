"""Defines the command that recomputes a run's figures: verify."""

from __future__ import annotations

import shlex

import click

from sae.common.click_group import Command


@click.command(cls=Command)
@click.argument("folder", metavar="RUN")
def verify(folder: str) -> None:
    """Compute every figure of a finished run again from what its folder holds.

    RUN is a run folder. Its files are compared with the sizes and hashes in run.json; its scores are computed again
    from the records and the answers that results.jsonl keeps; leaderboard.json, .csv, .md and .tex are made again. A
    run without language models is explained and scored again whole; of another one the explanations and the controls'
    scores are read as they are written, because the answers behind them are not kept. Nothing is written, and no model
    is called.

    Ends with status 1, and the first figure that does not hold, if there is one.
    """
    from autointerp.runs import verify as verifying
    from autointerp.store import RunFolder
    from sae.common.progress import Progress
    from sae.common.resources import path_of
    from sae.common.tables import Table, print_tables

    checks = verifying.verify(RunFolder(path_of(folder)), Progress)
    rows = [[f"{check.count:,}", check.what, f"{len(check.differences):,}"] for check in checks]
    print_tables([Table(["computed", "what", "do not hold"], rows)])
    wrong = [difference for check in checks for difference in check.differences]
    if wrong:
        raise verifying.DoesNotHold(f"{folder}: {wrong[0]}")
    click.echo(f"\nevery figure holds\nnext: {shlex.join(['autointerp', 'leaderboard', folder])}")
