"""Defines the command line `sae`: reads arguments, calls the library, prints. Imports nothing heavy at the top."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sae.common.click_group import Command, Commands, Resumable
from sae.common.errors import UserError, visible
from sae.formats.changes import NONE, PROCESSING
from sae.measuring.feature_table import path_beside

if TYPE_CHECKING:
    from sae.measuring.eval_paths import Outcome
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


class Train(Resumable):
    """Lists the presets and the architectures at the end of its help."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write their names, which are read without importing anything heavy."""
        from sae.common.resources import shipped_folder
        from sae.training.architectures.registry import ARCHITECTURES

        presets = sorted(path.stem for path in (shipped_folder("eval_configs") / "train").glob("*.yaml"))
        for title, names in (("Presets", presets), ("Architectures", ARCHITECTURES.names)):
            with formatter.section(title):
                formatter.write_text(", ".join(names))


HOOKS = "blocks.0.mlp.hook_post, or a module of transformers, hf:model.layers.0.mlp (its input: :in)"
CORPUS = "stdlib, a text file, a folder, FILE.jsonl|json|parquet[#COLUMN], also .gz, .zst, or hf:NAME; several: 'A + B'"


@main.command(cls=Train)
@click.argument("config", default="toy")
@click.option(
    "--model",
    metavar="NAME|DIR",
    help="Language model: a name on the Hugging Face hub, a local directory, or `toy`, which is trained here.",
)
@click.option("--hook", metavar="NAME", help=f"Hook point to read activations from: {HOOKS}.")
@click.option("--writes", metavar="NAME", help="Hook point to write: trains transcoders from --hook to it.")
@click.option("--corpus", metavar="SPEC", help=f"Text to train on: {CORPUS}.")
@click.option("--steps", type=click.IntRange(1), metavar="N", help="Number of training steps; overrides the config.")
@click.option(
    "--seed",
    type=click.IntRange(0),
    metavar="N",
    help="Seed of the text's split and of the activations' order; overrides the config.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="K=V",
    help="Change any field of the config, for example dictionaries.0.k=16. Can be given several times.",
)
@click.option("--out", metavar="DIR", help="Folder for the results.  [default: trained/NAME]")
def train(config: str, settings: tuple[str, ...], **flags: Any) -> None:
    """Train all dictionaries of a config at once.

    After an interruption, the same command continues the training.

    CONFIG is a YAML file or the name of a preset. On several CPUs: torchrun --nproc_per_node N -m sae train CONFIG.

    Two features were tested on a CPU but have never run on a GPU: recording a training step as a CUDA graph, and
    training with several GPUs (NCCL). Both are off; turn them on with --set runtime.experimental=true.
    """
    from sae.common.progress import Progress
    from sae.common.settings import parse_settings
    from sae.training.config import load

    given = {TRAIN_FLAGS[name]: value for name, value in flags.items() if value is not None}
    loaded = load(config, given | parse_settings(settings, "dictionaries.0.k=16"))
    from sae.training.session import run

    _print_trained(run(loaded, Progress))


TRAIN_FLAGS = {
    "model": "subject.model",
    "hook": "subject.hook_point",
    "writes": "subject.writes",
    "corpus": "corpus.source",
    "steps": "steps",
    "seed": "seed",
    "out": "runtime.out",
}
"""The config field that each flag sets."""


def _print_trained(trained: Trained) -> None:
    """Print the table of a finished training. Raises UserError if a dictionary could not be finished."""
    from sae.measuring import tables

    about = trained.about
    if not about:  # the first process prints
        return
    click.echo(f"device {about['device']}")
    click.echo(f"{tables.trained(about['dictionaries'])}\n")
    click.echo(f"everything is in {visible(str(trained.folder))}; measured on held-out text")
    if about["problems"]:
        problems = [f"dictionary {name} was not finished: {why}" for name, why in about["problems"].items()]
        raise UserError(f"{'; '.join(problems)}; then train to another --out")
    paths = [str(trained.folder / row["name"]) for row in about["dictionaries"]]
    click.echo(f"next: {shlex.join(['sae', 'eval', *paths])}")


allow_pickle = click.option(
    "--allow-pickle",
    is_flag=True,
    help="Also open pickle files. They are read by a restricted unpickler, which runs no code from the file.",
)


@main.command("eval")
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
    from sae.measuring.eval_paths import Request, eval_paths

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
    click.echo(f"next: {remedy or _next_convert(paths) or _next_comparison(paths, settings) or info}")


def _write(outcome: Outcome, file: Path) -> None:
    """Write a dictionary's JSON file and, beside it, its table of features."""
    from sae.measuring import feature_table

    outcome.write(file)
    feature_table.write(outcome, feature_table.path_beside(file))


def _files(paths: tuple[str, ...], out: Path | None, allow_pickle: bool) -> list[Path]:
    """Return the JSON file of each dictionary. Raises UserError if two would share a file."""
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
    return files


def _next_convert(paths: tuple[str, ...]) -> str | None:
    """Return the command that converts the first pickle file among these; None if there is none."""
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
    click.echo(f"next: {_next_convert((path,)) or shlex.join(['sae', 'eval', path])}")


class Convert(Command):
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


@main.command()
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
