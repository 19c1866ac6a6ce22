"""The command line `sae`: parse, call the library, print. Imports nothing heavy at the top."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sae.common.click_group import Commands, Resumable
from sae.common.errors import UserError
from sae.measuring.feature_table import place_beside

if TYPE_CHECKING:
    from sae.formats.header import Header
    from sae.measuring.eval_paths import Outcome
    from sae.measuring.info import Account, Weights
    from sae.training.session import Trained


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
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Show the version."
)
def main() -> None:
    """Train, measure and convert dictionaries of a language model's activations.

    \b
    sae train [CONFIG]                several dictionaries in one pass over the text; without CONFIG, a toy's
    sae info PATH                     what a dictionary says of itself, and its weights; no model needed
    sae eval PATH                     L0, FVU, CE recovered, densities, on text
    sae eval PATH --against OTHER     and how alike two dictionaries are: MMCS, universality
    sae convert PATH OUT              any known format into ours or SAELens'
    """


@main.command(cls=Resumable)
@click.argument("config", default="toy")
@click.option("--model", metavar="NAME|DIR", help="Hub name, Hugging Face directory, or toy: trained here.")
@click.option("--hook", metavar="NAME", help="As blocks.0.mlp.hook_post.")
@click.option(
    "--corpus", metavar="SPEC", help="stdlib, a text file, a folder, x.jsonl[#COLUMN], x.parquet[#COLUMN], hf:NAME."
)
@click.option("--steps", type=click.IntRange(1), metavar="N", help="Of training, whatever the config says.")
@click.option("--seed", type=click.IntRange(0), metavar="N", help="Of the text's split and order.")
@click.option(
    "--set", "settings", multiple=True, metavar="K=V", help="Any config field: dictionaries.0.k=16; repeatable."
)
@click.option("--out", metavar="DIR", help="Default: trained/NAME here.")
def train(config: str, settings: tuple[str, ...], **flags: Any) -> None:
    """Train the dictionaries of a config; the same command resumes a stopped training.

    CONFIG is a YAML file or the name of a shipped recipe. With several GPUs: torchrun --nproc_per_node N -m sae train.
    """
    from sae.common.progress import Progress
    from sae.common.settings import parse_settings
    from sae.training.config import load

    given = {TRAIN_FLAGS[name]: value for name, value in flags.items() if value is not None}
    chosen = load(config, given | parse_settings(settings, "dictionaries.0.k=16"))
    from sae.training.session import run

    _print_trained(run(chosen, Progress))


TRAIN_FLAGS = {
    "model": "subject.model",
    "hook": "subject.hook_point",
    "corpus": "corpus.source",
    "steps": "steps",
    "seed": "seed",
    "out": "runtime.out",
}
"""The config field behind each plain flag."""


def _print_trained(trained: Trained) -> None:
    """The table at the end; a dictionary that could not be finished is a mistake of the config's."""
    from sae.measuring import tables

    about = trained.about
    if not about:  # the first process prints
        return
    click.echo(f"device {about['device']}")
    click.echo(f"{tables.trained(about['dictionaries'])}\n")
    click.echo(f"everything is in {trained.folder}; measured on held-out text")
    if about["problems"]:
        told = "; ".join(f"dictionary {name} was not finished: {said}" for name, said in about["problems"].items())
        raise UserError(f"{told}; then train to another --out")
    paths = [str(trained.folder / row["name"]) for row in about["dictionaries"]]
    click.echo(f"next: {shlex.join(['sae', 'eval', *paths])}")


allow_pickle = click.option(
    "--allow-pickle", is_flag=True, help="Open pickles too, by an unpickler that runs nothing of the file."
)


@main.command("eval")
@click.argument("paths", metavar="PATH ...", nargs=-1, required=True)
@click.option(
    "--model", metavar="NAME|DIR", help="Hub name or Hugging Face directory; default: what the dictionary says."
)
@click.option(
    "--hook", "hook_point", metavar="NAME", help="As blocks.0.mlp.hook_post; default: what the dictionary says."
)
@click.option(
    "--corpus",
    metavar="SPEC",
    help="stdlib, a text file, a folder, x.jsonl[#COLUMN], x.parquet[#COLUMN], hf:NAME; default: the one trained on, "
    "if the dictionary says, or stdlib. Of the one trained on, only what was held out is read.",
)
@click.option(
    "--tokens", type=click.IntRange(1), metavar="N", default=1_000_000, show_default=True, help="Or all there are."
)
@click.option("--context", type=click.IntRange(2), metavar="N", help="Tokens of a block; default: as trained, or 128.")
@click.option("--against", metavar="PATH", help="Compare with this dictionary: MMCS and universality, both ways.")
@click.option("--against-model", metavar="NAME|DIR", help="Its model; default: what it says, then --model.")
@click.option("--against-hook", "against_hook_point", metavar="NAME", help="Its hook point; likewise.")
@click.option(
    "--bos/--no-bos",
    "prepend_bos",
    default=None,
    help="A BOS token before each block; default: what the dictionary says, or as the model is used to.",
)
@click.option(
    "--cosines/--no-cosines",
    default=True,
    show_default=True,
    help="Compare every decoder direction with every other; long for a hundred thousand features.",
)
@click.option("--device", default="auto", show_default=True, metavar="NAME", help="auto, cpu, cuda, cuda:1.")
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, metavar="N", help="Draws the blocks for the CE."
)
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Default: NAME.metrics.json here."
)
@allow_pickle
def evaluate(paths: tuple[str, ...], out: Path | None, **settings: Any) -> None:
    """Measure dictionaries on text, in any format that is known; print a table, write JSON and a row per feature.

    Dictionaries of one model and hook point share one pass of the model.
    """
    files = dict(zip(paths, _files(paths, out, settings["allow_pickle"]), strict=True))
    from sae.measuring.eval_paths import Request, eval_paths

    done: dict[str, Outcome] = {}

    def keep(outcome: Outcome) -> None:
        done[outcome.place.path] = outcome
        _write(outcome, files[outcome.place.path])

    try:
        eval_paths(Request(paths=paths, **settings), tell=keep)
    finally:  # what was measured is shown whatever came after
        _print_outcomes([done[path] for path in paths if path in done])
    for path, file in files.items():
        click.echo(f"all of {done[path].place.header.name} is in {file}, a row per feature in {place_beside(file)}")
    info = shlex.join(["sae", "info", paths[0]])
    click.echo(f"next: {_next_convert(paths) or _next_comparison(paths, settings) or info}")


def _write(outcome: Outcome, file: Path) -> None:
    from sae.measuring import feature_table

    outcome.write(file)
    feature_table.write(outcome, feature_table.place_beside(file))


def _files(paths: tuple[str, ...], out: Path | None, allow_pickle: bool) -> list[Path]:
    """Where each dictionary's JSON goes. Raises UserError where two would share a file."""
    from sae.formats import peek
    from sae.measuring.tables import file_name

    if out and len(paths) > 1:
        raise UserError(f"--out is one file, but there are {len(paths)} dictionaries; each gets NAME.metrics.json here")
    files = [out or Path(file_name(peek(path, allow_pickle).name)) for path in paths]
    twice = [str(file) for file in files if files.count(file) > 1]
    if twice:
        raise UserError(f"two dictionaries would be written to {twice[0]}; measure them apart, with --out FILE")
    return files


def _print_outcomes(outcomes: list[Outcome]) -> None:
    from sae.measuring import tables

    if not outcomes:
        return
    text = outcomes[0].text
    click.echo(f"device {text.device}: {text.device_reason}")
    for outcome in outcomes:
        bos = "a BOS token before each block" if outcome.prepend_bos else "no BOS token"
        click.echo(f"{outcome.place.header.name}: {outcome.place.model} at {outcome.place.hook_point}, {bos}")
        for note in outcome.notes:
            click.echo(f"  {note}")
    click.echo("\n".join(tables.texts(outcomes)))
    click.echo(f"\n{tables.evaluations(outcomes)}\n")


def _next_convert(paths: tuple[str, ...]) -> str | None:
    """The command that makes the first pickle among these something else, which every other command opens."""
    from sae import formats

    pickled = [path for path in paths if formats.recognise(path).format.pickled]
    return f"{shlex.join(['sae', 'convert', pickled[0], 'OUT', '--allow-pickle'])}" if pickled else None


def _next_comparison(paths: tuple[str, ...], settings: dict[str, Any]) -> str | None:
    """Return the command that compares the first two dictionaries; None if there are not two, or it was done."""
    if len(paths) < 2 or settings["against"]:
        return None
    given = {"--model": settings["model"], "--hook": settings["hook_point"], "--corpus": settings["corpus"]}
    flags = [word for flag, value in given.items() if value for word in (flag, value)]
    return shlex.join(["sae", "eval", paths[0], "--against", paths[1], *flags])


@main.command()
@click.argument("path")
@click.option("--cosines", is_flag=True, help="Also compare every decoder direction with every other.")
@allow_pickle
def info(path: str, cosines: bool, allow_pickle: bool) -> None:
    """Say what a dictionary is: format, size, model, recipe, norms. No model is loaded."""
    from sae.measuring import info as library

    _print_account(library.account(path, allow_pickle))  # before torch is loaded and the weights are read
    _print_weights(library.weights(path, cosines, allow_pickle))
    click.echo(f"next: {_next_convert((path,)) or shlex.join(['sae', 'eval', path])}")


def _print_account(account: Account) -> None:
    from sae.measuring import tables

    header = account.header
    bos = {None: "not said", True: "yes", False: "no"}[header.prepend_bos]
    rows = {
        "name": header.name,
        "format": f"{account.format}, {account.place}",
        "model": header.model or "not said",
        **_hook_points(header),
        "BOS token in front": bos,
        "processing of the model": _processing(header.processing),
        "width": f"{header.d_in:,}",
        "features": f"{header.n_features:,}",
    }
    rows |= {f"note {number}": note for number, note in enumerate(getattr(header, "notes", ()), start=1)}
    click.echo(tables.listed(rows))


def _hook_points(header: Header) -> dict[str, str]:
    """Return one row for a dictionary that writes what it reads, two rows for any other."""
    if header.reads == header.writes:
        return {"hook point": header.hook_point or "not said"}
    return {"reads": ", ".join(header.reads), "writes": ", ".join(header.writes) or "not said"}


def _processing(said: Mapping[str, Any] | None) -> str:
    if said is None:
        return "not said"
    return ", ".join(f"{name}={value}" for name, value in said.items()) or "none"


def _print_weights(weights: Weights) -> None:
    from sae.measuring import tables

    dictionary, directions = weights.dictionary, weights.directions
    rows = {
        "kind": dictionary.kind,
        "activation": weights.activation,
        "normalisation of the input": dictionary.normalisation,
        "weights on disk": ", ".join(weights.stored) or "not said",
        "decoder norm: smallest, median, largest": tables.spread(directions.decoder_norms),
        "cosine of encoder and decoder: 5%, median, 95%": tables.nearest(directions.paired),
    }
    if directions.nearest:
        rows["cosine with the nearest other: 5%, median, 95%"] = tables.nearest(directions.nearest)
    click.echo(tables.listed(rows))
    if dictionary.metadata:
        click.echo(f"recorded:\n{tables.listed(dict(tables.recorded(dictionary.metadata)))}")


class Convert(click.Command):
    """Lists the known formats at the end of its help."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write every format with its files and whether it can be written."""
        from sae.formats.registry import FORMATS

        with formatter.section("Formats"):
            known = FORMATS.all().items()
            formatter.write_dl([(name, f"{it.files}; read{' and written' if it.save else ''}") for name, it in known])


@main.command(cls=Convert)
@click.argument("path")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--format", "format_name", default="own", show_default=True, metavar="NAME", help="Format to write.")
@allow_pickle
def convert(path: str, out: Path, format_name: str, allow_pickle: bool) -> None:
    """Read a dictionary in any known format and write it to the new folder OUT in another."""
    from sae import formats

    made = formats.convert(path, out, format_name, allow_pickle)
    click.echo(f"{made.name}: {made.n_features:,} features of width {made.d_in:,} are in {out}")
    click.echo(f"next: {shlex.join(['sae', 'info', str(out)])}")
