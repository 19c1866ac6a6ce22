"""Defines the commands that read a config and run nothing: check, config."""

from __future__ import annotations

import shlex
from typing import Any

import click

from autointerp.cli.options import AsksModels, changes_of
from sae.common.click_group import ARGUMENTS, Command


@click.command(cls=AsksModels)
@click.argument("config", required=False, default="judged")
@click.option("--explainer", metavar="SPEC", help="As for run; default: the config's.")
@click.option("--simulator", metavar="SPEC", help="As for run; default: the config's.")
@click.option("--judge", metavar="SPEC", help="As for run; default: the config's, else the simulator.")
@click.option("--max-cost", type=float, metavar="USD", help="Stop before the call that could cost more than is left.")
def check(config: str, **flags: Any) -> None:
    """Ask the models of a config's APIs for a few single tokens, and print what each can do.

    CONFIG is a YAML file or the name of a shipped one; default: judged. For each model: whether it answers to a JSON
    schema, gives log-probabilities, echoes a prompt with its log-probabilities, and takes each effort. "-" means that
    its API has no such thing. No answer is kept.
    """
    from autointerp import api
    from sae.common.tables import Table, print_tables

    models = api.check(config, changes_of(flags))
    if not models:
        click.echo("this config asks no model of an API; next: autointerp run")
        return
    levels = list(models[0].efforts)
    names = ["model", "schema", "log-probabilities", "echo", *(f"effort {level}" for level in levels)]
    rows = [[item.model, item.schema, item.logprobs, item.echo, *item.efforts.values()] for item in models]
    print_tables([Table(names, rows)])
    flags_given = [word for word in click.get_current_context().meta[ARGUMENTS] if word != config]
    own = ["--dictionary", "PATH"] if config == "judged" else []  # a config for a dictionary of the user's own
    click.echo(f"\nnext: {shlex.join(['autointerp', 'run', config, *own, *flags_given, '--dry-run'])}")


@click.command("config", cls=Command)
@click.argument("section", required=False, default="")
@click.option("--preset", metavar="NAME", help="Show a preset: what it matches of its protocol, and what differs.")
def show_settings(section: str, preset: str | None) -> None:
    """Print every setting with its meaning and default, as YAML that `autointerp run` reads.

    SECTION is a section or a setting by its dotted name, such as detection, sampling.explain or dictionaries.train.

    \b
    autointerp config > mine.yaml           a config to change
    autointerp config detection             the settings of one scorer
    autointerp config --preset bills        the table of a preset
    """
    from autointerp import presets
    from autointerp.config import build
    from autointerp.reference import settings_yaml
    from sae.common.tables import print_tables

    if preset is None or section:
        click.echo(settings_yaml(build({}, presets.under(preset, {}), "presets"), section), nl=False)
        return
    print_tables([presets.table(presets.load(preset))])
    click.echo(f"\nnext: {shlex.join(['autointerp', 'run', '--preset', preset])}")
