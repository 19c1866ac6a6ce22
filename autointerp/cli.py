"""The command line: parse, call the library function of the same name, print. Imports nothing heavy at the top."""

import sys
from pathlib import Path
from typing import Any

import click

from sae.common.click_group import Commands, Resumable


class AsksModels(Resumable):
    """A command that asks language models: its help ends with the forms of model specs."""

    def format_epilog(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        from autointerp.llm import specs

        with formatter.section("Model specs"):
            for line in specs.help_lines():
                formatter.write(f"  {line}\n")


@click.group(
    "autointerp", cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(package_name="autointerp")
def main() -> None:
    """Measure how interpretable the features of a language model's dictionary are.

    \b
    autointerp run                          the demo: trains a toy model and a sparse dictionary, compares baselines
    autointerp run --dictionary PATH        your own dictionary (in any known format)
    autointerp show RUN [FEATURE]           a feature with its excerpts, explanation and predictions
    autointerp leaderboard RUN ...          several runs in one table
    autointerp cache info                   the paid answers that are kept
    """


@main.command(cls=AsksModels)
@click.argument("config", required=False)
@click.option("--dictionary", "dictionaries", multiple=True, metavar="PATH", help="A trained dictionary; repeatable.")
@click.option(
    "--model", metavar="NAME|DIR", help="Hub name or Hugging Face directory; default: what the dictionary says."
)
@click.option(
    "--hook", metavar="NAME", help="Hook point, as blocks.0.mlp.hook_post; default: what the dictionary says."
)
@click.option(
    "--corpus", metavar="SPEC", help="stdlib, a text file, a folder, x.jsonl[#COLUMN], x.parquet[#COLUMN], hf:NAME."
)
@click.option(
    "--baselines",
    metavar="LIST",
    help="From neurons,pca,ica,nmf,random,random_matched, or the k largest of each vector: pca-top32; 'none' for none.",
)
@click.option(
    "--explainer", metavar="SPEC", help="rules-N, token-table, or a model spec (below); replaces the config's list."
)
@click.option("--simulator", metavar="SPEC", help="rules, or a model spec (below): the model that all scorers ask.")
@click.option(
    "--scorers",
    metavar="LIST",
    help="From simulation,detection,fuzzing,intruder,embedding,example_embedding; the first is the main one.",
)
@click.option("--features", type=click.IntRange(1), metavar="N", help="Features of each dictionary.")
@click.option("--seed", type=int, metavar="N")
@click.option(
    "--set", "settings", multiple=True, metavar="K=V", help="Any config field: sampling.fragment=32; repeatable."
)
@click.option("--out", metavar="DIR", help="The run folder; default: runs/NAME-IDENTITY here.")
@click.option("--dry-run", is_flag=True, help="Render the prompts and print calls, tokens and cost; call nobody.")
@click.option("--max-cost", type=float, metavar="USD", help="Stop before the call that could pass it.")
@click.option("--fail-on-error", type=float, metavar="SHARE", help="Stop when more results are errors; default 0.05.")
@click.option("--batch", is_flag=True, default=None, help="Provider batches: half the price, within a day.")
def run(
    config: str | None, dictionaries: tuple[str, ...], settings: tuple[str, ...], dry_run: bool, **flags: Any
) -> None:
    """Sample, explain, simulate, score and compare; the same command resumes.

    CONFIG is a YAML file or the name of a shipped one. Without it: `demo`, or `dictionary` when --dictionary is given
    (`judged` if the simulator is a language model).
    """
    from autointerp import api
    from autointerp.config import load
    from autointerp.store import RunFolder
    from sae.common.settings import parse_settings

    name = config or _usual_config(bool(dictionaries), flags["simulator"])
    changes = _changes(flags) | parse_settings(settings, "sampling.features=50")
    if dictionaries:
        changes["dictionaries.load"] = list(dictionaries)
    chosen = load(name, changes)
    if dry_run:
        _print_estimate(api.estimate(chosen))
    else:
        _print_outcome(RunFolder(api.run(chosen).path))


def _usual_config(own_dictionary: bool, simulator: str | None) -> str:
    if not own_dictionary:
        return "demo"
    return "dictionary" if simulator in (None, "rules") else "judged"


FLAGS = {
    "model": "subject.model",
    "hook": "subject.hook_point",
    "corpus": "corpus.source",
    "simulator": "simulator",
    "features": "sampling.features",
    "seed": "seed",
    "out": "runtime.out",
    "max_cost": "runtime.max_cost",
    "fail_on_error": "runtime.fail_on_error",
    "batch": "runtime.batch",
}
"""The config field behind each plain flag."""


def _changes(flags: dict[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in flags.items() if value is not None}
    changes = {FLAGS[name]: value for name, value in given.items() if name in FLAGS}
    if "explainer" in given:
        changes["explainers"] = [given["explainer"]]
    for flag, field in (("baselines", "dictionaries.baselines"), ("scorers", "scorers")):
        if flag in given:
            names = [name.strip() for name in given[flag].split(",")]
            changes[field] = [name for name in names if name not in ("", "none")]
    return changes


def _print_estimate(estimator: Any) -> None:
    """The dry run's table and totals."""
    from autointerp.llm import estimate
    from autointerp.reporting.tables import number, table

    rows = estimate.rows(estimator.stages)
    if not rows:
        click.echo("nothing is asked: this run makes no calls")
        return
    cells = [
        [f"{value:,}" if isinstance(value, int) else number(value, 4) if name.endswith("usd") else str(value)
         for name, value in row.items()]
        for row in rows
    ]  # fmt: skip
    click.echo(table(list(rows[0]), cells))
    total, most = ([row[name] for row in rows] for name in ("usd", "most usd"))
    if None in total:
        unknown = sorted({row["model"] for row in rows if row["usd"] is None})
        click.echo(f"no price is known for {', '.join(unknown)}: {estimator.prices.advice(unknown[0])}")
    else:
        click.echo(
            f"about ${sum(total):.2f}; at most ${sum(most):.2f}, if every answer were as long as it may be. Tokens are "
            f"estimates; prices as of {estimator.prices.as_of}, without prompt-cache discounts and second questions"
        )
    click.echo("next: the same command without --dry-run, with --max-cost USD")


def _print_outcome(finished: Any) -> None:
    from autointerp.reporting.tables import scores_table

    about = finished.about
    rows = finished.read_leaderboard()
    click.echo()
    for line in account(about):
        click.echo(line)
    click.echo()
    click.echo(scores_table(rows))
    click.echo(f"\nEverything is in {finished.path}; the other tables in {finished.path / 'leaderboard.md'}")
    totals = about["totals"]
    if totals["calls"]:
        cost = "unknown" if totals["cost_usd"] is None else f"${totals['cost_usd']:.4f}"
        click.echo(
            f"the answers behind it: {totals['calls']:,} calls, {totals['tokens_in']:,} tokens in, "
            f"{totals['tokens_out']:,} out, {cost} when they were made"
        )
    if totals["error"]:
        click.echo(
            f"{totals['error']} of its results are errors (autointerp show says why); the same command with another "
            "--out asks for those again and takes the rest from the cache"
        )
    click.echo(f"next: autointerp show {finished.path}")


def account(about: dict[str, Any]) -> list[str]:
    """What was sampled, in a few lines."""
    from autointerp.reporting.tables import number

    facts = about["sampling"]
    source = about["config"]["corpus"]["source"]
    lines = [
        f"device {facts['device']}",
        f"corpus {source}: {facts['corpus_tokens']:,} tokens, {facts['held_out_tokens']:,} held out by document, "
        f"{facts['sampled_tokens']:,} of them sampled",
    ]
    if "cross_entropy" in facts:
        lines.append(
            f"subject: held-out cross-entropy {facts['cross_entropy']:.3f} nats "
            f"(token frequencies alone: {facts['unigram_cross_entropy']:.3f})"
        )
    for summary in about["dictionaries"]:
        fvu, recovered = number(summary["fvu"], 3), number(summary["ce_recovered"], 3)
        lines.append(
            f"{summary['name']}: {summary['n_features']:,} features, L0 {summary['l0']:.1f}, FVU {fvu}, "
            f"CE recovered {recovered}, dead {summary['dead']:.1%}; sampled {summary['n_sampled']} of "
            f"{summary['n_candidates']} looked at ({summary['n_dead']} dead, {summary['n_rare']} too rare)"
            + ("; stopped before it converged" if summary["converged"] is False else "")
        )
    return lines


@main.command()
@click.argument("folder", metavar="RUN")
@click.argument("feature", required=False)
@click.option("--colour/--no-colour", default=None, help="Default: colour on a terminal.")
def show(folder: str, feature: str | None, colour: bool | None) -> None:
    """Print a feature (DICTIONARY/INDEX): excerpts, explanation, true against predicted; without FEATURE, list them."""
    from autointerp.api import open_run
    from autointerp.reporting import terminal as pages
    from autointerp.store import RunFolder

    opened = RunFolder(open_run(folder).path)
    if feature is None:
        click.echo(pages.feature_list(opened))
        click.echo(f"next: autointerp show {folder} DICTIONARY/INDEX")
        return
    click.echo(pages.feature_page(opened, feature, sys.stdout.isatty() if colour is None else colour), color=True)


@main.command()
@click.argument("folders", metavar="RUN ...", nargs=-1, required=True)
@click.option("--csv", "csv_path", metavar="FILE", help="Also write all rows there.")
def leaderboard(folders: tuple[str, ...], csv_path: str | None) -> None:
    """Print the leaderboard of one run, or several merged (a dictionary's name gets its run's in front)."""
    from autointerp.reporting import leaderboard, tables
    from sae.common.files import write_atomic

    rows = leaderboard.merge([Path(folder) for folder in folders])
    click.echo(tables.to_markdown(rows, []), nl=False)
    if csv_path:
        write_atomic(Path(csv_path), leaderboard.to_csv(rows))
        click.echo(f"all rows in {csv_path}")


@main.group()
def cache() -> None:
    """The answers that were paid for, shared by all runs."""


@cache.command()
def info() -> None:
    """Where they are, how many, how large."""
    from autointerp import api

    for name, value in api.answers().info().items():
        click.echo(f"{name}: {value:,}" if isinstance(value, int) else f"{name}: {value}")


@cache.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def export(file: Path) -> None:
    """Write all of them to FILE as JSON lines: key, request, answer."""
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
@click.option("--yes", is_flag=True, help="Do not ask.")
def clear(yes: bool) -> None:
    """Forget all of them: they will be paid for again."""
    from autointerp import api

    answers = api.answers()
    count = answers.info()["entries"]
    if yes or click.confirm(f"forget {count:,} answers in {answers.path}?"):
        click.echo(f"forgot {answers.clear():,} answers")
