"""Defines `sae train`."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import click

from sae.cli.options import CORPUS, HOOKS
from sae.common.click_group import Resumable
from sae.common.errors import UserError, visible

if TYPE_CHECKING:
    from sae.training.session import Trained


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


@click.command(cls=Train)
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
