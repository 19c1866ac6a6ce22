"""Defines the command by which a person rates features: rate."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import click

from sae.common.click_group import Command

if TYPE_CHECKING:
    from autointerp.store import RunFolder


@click.command(cls=Command)
@click.argument("folder", metavar="RUN")
@click.option(
    "--task",
    type=click.Choice(["rubric", "intruder"]),
    default="rubric",
    help="rubric (default): how well the main explanation fits; intruder: which text the feature is silent on.",
)
@click.option(
    "--rater", default="", metavar="NAME", help="Who rates, where several people do; each rates all features."
)
def rate(folder: str, rater: str, **task: Any) -> None:
    """Rate a run's features yourself, in the browser, without knowing which dictionary they are of.

    RUN is a run folder. The page is served on loopback only, at an address with a random token, until Ctrl-C. Ratings
    are kept in RUN/ratings.json, and the same command goes on where it stopped. At its end it makes a finished run's
    leaderboard and pages again, which then show the human scores and their rank correlation with every other score.

    \b
    autointerp rate RUN
    autointerp rate RUN --task intruder --rater anna
    """
    from autointerp.runs import opening
    from autointerp.serving.rating import RatingApp

    opened = opening.open_folder(folder)
    app = RatingApp(opened, task["task"], rater)
    serve(app, f"{len(app.left)} features are left to rate")
    click.echo(f"\n{len(app.left)} are left")
    if opened.about["status"] == "complete":
        _show(opened)
    click.echo(f"next: {shlex.join(['autointerp', 'leaderboard', folder])}")


def _show(folder: RunFolder) -> None:
    """Make a finished run's tables again if the ratings have changed, and its pages if it has any."""
    from autointerp.reporting.site import write
    from autointerp.runs import opening
    from autointerp.store import RATINGS, SITE

    if RATINGS not in folder.damaged():
        return
    click.echo("making the leaderboard again")
    opening.repair(folder)
    if write.is_site(folder.path / SITE):
        click.echo(f"making the pages in {folder.path / SITE} again")
        write.write([folder], folder.path / SITE)


def serve(app: Any, about: str) -> None:
    """Serve an app until Ctrl-C, and say where."""
    from autointerp.serving.server import LoopbackServer

    with LoopbackServer(app) as server:
        click.echo(f"{about}\nopen {server.url} in a browser on this machine; Ctrl-C ends")
        try:
            server.serve()
        except KeyboardInterrupt:
            click.echo("")
