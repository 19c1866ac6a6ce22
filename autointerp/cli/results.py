"""Defines the commands that show results: list, show, leaderboard, browse."""

from __future__ import annotations

import math
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any, get_args

import click

from autointerp.cli import suites
from autointerp.cli.options import OUTPUT, refuse_output
from autointerp.records import Status
from autointerp.reporting import Order
from sae.common.click_group import Command


@click.command("list", cls=Command)
@click.argument("folder", default=".", metavar="[FOLDER]")
def list_runs(folder: str) -> None:
    """List the runs here with their state and mean scores.

    FOLDER is looked through, and three levels of folders below it; default: the working directory.
    """
    from autointerp.reporting import lists
    from sae.common.resources import path_of
    from sae.common.tables import print_tables

    runs = lists.run_list(path_of(folder))
    if not runs.rows:
        click.echo("no runs here\nnext: autointerp run")
        return
    print_tables([runs])
    click.echo(f"\nnext: {shlex.join(['autointerp', 'show', runs.rows[-1][0]])}")


@click.command(cls=Command)
@click.argument("folder", metavar="RUN")
@click.argument("feature", required=False)
@click.option(
    "--dictionary", "dictionaries", multiple=True, metavar="NAME", help="List its features; may be given several times."
)
@click.option("--sort", type=click.Choice(get_args(Order)), help="Default: best first, dictionary by dictionary.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="List at most N features.")
@click.option("--below", type=float, metavar="X", help="List features whose main score is less than X.")
@click.option("--status", "statuses", multiple=True, type=click.Choice(get_args(Status)), help="List features with it.")
@click.option("--explainer", metavar="NAME", help="Show this explainer's explanations; default: the main one's.")
@click.option("--all", "everything", is_flag=True, help="Also show the other explanations of FEATURE.")
@click.option("--colour/--no-colour", default=None, help="Shade activations in colour; default: on a terminal.")
def show(
    folder: str, feature: str | None, explainer: str | None, everything: bool, colour: bool | None, **listed: Any
) -> None:
    """Print the features of a run, or one of them.

    RUN is a run folder. Without FEATURE, all sampled features are listed with their scores and explanations. FEATURE
    is a name from that list, such as topk_4x/1234: its explanation and scores, the fragments it was explained from,
    and the fragments it was scored on, with true and predicted activations; paged on a terminal.

    Without colour, an activation is a digit from 1 to 9 behind the token in brackets: [token]9.

    \b
    autointerp show RUN --sort worst --limit 20
    autointerp show RUN --dictionary topk_4x --below 0.1
    """
    from autointerp.api import open_run
    from autointerp.reporting import lists, terminal
    from autointerp.store import RunFolder
    from sae.common.errors import UserError
    from sae.common.tables import print_tables

    if feature is not None and any(listed.values()):
        flag = {"dictionaries": "dictionary", "statuses": "status"}
        name = next(name for name, value in listed.items() if value)
        raise UserError(f"--{flag.get(name, name)} is for the list of features; leave it out, or FEATURE")
    if listed["below"] is not None and math.isnan(listed["below"]):
        raise UserError("--below is nan, and no score is less; give a number")
    opened = RunFolder(open_run(folder).path)
    if feature is None:
        features = lists.feature_list(opened, lists.Selection(explainer=explainer, **listed))
        print_tables([features])
        first = next((row[0] for row in features.rows if row[0].isprintable()), None)
        dashes = ["--"] if first and first.startswith("-") else []
        onward = ["show", folder, *dashes, first] if first else ["leaderboard", folder]
        click.echo(f"\nnext: {shlex.join(['autointerp', *onward])}")
        return
    in_colour = sys.stdout.isatty() if colour is None else colour
    echo_paged(terminal.feature_page(opened, feature, in_colour, explainer, everything))


def echo_paged(text: str) -> None:
    """Print a text; with a pager, if there is one, where it is longer than the terminal."""
    if sys.stdout.isatty() and text.count("\n") >= shutil.get_terminal_size().lines:
        click.echo_via_pager(text, color=True)
    else:
        click.echo(text, color=True)


@click.command(cls=Command)
@click.argument("folders", metavar="RUN ...", nargs=-1, required=True)
@click.option("--csv", type=OUTPUT, metavar="FILE", help="Also write all rows to FILE.")
@click.option("--markdown", type=OUTPUT, metavar="FILE", help="Also write the tables to FILE.")
@click.option("--latex", type=OUTPUT, metavar="FILE", help="Also write the tables to FILE, for LaTeX with booktabs.")
@click.option("--rebuild", is_flag=True, help="First make each run's tables and pictures again from its results.")
def leaderboard(
    folders: tuple[str, ...], csv: Path | None, markdown: Path | None, latex: Path | None, rebuild: bool
) -> None:
    """Print the scores of one finished run, or of several in one table.

    Each RUN is a run folder, or a suite's, which stands for its members. Several runs may be of different models and
    corpora: a dictionary is then named RUN:DICTIONARY, and its model and corpus stand beside it. Of runs that differ
    only in their seed (`autointerp run --seeds N`), a last table gives the mean over seeds, and what seed, text and
    features add to its error.
    """
    from autointerp.reporting import cells, leaderboard, merging, seeds, tables
    from autointerp.runs import opening
    from sae.common.files import write_atomic
    from sae.common.tables import print_tables, to_latex, to_markdown

    refuse_output(csv, markdown, latex)
    opened = suites.opened(folders)
    for folder in opened if rebuild else ():
        opening.rebuild(folder)
    rows = merging.merge([folder.path for folder in opened])
    unique = list({folder.path.resolve(): folder for folder in opened}.values())
    pairs = leaderboard.read_comparisons(opened[0]) if len(unique) == 1 else []
    merged = [*tables.all_tables(rows, pairs), *seeds.tables(unique)]
    print_tables(merged)
    if csv:
        write_atomic(csv, cells.to_csv(rows))
        click.echo(f"\nall rows are in {csv}")
    for path, rendered in ((markdown, to_markdown), (latex, to_latex)):
        if path:
            write_atomic(path, rendered(merged))
            click.echo(f"\nthe tables are in {path}")


@click.command(cls=Command)
@click.argument("folders", metavar="RUN ...", nargs=-1, required=True)
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Folder for the pages; default: RUN/site.")
@click.option(
    "--serve",
    is_flag=True,
    help="Also serve them on loopback, where edited explanations are scored and own texts read.",
)
def browse(folders: tuple[str, ...], out: Path | None, serve: bool) -> None:
    """Write a run, or several side by side, as pages: leaderboard, features, what was run.

    Each RUN is a run folder, finished or not, or a suite's, which stands for its members. The pages are plain files:
    open index.html by double click, or put the folder on any web server. They load nothing from the network.

    \b
    autointerp browse RUN
    autointerp browse RUN RUN2 --out pages
    autointerp browse RUN --serve
    """
    from autointerp.reporting.site import write
    from autointerp.store import SITE
    from sae.common.errors import UserError, visible
    from sae.common.files import refuse_unwritable
    from sae.common.resources import path_of

    opened = suites.opened(folders)
    if out is None and len(folders) == 1:
        out = path_of(folders[0]) / SITE
    if out is None and len({folder.path.resolve() for folder in opened}) > 1:
        raise UserError("pages of several runs need a folder of their own: --out DIR")
    out = out or opened[0].path / SITE
    refuse_unwritable(out)
    write.write(opened, out)
    if serve:
        from autointerp.cli.rating import serve as serve_app
        from autointerp.serving.pages import PagesApp

        unique = {folder.path.resolve(): folder for folder in opened}
        serve_app(PagesApp(out, list(unique.values())), f"The pages are in {out}")
        return
    click.echo(f"next: open {visible(str(out / 'index.html'))} in a browser")
