"""The command line: parse, call the library function of the same name, print. Imports nothing heavy at the top."""

import os
import sys
from pathlib import Path
from typing import Any

import click

from sae.errors import UserError


class _Commands(click.Group):
    """Prints a user's mistake in one line with its status (2); Ctrl-C ends with 130; a bug keeps its traceback."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except UserError as error:
            click.echo(f"autointerp: {error}", err=True)
            raise SystemExit(error.status) from error
        except KeyboardInterrupt:
            click.echo("\nautointerp: stopped; the same command goes on from here", err=True)
            sys.stdout.flush()
            # Not sys.exit: if the interrupt struck inside an exec() of text (dataclasses make some while libraries
            # are imported), CPython 3.11 ends with signal 2 whatever the program asks for.
            os._exit(130)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="autointerp")
def main() -> None:
    """Measure how interpretable the features of a language model's dictionary are.

    \b
    autointerp run                          the demo: trains a toy model and a sparse dictionary, compares baselines
    autointerp run --dictionary PATH        your own dictionary (ours or SAELens' format)
    autointerp show RUN [FEATURE]           a feature with its excerpts, explanation and predictions
    autointerp leaderboard RUN ...          several runs in one table
    """


@main.command()
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
@click.option("--baselines", metavar="LIST", help="From neurons,pca,ica,random,random_matched; 'none' for none.")
@click.option(
    "--explainer", metavar="SPEC", help="rules-N, rules-unlimited or token-table; replaces the config's list."
)
@click.option("--simulator", metavar="SPEC", help="rules.")
@click.option("--features", type=click.IntRange(1), metavar="N", help="Features of each dictionary.")
@click.option("--seed", type=int, metavar="N")
@click.option(
    "--set", "settings", multiple=True, metavar="K=V", help="Any config field: sampling.fragment=32; repeatable."
)
@click.option("--out", metavar="DIR", help="The run folder; default: runs/NAME-IDENTITY here.")
def run(config: str | None, dictionaries: tuple[str, ...], settings: tuple[str, ...], **flags: Any) -> None:
    """Sample, explain, simulate, score and compare; the same command resumes.

    CONFIG is a YAML file or the name of a shipped one. Without it: `demo`, or `dictionary` when --dictionary is given.
    """
    from autointerp import api
    from autointerp.config import load, parse_settings
    from autointerp.store import RunFolder

    name = config or ("dictionary" if dictionaries else "demo")
    changes = _changes(flags) | parse_settings(settings)
    if dictionaries:
        changes["dictionaries.load"] = list(dictionaries)
    _print_outcome(RunFolder(api.run(load(name, changes)).path))


FLAGS = {
    "model": "subject.model",
    "hook": "subject.hook_point",
    "corpus": "corpus.source",
    "simulator": "simulator",
    "features": "sampling.features",
    "seed": "seed",
    "out": "runtime.out",
}
"""The config field behind each plain flag."""


def _changes(flags: dict[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in flags.items() if value is not None}
    changes = {FLAGS[name]: value for name, value in given.items() if name in FLAGS}
    if "explainer" in given:
        changes["explainers"] = [given["explainer"]]
    if "baselines" in given:
        names = [name.strip() for name in given["baselines"].split(",")]
        changes["dictionaries.baselines"] = [name for name in names if name not in ("", "none")]
    return changes


def _print_outcome(finished: Any) -> None:
    from autointerp.leaderboard import scores_table

    about = finished.about
    rows = finished.read_leaderboard()
    click.echo()
    for line in account(about):
        click.echo(line)
    click.echo()
    click.echo(scores_table(rows))
    click.echo(f"\nEverything is in {finished.path}; the other tables in {finished.path / 'leaderboard.md'}")
    click.echo(f"next: autointerp show {finished.path}")


def account(about: dict[str, Any]) -> list[str]:
    """What was sampled, in a few lines."""
    from autointerp.leaderboard import number

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
    from autointerp import show as pages
    from autointerp.api import open_run
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
    from autointerp import leaderboard as tables
    from sae.files import write_atomic

    rows = tables.merge([Path(folder) for folder in folders])
    click.echo(tables.to_markdown(rows, []), nl=False)
    if csv_path:
        write_atomic(Path(csv_path), tables.to_csv(rows))
        click.echo(f"all rows in {csv_path}")
