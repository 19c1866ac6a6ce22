"""Defines `sae eval`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sae.cli.options import CORPUS, HOOKS, allow_pickle, next_convert
from sae.common.click_group import Command
from sae.common.errors import UserError, visible
from sae.measuring.feature_table import path_beside

if TYPE_CHECKING:
    from sae.measuring.eval_paths import Outcome

LARGEST_METRICS = 10_000_000
"""Bytes of a file that is read to see whether it holds metrics."""


@click.command("eval", cls=Command)
@click.argument("paths", metavar="PATH ...", nargs=-1, required=True)
@click.option(
    "--model",
    metavar="NAME|DIR",
    help="Language model: a name on the Hugging Face hub or a local directory.  [default: from the metadata]",
)
@click.option(
    "--hook",
    "hook_point",
    metavar="NAME",
    help=f"Hook point: {HOOKS}.  [default: from the metadata]",
)
@click.option(
    "--corpus",
    metavar="SPEC",
    help=f"Text to measure on: {CORPUS}. Of the text that a dictionary was trained on, only the held-out part is "
    "read.  [default: the training text if the metadata names it, else stdlib]",
)
@click.option(
    "--tokens",
    type=click.IntRange(1),
    metavar="N",
    default=1_000_000,
    show_default=True,
    help="Number of tokens to measure on, or all if the corpus has fewer.",
)
@click.option(
    "--context",
    type=click.IntRange(2),
    metavar="N",
    help="Tokens that the model reads at once.  [default: as in the training, else 128]",
)
@click.option("--against", metavar="PATH", help="Second dictionary to compare with, in both directions.")
@click.option(
    "--against-model",
    metavar="NAME|DIR",
    help="Language model of the second dictionary.  [default: from its metadata, else --model]",
)
@click.option(
    "--against-hook",
    "against_hook_point",
    metavar="NAME",
    help="Hook point of the second dictionary.  [default: from its metadata, else --hook]",
)
@click.option(
    "--bos/--no-bos",
    "prepend_bos",
    default=None,
    help="Put a BOS token before each block, or not.  [default: from the metadata, else the model's default]",
)
@click.option(
    "--cosines/--no-cosines",
    default=True,
    show_default=True,
    help="Compare every decoder direction with every other; slow with 100,000 features or more.",
)
@click.option(
    "--diagnose",
    is_flag=True,
    help="Also try why a dictionary does not fit: BOS token, scale, layer off by one, the model's processing.",
)
@click.option("--device", default="auto", show_default=True, metavar="NAME", help="auto, cpu, cuda, cuda:1 and so on.")
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    metavar="N",
    help="Seed that draws the blocks on which cross-entropy is measured.",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="JSON file to write; only for one dictionary.  [default: NAME.metrics.json]",
)
@allow_pickle
def evaluate(paths: tuple[str, ...], out: Path | None, **settings: Any) -> None:
    """Measure dictionaries on text.

    Prints a table and writes, for each dictionary, a JSON file and a parquet file with one row per feature.

    PATH is a dictionary in any known format. Dictionaries of the same model and hook point share one pass of the model.
    """
    from sae.formats import pin

    paths = tuple(pin(path) for path in paths)  # so that all of the command reads one commit
    files = dict(zip(paths, _files(paths, out, settings["allow_pickle"]), strict=True))
    from sae.measuring import tables
    from sae.measuring.eval_paths import eval_paths
    from sae.measuring.eval_request import Request

    done: dict[str, Outcome] = {}

    def keep(outcome: Outcome) -> None:
        done[outcome.target.path] = outcome
        _write(outcome, files[outcome.target.path])

    try:
        eval_paths(Request(paths=paths, **settings), notify=keep)
    finally:  # what was measured is shown whatever came after
        click.echo(tables.outcomes([done[path] for path in paths if path in done]), nl=bool(done))
    for outcome in done.values():
        click.echo(tables.diagnosis(outcome), nl=outcome.diagnosis is not None)
    for path, file in files.items():
        name = done[path].target.header.name
        click.echo(visible(f"all metrics of {name} are in {file}, one row per feature in {path_beside(file)}"))
    info = shlex.join(["sae", "info", paths[0]])
    remedies = [outcome.diagnosis and outcome.diagnosis.command(path) for path, outcome in done.items()]
    remedy = next(filter(None, remedies), None)
    click.echo(f"next: {remedy or next_convert(paths) or _next_comparison(paths, settings) or info}")


def _write(outcome: Outcome, file: Path) -> None:
    """Write a dictionary's JSON file and, beside it, its table of features."""
    from sae.measuring import feature_table

    outcome.write(file)
    feature_table.write(outcome, feature_table.path_beside(file))


def _files(paths: tuple[str, ...], out: Path | None, allow_pickle: bool) -> list[Path]:
    """Return the JSON file of each dictionary. Raises UserError if two would share a file, or one holds others."""
    from sae.common.files import refuse_unwritable
    from sae.formats import peek
    from sae.measuring.tables import file_name

    if out and len(paths) > 1:
        raise UserError(
            f"--out names one file, but there are {len(paths)} dictionaries; leave it out: each gets NAME.metrics.json"
        )
    if out:
        refuse_unwritable(out)
    files = [out or Path(file_name(peek(path, allow_pickle).name)) for path in paths]
    twice = [str(file) for file in files if files.count(file) > 1]
    if twice:
        raise UserError(f"two dictionaries would be written to {twice[0]}; measure them one by one, with --out FILE")
    for file in files:
        _refuse_other(file)
    return files


def _refuse_other(file: Path) -> None:
    """Raise UserError for a file that is there and holds no metrics: the dictionary's own, the model's, a text."""
    from sae.formats.json_checks import read_json

    size = file.stat().st_size if file.is_file() else 0
    try:
        is_ours = not size or (size <= LARGEST_METRICS and "corpus_part" in read_json(file))
    except UserError:
        is_ours = False
    if not is_ours:
        raise UserError(f"{file} is there and holds no metrics of `sae eval`; choose another --out")


def _next_comparison(paths: tuple[str, ...], settings: dict[str, Any]) -> str | None:
    """Return the command that compares the first two dictionaries; None if there are not two, or it was done."""
    if len(paths) < 2 or settings["against"]:
        return None
    given = {"--model": settings["model"], "--hook": settings["hook_point"], "--corpus": settings["corpus"]}
    flags = [word for flag, value in given.items() if value for word in (flag, value)]
    return shlex.join(["sae", "eval", paths[0], "--against", paths[1], *flags])
