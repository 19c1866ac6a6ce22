"""Defines the command that measures the scores themselves: calibrate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from autointerp.cli.options import AsksModels, PartOption


@click.command(cls=AsksModels)
@click.option("--explainer", cls=PartOption, default="rules-5", metavar="SPEC", help="As for run; default: rules-5.")
@click.option("--simulator", cls=PartOption, default="rules", metavar="SPEC", help="As for run; default: rules.")
@click.option("--judge", metavar="SPEC", help="As for run; default: the simulator.")
@click.option("--seed", type=int, default=0, metavar="N", help="Seed of all random choices; default: 0.")
@click.option("--set", "settings", multiple=True, metavar="K=V", help="Any setting, such as simulation.format=lines.")
@click.option("--quick", is_flag=True, help="Plant a tenth of the features, in less text: for models that cost money.")
@click.option("--max-cost", type=float, metavar="USD", help="Stop before the call that could cost more than is left.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("runs/calibration"),
    metavar="DIR",
    help="Folder for calibration.json, calibration.md and the plots; default: runs/calibration.",
)
def calibrate(out: Path, quick: bool, settings: tuple[str, ...], **method: Any) -> None:
    """Run the explainer and every scorer on features whose truth is known, and print what each score is worth.

    The text is of a planted language whose every concept is labelled. Features are planted with a known share of wrong
    firings; labels are then falsified in known ways. Without options no language model is asked.
    """
    from autointerp import api
    from autointerp.calibration import report
    from sae.common.files import alone
    from sae.common.settings import parse_settings
    from sae.common.tables import print_tables

    with alone(out):
        changes = parse_settings(settings, "simulation.format=lines")
        calibration = api.calibrate(out, quick=quick, changes=changes, **method)
    print_tables([report.summary_table(calibration)])
    click.echo(f"\nall tables are in {out / 'calibration.md'}\nnext: autointerp run")
