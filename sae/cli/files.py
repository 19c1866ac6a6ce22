"""Defines the commands on a dictionary's files: `sae info`, `sae convert`, `sae find`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from sae.cli.options import allow_pickle, next_convert
from sae.common.click_group import Command
from sae.common.errors import visible
from sae.formats.changes import NONE, PROCESSING


@click.command(cls=Command)
@click.argument("path")
@click.option(
    "--cosines",
    is_flag=True,
    help="Also compare every decoder direction with every other; slow with 100,000 features or more.",
)
@click.option(
    "--weights/--no-weights",
    default=None,
    help="Read the weights: activation, norms, cosines, recipe.  [default: if the files have less than 1 GiB]",
)
@allow_pickle
def info(path: str, cosines: bool, weights: bool | None, allow_pickle: bool) -> None:
    """Show a dictionary's format, size, model, recipe and norms. No language model is loaded."""
    from sae.measuring import info as library
    from sae.measuring import info_text

    account = library.account(path, allow_pickle)
    path = account.address or path
    click.echo(info_text.account(account))  # before torch is loaded
    if cosines or (account.size < library.LARGE if weights is None else weights):
        click.echo(info_text.weights(library.weights(path, cosines, allow_pickle)))
    elif weights is None:
        click.echo(
            f"its weights are not read, as they are large; norms and recipe: sae info {shlex.quote(path)} --weights"
        )
    click.echo(f"next: {next_convert((path,)) or shlex.join(['sae', 'eval', path])}")


class Convert(Command):
    """Lists the known formats at the end of its help."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write every format with its files and whether it can be written."""
        from sae.formats.registry import FORMATS

        with formatter.section("Formats"):
            known = FORMATS.all().items()
            formatter.write_dl([(name, f"{it.files}; read{' and written' if it.save else ''}") for name, it in known])


@click.command(cls=Convert)
@click.argument("path")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--format", "format_name", default="own", show_default=True, metavar="NAME", help="Format to write.")
@click.option(
    "--hook",
    "hook_points",
    multiple=True,
    metavar="NAME",
    help="Hook point that it reads and writes, where PATH does not name it; of a crosscoder all, in its order.",
)
@click.option(
    "--input-scale",
    type=click.FloatRange(0, min_open=True),
    metavar="F",
    help="Fold a factor in: the copy encodes activations times F, and divides what it decodes by F.",
)
@click.option(
    "--output-scale",
    type=click.FloatRange(0, min_open=True),
    metavar="F",
    help="The factor of what a transcoder writes.  [default: as --input-scale]",
)
@click.option(
    "--normalisation",
    type=click.Choice(["none", "constant_norm_rescale", "layer_norm"]),
    help="How the copy scales each vector before it encodes it: to norm sqrt(d), or to mean 0 and deviation 1.",
)
@click.option(
    "--processing",
    type=click.Choice([*PROCESSING, NONE]),
    multiple=True,
    help="Processing of the model's weights that PATH was trained under, as TransformerLens calls it.",
)
@allow_pickle
def convert(
    path: str, out: Path, format_name: str, hook_points: tuple[str, ...], allow_pickle: bool, **changes: Any
) -> None:
    """Convert a dictionary to another format.

    Reads PATH in any known format and writes it to the new folder OUT. The last four options make a copy that fits its
    model; `sae eval PATH --diagnose` says which.
    """
    from sae import formats

    written = formats.convert(path, out, format_name, allow_pickle, hook_points, formats.Changes(**changes))
    click.echo(visible(f"{written.name}: {written.n_features:,} features of width {written.d_in:,} are in {out}"))
    click.echo(f"next: {shlex.join(['sae', 'info', str(out)])}")


@click.command(cls=Command)
@click.argument("words", nargs=-1)
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, metavar="N", help="Rows to print.")
@click.option("--json", "as_json", is_flag=True, help="Print all of them as JSON instead, one object a line.")
def find(words: tuple[str, ...], limit: int, as_json: bool) -> None:
    """Search published dictionaries by model, release, hook point, layer, width and L0.

    The registry is SAELens', as it was on the day that the first line names; nothing is asked of the network. Every
    word must occur in the release, the id, the model, the repository or the hook point; layer=12, width=16k and l0=50
    compare numbers, l0=40-60 is a range.

    \b
    sae find gemma-2-2b resid_post layer=12 width=16k
    """
    from dataclasses import asdict
    from json import dumps

    from sae.common.tables import Table, number, print_tables
    from sae.hub import saelens

    entries = saelens.find(words)
    if as_json:
        for entry in entries:
            click.echo(dumps(asdict(entry) | {"layer": entry.layer, "dictionary": entry.spec}))
        return
    rows = [
        [entry.spec, entry.model, entry.hook_point, f"{entry.width:,}" if entry.width else "-", number(entry.l0, 0)]
        for entry in entries[:limit]
    ]
    title = f"{len(entries):,} dictionaries in {saelens.source()}; - where it does not say"
    print_tables([Table(["dictionary", "model", "reads", "features", "L0"], rows, title)])
    if len(entries) > limit:
        click.echo(f"\n{len(entries) - limit:,} more: add words, or --limit {len(entries)}")
    click.echo(f"\nnext: {shlex.join(['sae', 'info', entries[0].spec])}")
