"""Defines the command that recomputes a run's figures: verify."""

from __future__ import annotations

import shlex

import click

from sae.common.click_group import Command


@click.command(cls=Command)
@click.argument("folder", metavar="RUN")
def verify(folder: str) -> None:
    """Compute every figure of a finished run again from what its folder holds.

    RUN is a run folder, or that of a suite or of `autointerp sensitivity`, which is checked with all its members and
    its own tables. A run's files are compared with the sizes and hashes in run.json; its scores are computed again from
    the records and the answers that results.jsonl keeps; leaderboard.json, .csv, .md and .tex are made again; the pages
    (RUN/site) are written again elsewhere, and every byte is compared. A run without language models is explained and
    scored again whole; of another one the explanations and the controls' scores are read as they are written, because
    the answers behind them are not kept. Nothing in RUN is written, and no model is called. Pictures are compared by
    their hashes only.

    Ends with status 1, and the first figure that does not hold, if there is one.
    """
    from autointerp.runs import sensitivity, suite
    from autointerp.runs import verify as verifying
    from autointerp.store import RunFolder
    from autointerp.suite_folder import SuiteFolder, is_suite_folder
    from sae.common.progress import Progress
    from sae.common.resources import path_of
    from sae.common.tables import Table, print_tables

    path = path_of(folder)
    if is_suite_folder(path):
        checks = [*suite.verify_suite(SuiteFolder(path), Progress), *sensitivity.verify_curve(SuiteFolder(path))]
    else:
        checks = verifying.verify(RunFolder(path), Progress)
    rows = [[f"{check.count:,}", check.what, f"{len(check.differences):,}"] for check in checks]
    print_tables([Table(["computed", "what", "do not hold"], rows)])
    wrong = [difference for check in checks for difference in check.differences]
    if wrong:
        raise verifying.DoesNotHold(f"{folder}: {wrong[0]}")
    click.echo(f"\nevery figure holds\nnext: {shlex.join(['autointerp', 'leaderboard', folder])}")
