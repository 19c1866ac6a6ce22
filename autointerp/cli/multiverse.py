"""Defines the command that ranks a run's dictionaries under many choices: sensitivity."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import click

from autointerp.cli.options import PartOption, changes_of
from sae.common.click_group import Resumable

if TYPE_CHECKING:
    from autointerp.config import Config

LENGTHS, RECORDS = "rules-5,rules-1,rules-10", "1,0.5,2"


@click.command(cls=Resumable)
@click.argument("target", metavar="[RUN|CONFIG]", default="demo")
@click.option(
    "--presets", cls=PartOption, metavar="LIST", help="Protocols beside the run's own; default: all of {presets}."
)
@click.option(
    "--explainers", default=LENGTHS, show_default=True, metavar="LIST", help="Lengths of explanations, by rules."
)
@click.option(
    "--records", default=RECORDS, show_default=True, metavar="LIST", help="Factors of all numbers of records."
)
@click.option("--features", type=click.IntRange(1), metavar="N", help="Features of a dictionary; default: the run's.")
@click.option("--seed", type=int, metavar="N", help="Seed of all random choices; default: the run's.")
@click.option("--set", "settings", multiple=True, metavar="K=V", help="Any setting, such as sampling.tokens=100000.")
@click.option("--out", metavar="DIR", help="The folder; default: runs/sensitivity-HASH in the working directory.")
def sensitivity(
    target: str,
    presets: str | None,
    explainers: str,
    records: str,
    settings: tuple[str, ...],
    out: str | None,
    **flags: Any,
) -> None:
    """Rank a run's dictionaries under every combination of choices: what does its result depend on?

    RUN is a run folder, CONFIG a YAML file or a shipped name; default: demo. Its model, text and dictionaries are
    scored by its own protocol and by presets, with more and fewer records, longer and shorter explanations, and three
    ways to treat failures: failed explanations count as 0, or leave the mean; undefined scores leave it, or count as 0.
    All explanations and answers are those of rules, also where the run asked language models: nothing is paid for.
    Presets keep the run's features, text and context; fragments are as long as fit into that.

    Prints ranks, and writes sensitivity.md, sensitivity.json and pictures/sensitivity.*: a curve of all specifications.
    The same command continues; every combination is a run of its own in the folder.
    """
    from autointerp.reporting import sensitivity as reporting
    from autointerp.runs import sensitivity as runner
    from sae.common.errors import visible
    from sae.common.progress import Progress
    from sae.common.resources import shipped_folder
    from sae.common.settings import parse_settings
    from sae.common.tables import print_tables

    config = _config(target, changes_of(flags) | parse_settings(settings, "sampling.features=50"))
    shipped = sorted(path.stem for path in shipped_folder("eval_configs").glob("presets/*.yaml"))
    protocols = shipped if presets is None else _listed(presets)
    choices = runner.choices_of(config, protocols, _listed(explainers), _listed(records))
    folder, every = runner.run(config, choices, out, Progress)
    click.echo()
    print_tables(reporting.tables(every))
    click.echo(f"\nEverything is in {visible(str(folder.path))}; pictures/sensitivity.* shows it at one look")
    click.echo(f"next: {shlex.join(['autointerp', 'verify', str(folder.path)])}")


def _config(target: str, changes: dict[str, Any]) -> Config:
    """Return the config of a run folder, or of a file or name, with some fields changed."""
    from autointerp import config as configs
    from autointerp.runs import opening
    from sae.common.resources import path_of

    path = path_of(target)
    if (path / "run.json").is_file():
        run = opening.config_of(opening.open_folder(path))
        return configs.build(run.model_dump(mode="json"), changes, str(path))
    return configs.load(target, changes)


def _listed(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip() not in ("", "none")]
