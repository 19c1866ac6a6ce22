"""Defines the command that repeats published experiments on a dictionary: study."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from autointerp.cli.options import AsksModels, PartOption, changes_of
from sae.common.click_group import Resumable


class StudyCommand(AsksModels, Resumable):
    """Marks the command that studies a dictionary: it asks language models, and continues after an interruption."""


@click.command(cls=StudyCommand)
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--config", metavar="NAME|FILE", help="As for run; default: demo, or dictionary with --dictionary.")
@click.option(
    "--dictionary",
    multiple=True,
    metavar="PATH",
    help="The trained dictionary to study, in any known format; circuits need a second one, at another hook point.",
)
@click.option("--model", metavar="NAME|DIR", help="As for run; default: the one the dictionary names.")
@click.option("--hook", metavar="NAME", help="As for run; default: the one the dictionary names.")
@click.option("--corpus", metavar="SPEC", help="As for run; default: the config's.")
@click.option("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps or auto; default: a GPU if there is one.")
@click.option("--explainer", cls=PartOption, metavar="SPEC", help="As for run; default: the config's first.")
@click.option("--simulator", cls=PartOption, metavar="SPEC", help="As for run; default: the config's.")
@click.option("--judge", metavar="SPEC", help="As for run; default: the config's, else the simulator.")
@click.option(
    "--features",
    type=click.IntRange(1),
    metavar="N",
    help="Features of each dictionary; default: 2,048 or as many as there are, with a language model the config's.",
)
@click.option("--seed", type=int, metavar="N", help="Seed of all random choices; default: the config's.")
@click.option("--max-cost", type=float, metavar="USD", help="Stop before the call that could cost more than is left.")
@click.option("--set", "settings", multiple=True, metavar="K=V", help="Any setting, such as sampling.effects=10.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder for study.md, study.json and the study's run; default: runs/study-IDENTITY.",
)
def study(
    names: tuple[str, ...],
    config: str | None,
    dictionary: tuple[str, ...],
    hook: str | None,
    corpus: str | None,
    features: int | None,
    settings: tuple[str, ...],
    out: Path | None,
    **flags: Any,
) -> None:
    """Repeat published experiments on a dictionary, and put each figure beside the published one.

    \b
    ablation        what features do: loss and tokens that change when one is removed; is it foretold?
    logits          logit weights: do they agree with ablations, and are promoted tokens foretold?
    steering        text generated with a feature held up: does it become what the explanation says?
    explained       cross-entropy recovered by the best-described features alone
    universality    does a second toy, of another seed, have the same features and neurons?
    tasks           does the model name indirect objects, pronouns, what fixed sequences go on with?
    patching        features patched into indirect objects: how few, how small an edit turns the answer?
    erasure         a pronoun's gender erased by features, LEACE, a mean difference, PCA: what is left?
    splitting       into how many features of a larger dictionary does one of a smaller one split?
    absorption      do features of single words hold what the feature of their property should?
    automata        chains of features, each raising the tokens of the next: are planted sequences found?
    circuits        on which features of the layer below do features depend? trees, with explanations
    specificity     does the best feature of a concept with a rule tell it, and nothing else?

    NAME is one of these; default: all. The dictionary is explained and scored first, with the neurons beside it.
    For a toy, the parts from tasks on train a transformer of three layers on a grammar, with dictionaries of its own.
    Finished parts are kept: the same command continues.
    """
    from autointerp import api
    from autointerp.reporting import study as reporting
    from sae.common.errors import visible
    from sae.common.settings import parse_settings
    from sae.common.tables import print_tables

    changes = changes_of(flags) | parse_settings(settings, "sampling.effects=10")
    changes |= {"dictionaries.load": [*dictionary]} if dictionary else {}
    changes |= {"subject.hook_points": [hook]} if hook else {}
    changes |= {"corpus.source": corpus} if corpus else {}
    done = api.study(config or ("dictionary" if dictionary else "demo"), names, changes, features, out)
    print_tables(reporting.summary_tables(done.report))
    click.echo(f"\nEverything is in {visible(str(done.path / 'study.md'))}")
    click.echo(f"next: {shlex.join(['autointerp', 'show', str(done.path / 'run')])}")
