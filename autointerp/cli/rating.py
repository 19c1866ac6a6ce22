"""Defines the command by which a person rates features: rate."""

from __future__ import annotations

import shlex
from typing import Any

import click

from sae.common.click_group import Command


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
    are kept in RUN/ratings.json, and the same command goes on where it stopped. `autointerp leaderboard` and
    `autointerp browse` then show the human scores and their rank correlation with every other score.

    \b
    autointerp rate RUN
    autointerp rate RUN --task intruder --rater anna
    """
    from autointerp.runs import opening
    from autointerp.serving.rating import RatingApp

    app = RatingApp(opening.open_folder(folder), task["task"], rater)
    serve(app, f"{len(app.left)} features are left to rate")
    click.echo(f"\n{len(app.left)} are left\nnext: {shlex.join(['autointerp', 'leaderboard', folder])}")


def serve(app: Any, about: str) -> None:
    """Serve an app until Ctrl-C, and say where."""
    from autointerp.serving.server import LoopbackServer

    with LoopbackServer(app) as server:
        click.echo(f"{about}\nopen {server.url} in a browser on this machine; Ctrl-C ends")
        try:
            server.serve()
        except KeyboardInterrupt:
            click.echo("")
