"""Defines the command that runs an experiment: run."""

from __future__ import annotations

import shlex
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import click

from autointerp.cli.options import AsksModels, PartOption, changes_of, messages
from autointerp.cli.suites import run_suite
from sae.common.click_group import ARGUMENTS, Resumable

if TYPE_CHECKING:
    from autointerp.config import Config
    from autointerp.runs.savings import Estimate
    from sae.common.progress import Report


class Experiment(AsksModels, Resumable):
    """Marks the command that runs an experiment: it asks language models, and continues after an interruption."""


MOST_SEEDS, LARGEST_SEED = 1000, 2**63 - 1
"""How often --seeds may run, and the largest seed that a config takes."""


@click.command(cls=Experiment)
@click.argument("config", required=False)
@click.option(
    "--dictionary",
    "dictionaries",
    multiple=True,
    metavar="PATH|HUB",
    help="A trained dictionary in any known format; hf:OWNER/REPO[/PATH][@REVISION] and saelens:RELEASE/SAE_ID are "
    "fetched from the hub. May be given several times.",
)
@click.option(
    "--model", metavar="NAME|DIR", help="Hub name or Hugging Face directory; default: the one the dictionary names."
)
@click.option(
    "--hook",
    "hooks",
    multiple=True,
    metavar="NAME",
    help="Hook point: blocks.0.mlp.hook_post, or a module of transformers, hf:model.layers.0.mlp (its input: :in). Can "
    "be given several times. Default: those of the dictionaries.",
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
    multiple=True,
    metavar="FILE",
    help="Score these (CSV, JSON, JSONL: dictionary, feature, text, explainer), each author's beside the others' and "
    "--explainer's, on the features that all explain; repeatable. No baselines unless --baselines names some.",
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
    help="Answers detection, fuzzing, intruder, logits, effect: rules, or a language model (below). Default: the "
    "simulator.",
)
@click.option(
    "--scorers",
    cls=PartOption,
    metavar="LIST",
    help="Some of {scorers}; the first is the main one.",
)
@click.option(
    "--preset",
    cls=PartOption,
    metavar="NAME",
    help="Follow a published protocol: {presets}. It overrides CONFIG, and other flags override it; it names no model. "
    "`autointerp config --preset NAME` shows what it matches.",
)
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    help="Where sampling reads the text and rules score: local, here (default); ray, in processes of Ray, on this "
    "machine or on the cluster that RAY_ADDRESS names. The results are the same; models are called from here.",
)
@click.option("--features", type=click.IntRange(1), metavar="N", help="Number of features of each dictionary.")
@click.option("--feature-ids", metavar="LIST|FILE", help="These features of the dictionaries, such as 0,5,17.")
@click.option("--seed", type=int, metavar="N", help="Seed of all random choices; default: the config's.")
@click.option(
    "--seeds",
    type=click.IntRange(2),
    metavar="N",
    help="Run N times, with this seed and the next ones, each a run folder (DIR/seed-K with --out), and print the mean "
    "over seeds; features' stability, too, where all seeds have one model. --max-cost is shared evenly.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="K=V",
    help="Any setting, such as sampling.fragment=32; may be given several times. `autointerp config` lists them.",
)
@click.option("--out", metavar="DIR", help="The run folder; default: runs/NAME-IDENTITY in the working directory.")
@click.option("--dry-run", is_flag=True, help="Render all prompts and print calls, tokens and cost, without any call.")
@click.option(
    "--until-resolved",
    is_flag=True,
    default=None,
    help="Score features in rounds, and stop with those dictionaries of which every pair, and the lead over the best "
    "control, is separated or proven equal, by intervals of 95% for all rounds and comparisons together. Where models "
    "are asked, rules score more features than are judged, for nothing; these scores correct the differences in the "
    "table of what is resolved, and no means in other tables.",
)
@click.option(
    "--difference",
    type=float,
    metavar="D",
    help="With --until-resolved: means that differ by less are equal; default: 0.05.",
)
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
    "--no-site", "site", flag_value=False, type=bool, default=None, help="Do not write the run's pages (RUN/site)."
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
    preset: str | None,
    seeds: int | None,
    dry_run: bool,
    quiet: bool,
    verbose: bool,
    **flags: Any,
) -> None:
    """Sample, explain, simulate, score and compare; the same command resumes.

    CONFIG is a YAML file or the name of a shipped one. Without it: `demo`, or `dictionary` when --dictionary is given
    (`judged` if the simulator or the judge is a language model). A file with a section `suite` is several runs,
    merged into one table (shipped: suites/toys); --max-cost is then for all of them.
    """
    from autointerp import presets, suites
    from autointerp.config import load
    from sae.common.errors import UserError
    from sae.common.progress import Progress, Quiet
    from sae.common.settings import parse_settings

    if quiet and verbose:
        raise UserError("--quiet and --verbose contradict each other; leave one out")
    if seeds and dry_run:
        raise UserError(f"--dry-run is of one run; leave --seeds out, and multiply the cost by {seeds}")
    if flags["difference"] is not None and not flags["until_resolved"]:
        raise UserError("--difference is for --until-resolved; add that, or leave it out")
    name = config if config is not None else _default_config(bool(dictionaries), flags["simulator"], flags["judge"])
    listed = {
        "subject.hook_points": list(hooks),
        "corpus.source": " + ".join(corpora),
        "dictionaries.load": list(dictionaries),
    }
    given = {field: value for field, value in listed.items() if value}
    changes = presets.under(preset, changes_of(flags) | parse_settings(settings, "sampling.features=50") | given)
    report = Quiet if quiet else Progress
    with messages() if verbose else nullcontext():
        if not suites.is_suite(name):
            _run(load(name, changes), seeds, dry_run, quiet, report)
            return
        if seeds:
            raise UserError("--seeds is of one run; in a suite make the seed an axis: seeds: {s0: {seed: 0}, s1: ...}")
        run_suite(name, changes, dry_run, quiet, report)


def _run(experiment: Config, seeds: int | None, dry_run: bool, quiet: bool, report: Report) -> None:
    """Run an experiment, once or from several seeds, or say what it would cost, and print the outcome."""
    from autointerp import api
    from autointerp.reporting import terminal
    from autointerp.store import RunFolder
    from sae.common.errors import visible

    if dry_run:
        _print_estimate(api.estimate(experiment, report=report))
        return
    experiments = _with_seeds(experiment, seeds) if seeds else [experiment]
    done = [RunFolder(api.run(one, report=report).path) for one in experiments]
    if seeds:
        from autointerp.runs.stability import measure_over_seeds

        measure_over_seeds(done, report)
    if quiet:
        click.echo("\n".join(visible(str(folder.path)) for folder in done))
    elif seeds:
        terminal.print_seeds(done)
    else:
        terminal.print_outcome(done[0])


def _with_seeds(experiment: Config, seeds: int) -> list[Config]:
    """Return the experiment with its seed and the next ones; they share what may be spent evenly.

    Raises UserError if there are too many, or one is larger than a seed may be.
    """
    from sae.common.errors import UserError

    runtime, last = experiment.runtime, experiment.seed + seeds - 1
    if seeds > MOST_SEEDS or last > LARGEST_SEED:
        raise UserError(
            f"--seeds {seeds} ends with seed {last}; give at most {MOST_SEEDS:,}, none above {LARGEST_SEED}"
        )
    cost = None if runtime.max_cost is None else runtime.max_cost / seeds
    outs = {
        seed: None if runtime.out is None else f"{runtime.out}/seed-{seed}"
        for seed in range(experiment.seed, experiment.seed + seeds)
    }
    return [
        experiment.model_copy(
            update={"seed": seed, "runtime": runtime.model_copy(update={"out": out, "max_cost": cost})}
        )
        for seed, out in outs.items()
    ]


def _print_estimate(estimated: Estimate) -> None:
    """Print a dry run, with the same command without --dry-run as the next one."""
    from autointerp.llm import estimate
    from autointerp.reporting import terminal

    words = [word for word in click.get_current_context().meta[ARGUMENTS] if word != "--dry-run"]
    saved = {saving.flags: saving.share for saving in estimated.savings}
    command = shlex.join(["autointerp", "run", *words])
    terminal.print_estimate(
        estimate.rows(estimated.stages), estimated.prices, estimated.features, saved, command, estimated.expected
    )


def _default_config(own_dictionary: bool, simulator: str | None, judge: str | None) -> str:
    """Return the name of the shipped config that suits the flags."""
    if not own_dictionary:
        return "demo"
    return "dictionary" if {simulator, judge} <= {None, "rules"} else "judged"
