"""Defines the commands on the stored answers of language models: cache info, cache export, cache clear."""

from __future__ import annotations

from pathlib import Path

import click

from autointerp.cli.options import OUTPUT, refuse_output
from sae.common.click_group import Command


@click.group()
def cache() -> None:
    """Inspect, export or clear the stored answers of language models.

    Every answer is kept in the user's cache folder (AUTOINTERP_CACHE overrides it) and shared by all runs, so that no
    call is paid for twice.
    """


@cache.command(cls=Command)
def info() -> None:
    """Print where the answers are, how many there are, and their size."""
    from autointerp import api

    for name, value in api.answers().info().items():
        click.echo(f"{name}: {value:,}" if isinstance(value, int) else f"{name}: {value}")


@cache.command(cls=Command)
@click.argument("file", type=OUTPUT)
def export(file: Path) -> None:
    """Write all answers to FILE as JSON lines.

    Each line has the fields key, request and answer.
    """
    import json

    from autointerp import api
    from sae.common.files import write_atomic_with

    refuse_output(file)

    def write(path: Path) -> None:
        with path.open("w", encoding="utf-8") as stream:
            for entry in api.answers().export():
                stream.write(json.dumps(entry) + "\n")

    write_atomic_with(file, write)
    click.echo(f"all answers are in {file}")


@cache.command(cls=Command)
@click.option("--yes", is_flag=True, help="Delete without confirmation.")
def clear(yes: bool) -> None:
    """Delete all answers. Runs that need them again pay for them again."""
    from autointerp import api

    answers = api.answers()
    count = answers.info()["entries"]
    if yes or click.confirm(f"delete {count:,} answers in {answers.path}?"):
        click.echo(f"deleted {answers.clear():,} answers")
