"""Defines the command line: parses, calls the function of the same name, prints. Imports nothing heavy at the top."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from autointerp.records import Status
from autointerp.reporting import Order
from sae.common.click_group import ARGUMENTS, Command, Commands, Resumable

if TYPE_CHECKING:
    from autointerp.runs.savings import Estimate


class AsksModels(Command):
    """Marks a command that asks language models: its help ends with the forms of model specs."""

    def format_epilog(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        from autointerp.llm import specs

        with formatter.section("Model specs"):
            for line in specs.help_lines():
                formatter.write(f"  {line}\n")


class Experiment(AsksModels, Resumable):
    """Marks the command that runs an experiment: it asks language models, and continues after an interruption."""


@click.group(
    "autointerp", cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(package_name="autointerp")
def main() -> None:
    """Measure how interpretable the features of a language model's dictionary are.

    \b
    autointerp run                          the demo: trains a toy model and a sparse dictionary, compares baselines
    autointerp run --dictionary PATH        your own dictionary (in any known format)
    autointerp list                         the runs here with their state and scores
    autointerp show RUN [FEATURE]           a feature with its fragments, explanation and predictions
    autointerp leaderboard RUN ...          several runs in one table
    autointerp calibrate                    what each score says of features whose truth is known
    autointerp check [CONFIG]               whether the language models answer, and what they can do
    autointerp config [SECTION]             every setting with its meaning and default
    autointerp cache info                   the stored answers of language models
    """


class PartOption(click.Option):
    """Names the registered parts in an option's help; looks them up only when the help is printed."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Fill in {baselines}, {explainers}, {simulators} and {scorers}."""
        from autointerp.explainers import EXPLAINERS, LANGUAGE_MODEL
        from autointerp.scorers import SCORERS
        from autointerp.simulators import SIMULATORS
        from sae.baselines.registry import BASELINES

        rows = super().get_help_record(ctx)
        return rows and (
            rows[0],
            rows[1].format(
                explainers=", ".join(n.replace("_", "-") for n in EXPLAINERS.names if n != LANGUAGE_MODEL),
                baselines=", ".join(BASELINES.names),
                simulators=", ".join(SIMULATORS.names),
                scorers=", ".join(SCORERS.names),
            ),
        )


@main.command(cls=Experiment)
@click.argument("config", required=False)
@click.option(
    "--dictionary",
    "dictionaries",
    multiple=True,
    metavar="PATH",
    help="A trained dictionary, in any known format; may be given several times.",
)
@click.option(
    "--model", metavar="NAME|DIR", help="Hub name or Hugging Face directory; default: the one the dictionary names."
)
@click.option(
    "--hook",
    "hooks",
    multiple=True,
    metavar="NAME",
    help="Hook point, such as blocks.0.mlp.hook_post; may be given several times. Default: those of the dictionaries.",
)
@click.option(
    "--corpus",
    "corpora",
    multiple=True,
    metavar="SPEC",
    help="stdlib, a text file, a folder, x.jsonl|json|parquet[#COLUMN], also .gz, .zst; hf:NAME. Repeat for several.",
)
@click.option("--context", type=int, metavar="N", help="Number of tokens that the model sees at once.")
@click.option("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps or auto; default: a GPU if there is one.")
@click.option(
    "--baselines",
    cls=PartOption,
    metavar="LIST",
    help="Some of {baselines}; pca-top32 keeps only the 32 largest features of each vector; 'none' for no baselines.",
)
@click.option(
    "--explainer",
    cls=PartOption,
    metavar="SPEC",
    help="A language model (below), or one of {explainers}; rules-5 writes at most 5 rules. Replaces the config's.",
)
@click.option(
    "--explanations",
    metavar="FILE",
    help="Score these (CSV, JSON, JSONL: dictionary, feature, text); no baselines unless --baselines names some.",
)
@click.option(
    "--simulator",
    cls=PartOption,
    metavar="SPEC",
    help="Predicts activations from explanations: rules, or a language model (below). Registered: {simulators}.",
)
@click.option(
    "--judge",
    metavar="SPEC",
    help="Answers detection, fuzzing, intruder and logits: rules, or a language model (below). Default: the simulator.",
)
@click.option(
    "--scorers",
    cls=PartOption,
    metavar="LIST",
    help="Some of {scorers}; the first is the main one.",
)
@click.option("--features", type=click.IntRange(1), metavar="N", help="Number of features of each dictionary.")
@click.option("--feature-ids", metavar="LIST|FILE", help="These features of the dictionaries, such as 0,5,17.")
@click.option("--seed", type=int, metavar="N", help="Seed of all random choices; default: the config's.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="K=V",
    help="Any setting, such as sampling.fragment=32; may be given several times. `autointerp config` lists them.",
)
@click.option("--out", metavar="DIR", help="The run folder; default: runs/NAME-IDENTITY in the working directory.")
@click.option("--dry-run", is_flag=True, help="Render all prompts and print calls, tokens and cost, without any call.")
@click.option("--max-cost", type=float, metavar="USD", help="Stop before the call that could cost more than is left.")
@click.option(
    "--fail-on-error",
    type=float,
    metavar="SHARE",
    help="Stop when a larger share of the results are errors; default: 0.05.",
)
@click.option(
    "--no-check",
    "check",
    flag_value=False,
    type=bool,
    default=None,
    help="Do not ask each model for one token before anything slow starts.",
)
@click.option(
    "--batch", is_flag=True, default=None, help="Use the providers' batch APIs: half the price, within a day."
)
@click.option("--quiet", is_flag=True, help="Print only the run folder; what is wrong goes to the standard error.")
@click.option("--verbose", is_flag=True, help="Also print calls that fail and are retried, as the run's log does.")
def run(
    config: str | None,
    dictionaries: tuple[str, ...],
    hooks: tuple[str, ...],
    corpora: tuple[str, ...],
    settings: tuple[str, ...],
    dry_run: bool,
    quiet: bool,
    verbose: bool,
    **flags: Any,
) -> None:
    """Sample, explain, simulate, score and compare; the same command resumes.

    CONFIG is a YAML file or the name of a shipped one. Without it: `demo`, or `dictionary` when --dictionary is given
    (`judged` if the simulator or the judge is a language model).
    """
    from autointerp import api
    from autointerp.config import load
    from autointerp.reporting import terminal
    from autointerp.store import RunFolder
    from sae.common.errors import UserError, visible
    from sae.common.progress import Progress, Quiet
    from sae.common.settings import parse_settings

    if quiet and verbose:
        raise UserError("--quiet and --verbose contradict each other; leave one out")
    report = Quiet if quiet else Progress
    name = config if config is not None else _default_config(bool(dictionaries), flags["simulator"], flags["judge"])
    changes = _changes(flags) | parse_settings(settings, "sampling.features=50")
    if hooks:
        changes["subject.hook_points"] = list(hooks)
    if corpora:
        changes["corpus.source"] = " + ".join(corpora)
    if dictionaries:
        changes["dictionaries.load"] = list(dictionaries)
    experiment = load(name, changes)
    if dry_run:
        _print_estimate(api.estimate(experiment, report=report))
        return
    with _messages() if verbose else nullcontext():
        done = api.run(experiment, report=report)
    if quiet:
        click.echo(visible(str(done.path)))
    else:
        terminal.print_outcome(RunFolder(done.path))


def _print_estimate(estimated: Estimate) -> None:
    """Print a dry run, with the same command without --dry-run as the next one."""
    from autointerp.llm import estimate
    from autointerp.reporting import terminal

    words = [word for word in click.get_current_context().meta[ARGUMENTS] if word != "--dry-run"]
    saved = {saving.flags: saving.share for saving in estimated.savings}
    command = shlex.join(["autointerp", "run", *words])
    terminal.print_estimate(estimate.rows(estimated.stages), estimated.prices, estimated.features, saved, command)


@contextmanager
def _messages() -> Iterator[None]:
    """Print on the standard error what is logged inside the block, but for the progress, which is shown anyway."""
    import logging

    handler, loggers = logging.StreamHandler(), [logging.getLogger(name) for name in ("autointerp", "sae")]
    handler.addFilter(lambda record: record.name != "sae.common.progress")
    before = [logger.level for logger in loggers]
    logging.getLogger().addHandler(handler)
    for logger in loggers:
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _default_config(own_dictionary: bool, simulator: str | None, judge: str | None) -> str:
    """Return the name of the shipped config that suits the flags."""
    if not own_dictionary:
        return "demo"
    return "dictionary" if {simulator, judge} <= {None, "rules"} else "judged"


FLAGS = {
    "model": "subject.model",
    "context": "corpus.context",
    "device": "runtime.device",
    "simulator": "simulator",
    "judge": "judge",
    "features": "sampling.features",
    "seed": "seed",
    "out": "runtime.out",
    "max_cost": "runtime.max_cost",
    "fail_on_error": "runtime.fail_on_error",
    "batch": "runtime.batch",
    "check": "runtime.check",
}
"""The config field behind each plain flag."""


def _changes(flags: dict[str, Any]) -> dict[str, Any]:
    """Return the changes of the config that the flags mean."""
    given = {name: value for name, value in flags.items() if value is not None}
    changes = {FLAGS[name]: value for name, value in given.items() if name in FLAGS}
    if "explainer" in given:
        changes["explainers"] = [given["explainer"]]
    if "explanations" in given:
        changes |= {"explainers": [f"file:{given['explanations']}"], "dictionaries.baselines": []}
    if "feature_ids" in given:
        numbers = _numbers(given["feature_ids"])
        changes = {"sampling.features": len(numbers)} | changes | {"sampling.feature_ids": {"": numbers}}
    for flag, field in (("baselines", "dictionaries.baselines"), ("scorers", "scorers")):
        if flag in given:
            names = [name.strip() for name in given[flag].split(",")]
            changes[field] = [name for name in names if name not in ("", "none")]
    return changes


def _numbers(given: str) -> list[int]:
    """Read a list of numbers, or a file of them. Raises UserError if it is neither."""
    from sae.common.errors import UserError

    words = re.split(r"[\s,]+", (Path(given).read_text("utf-8") if Path(given).is_file() else given).strip())
    if not all(word.isdecimal() for word in words):
        wrong = next(word for word in words if not word.isdecimal())
        raise UserError(f"--feature-ids: {wrong[:40]!r} is neither a file nor a whole number; write 0,5,17 or a file")
    return sorted({int(word) for word in words})


OUTPUT = click.Path(dir_okay=False, path_type=Path)


@main.command("config")
@click.argument("section", required=False, default="")
def show_settings(section: str) -> None:
    """Print every setting with its meaning and default, as YAML that `autointerp run` reads.

    SECTION is a section or a setting by its dotted name, such as detection, sampling.explain or dictionaries.train.

    \b
    autointerp config > mine.yaml           a config to change
    autointerp config detection             the settings of one scorer
    """
    from autointerp.config import Config
    from autointerp.reference import settings_yaml

    click.echo(settings_yaml(Config(), section), nl=False)


@main.command(cls=AsksModels)
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

    found = api.check(config, _changes(flags))
    if not found:
        click.echo("this config asks no model of an API; next: autointerp run")
        return
    levels = list(found[0].efforts)
    names = ["model", "schema", "log-probabilities", "echo", *(f"effort {level}" for level in levels)]
    rows = [[item.model, item.schema, item.logprobs, item.echo, *item.efforts.values()] for item in found]
    print_tables([Table(names, rows)])
    click.echo("\nnext: autointerp run --dry-run")


@main.command()
@click.argument("folder", metavar="RUN")
@click.argument("feature", required=False)
@click.option(
    "--dictionary", "dictionaries", multiple=True, metavar="NAME", help="List its features; may be given several times."
)
@click.option("--sort", type=click.Choice(get_args(Order)), help="Default: best first, dictionary by dictionary.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="List at most N features.")
@click.option("--below", type=float, metavar="X", help="List features whose main score is less than X.")
@click.option("--status", "statuses", multiple=True, type=click.Choice(get_args(Status)), help="List features with it.")
@click.option("--explainer", metavar="NAME", help="Show this explainer's explanations; default: the main one's.")
@click.option("--all", "everything", is_flag=True, help="Also show the other explanations of FEATURE.")
@click.option("--colour/--no-colour", default=None, help="Shade activations in colour; default: on a terminal.")
def show(
    folder: str, feature: str | None, explainer: str | None, everything: bool, colour: bool | None, **listed: Any
) -> None:
    """Print the features of a run, or one of them.

    RUN is a run folder. Without FEATURE, all sampled features are listed with their scores and explanations. FEATURE
    is a name from that list, such as topk_4x/1234: its explanation and scores, the fragments it was explained from,
    and the fragments it was scored on, with true and predicted activations; paged on a terminal.

    Without colour, an activation is a digit from 1 to 9 behind the token in brackets: [token]9.

    \b
    autointerp show RUN --sort worst --limit 20
    autointerp show RUN --dictionary topk_4x --below 0.1
    """
    from autointerp.api import open_run
    from autointerp.reporting import lists, terminal
    from autointerp.store import RunFolder
    from sae.common.errors import UserError
    from sae.common.tables import print_tables

    if feature is not None and any(listed.values()):
        flag = {"dictionaries": "dictionary", "statuses": "status"}
        name = next(name for name, value in listed.items() if value)
        raise UserError(f"--{flag.get(name, name)} is for the list of features; leave it out, or FEATURE")
    opened = RunFolder(open_run(folder).path)
    if feature is None:
        features = lists.feature_list(opened, lists.Selection(explainer=explainer, **listed))
        print_tables([features])
        first = next((row[0] for row in features.rows if row[0].isprintable()), None)
        dashes = ["--"] if first and first.startswith("-") else []
        onward = ["show", folder, *dashes, first] if first else ["leaderboard", folder]
        click.echo(f"\nnext: {shlex.join(['autointerp', *onward])}")
        return
    in_colour = sys.stdout.isatty() if colour is None else colour
    _echo_paged(terminal.feature_page(opened, feature, in_colour, explainer, everything))


def _echo_paged(text: str) -> None:
    """Print a text; with a pager, if there is one, where it is longer than the terminal."""
    if sys.stdout.isatty() and text.count("\n") >= shutil.get_terminal_size().lines:
        click.echo_via_pager(text, color=True)
    else:
        click.echo(text, color=True)


@main.command("list")
@click.argument("folder", default=".", metavar="[FOLDER]")
def list_runs(folder: str) -> None:
    """List the runs here with their state and mean scores.

    FOLDER is looked through, and two levels of folders below it; default: the working directory.
    """
    from autointerp.reporting import lists
    from sae.common.resources import path_of
    from sae.common.tables import print_tables

    runs = lists.run_list(path_of(folder))
    if not runs.rows:
        click.echo("no runs here\nnext: autointerp run")
        return
    print_tables([runs])
    click.echo(f"\nnext: {shlex.join(['autointerp', 'show', runs.rows[-1][0]])}")


@main.command()
@click.argument("folders", metavar="RUN ...", nargs=-1, required=True)
@click.option("--csv", type=OUTPUT, metavar="FILE", help="Also write all rows to FILE.")
@click.option("--markdown", type=OUTPUT, metavar="FILE", help="Also write the tables to FILE.")
@click.option("--latex", type=OUTPUT, metavar="FILE", help="Also write the tables to FILE, for LaTeX with booktabs.")
@click.option("--rebuild", is_flag=True, help="First make each run's tables and pictures again from its results.")
def leaderboard(
    folders: tuple[str, ...], csv: Path | None, markdown: Path | None, latex: Path | None, rebuild: bool
) -> None:
    """Print the scores of one finished run, or of several in one table.

    Each RUN is a run folder. Several runs may be of different models and corpora: a dictionary is then named
    RUN:DICTIONARY, and its model and corpus stand beside it.
    """
    from autointerp.reporting import leaderboard, tables
    from autointerp.runs import opening
    from sae.common.files import refuse_unwritable, write_atomic
    from sae.common.tables import print_tables, to_latex, to_markdown

    for file in filter(None, (csv, markdown, latex)):
        refuse_unwritable(file)

    opened = [opening.open_folder(folder) for folder in folders]
    for folder in opened if rebuild else ():
        opening.rebuild(folder)
    rows = leaderboard.merge([folder.path for folder in opened])
    merged = tables.all_tables(rows, [])
    print_tables(merged)
    if csv:
        write_atomic(csv, leaderboard.to_csv(rows))
        click.echo(f"\nall rows are in {csv}")
    for path, rendered in ((markdown, to_markdown), (latex, to_latex)):
        if path:
            write_atomic(path, rendered(merged))
            click.echo(f"\nthe tables are in {path}")


@main.command(cls=AsksModels)
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


@main.group()
def cache() -> None:
    """Inspect, export or clear the stored answers of language models.

    Every answer is kept in the user's cache folder (AUTOINTERP_CACHE overrides it) and shared by all runs, so that no
    call is paid for twice.
    """


@cache.command()
def info() -> None:
    """Print where the answers are, how many there are, and their size."""
    from autointerp import api

    for name, value in api.answers().info().items():
        click.echo(f"{name}: {value:,}" if isinstance(value, int) else f"{name}: {value}")


@cache.command()
@click.argument("file", type=OUTPUT)
def export(file: Path) -> None:
    """Write all answers to FILE as JSON lines.

    Each line has the fields key, request and answer.
    """
    import json

    from autointerp import api
    from sae.common.files import write_atomic_with

    def write(path: Path) -> None:
        with path.open("w", encoding="utf-8") as stream:
            for entry in api.answers().export():
                stream.write(json.dumps(entry) + "\n")

    write_atomic_with(file, write)
    click.echo(f"all answers are in {file}")


@cache.command()
@click.option("--yes", is_flag=True, help="Delete without asking for confirmation.")
def clear(yes: bool) -> None:
    """Delete all answers. Runs that need them again pay for them again."""
    from autointerp import api

    answers = api.answers()
    count = answers.info()["entries"]
    if yes or click.confirm(f"delete {count:,} answers in {answers.path}?"):
        click.echo(f"deleted {answers.clear():,} answers")
