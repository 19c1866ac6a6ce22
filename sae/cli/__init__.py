"""Defines the command line `sae`: reads arguments, calls the library, prints. Imports nothing heavy at the top."""

from __future__ import annotations

import click

from sae.cli.files import convert, find, info
from sae.cli.measuring import evaluate
from sae.cli.training import train
from sae.common.click_group import Commands

PROGRAM = "sae"


def _print_version(context: click.Context, option: click.Parameter, asked: bool) -> None:
    """Print the version of the distribution that installed this program, then end."""
    from importlib.metadata import entry_points

    if asked:
        scripts = entry_points(group="console_scripts", name=PROGRAM)
        versions = [script.dist.version for script in scripts if script.dist]
        click.echo(f"{PROGRAM}, version {versions[0] if versions else 'unknown: it is not installed'}")
        context.exit()


@click.group(PROGRAM, cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
def main() -> None:
    """Train, measure and convert dictionaries of a language model's activations.

    \b
    sae train [CONFIG]               train dictionaries, all in one pass over the text; without CONFIG, on a toy model
    sae info PATH                    show a dictionary's metadata and statistics of its weights; loads no model
    sae eval PATH                    measure L0, FVU, CE recovered and feature densities on text
    sae eval PATH --against OTHER    also compare two dictionaries: MMCS and universality
    sae convert PATH OUT             write a dictionary in another format
    sae find [WORDS]                 search the published dictionaries of SAELens' registry, offline

    PATH may be on the Hugging Face hub: hf:OWNER/REPO[/PATH][@REVISION], or saelens:RELEASE/SAE_ID.
    """


for command in (train, evaluate, info, convert, find):
    main.add_command(command)
