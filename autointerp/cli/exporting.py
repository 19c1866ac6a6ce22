"""Defines the command that writes runs for other tools: export."""

from __future__ import annotations

from pathlib import Path

import click

from sae.common.click_group import Command


class Exporting(Command):
    """Ends the command's help with the formats and their settings; imports their files only for that."""

    def format_epilog(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a line per format, and a line per setting with the formats that have it."""
        from autointerp.exports import EXPORTS

        parts = EXPORTS.all()
        settings = {option: meaning for part in parts.values() for option, meaning in part.options.items()}
        with formatter.section("Formats"):
            formatter.write_dl([(name.replace("_", "-"), part.about) for name, part in parts.items()])
        with formatter.section("Settings"):
            of = {option: [name for name, part in parts.items() if option in part.options] for option in settings}
            formatter.write_dl([(f"--set {option}=", f"{meaning} ({', '.join(of[option]).replace('_', '-')})")
                                for option, meaning in settings.items()])  # fmt: skip


@click.command(cls=Exporting)
@click.argument("folder", metavar="RUN")
@click.option("--format", "name", required=True, metavar="NAME", help="One of the formats below.")
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), metavar="PATH", help="A file or folder to be made."
)
@click.option(
    "--dictionary", "dictionaries", multiple=True, metavar="NAME", help="May be given several times. Default: all."
)
@click.option(
    "--explainer", "explainers", multiple=True, metavar="NAME", help="May be given several times. Default: all."
)
@click.option("--set", "settings", multiple=True, metavar="K=V", help="A setting of the format.")
def export(
    folder: str,
    name: str,
    out: Path,
    dictionaries: tuple[str, ...],
    explainers: tuple[str, ...],
    settings: tuple[str, ...],
) -> None:
    """Write a finished run in the format of another tool.

    What the format cannot hold is left out and counted.

    \b
    autointerp export RUN --format features --out features.parquet
    autointerp export RUN --format neuronpedia --dictionary topk_4x --set model_id=gpt2-small --out upload
    """
    from autointerp.api import open_run
    from autointerp.exports import EXPORTS
    from sae.common.errors import visible
    from sae.common.settings import parse_settings

    options = parse_settings(settings, "model_id=gpt2-small")
    for note in open_run(folder).export(name, out, dictionaries, explainers, options):
        click.echo(visible(note))
    where = visible(str(out))
    click.echo(f"the export is in {where}")
    onward = EXPORTS.get(name.replace("-", "_")).onward
    if onward:
        click.echo(f"next: {onward.format(out=where)}")
