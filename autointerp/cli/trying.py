"""Defines the command that reads a text of the user's own with a run's model and dictionaries: try."""

from __future__ import annotations

import os
import shlex
import sys
from contextlib import nullcontext
from pathlib import Path

import click

from autointerp.cli.options import refuse_output
from autointerp.cli.results import echo_paged
from sae.common.click_group import Command


@click.command("try", cls=Command)
@click.argument("folder", metavar="RUN")
@click.option("--text", metavar="TEXT", help="The text; - reads it from the standard input.")
@click.option("--text-file", metavar="FILE", help="A file with the text, in UTF-8.")
@click.option(
    "--dictionary",
    "dictionaries",
    multiple=True,
    metavar="NAME",
    help="May be given several times. Default: the trained ones, or all if there is none.",
)
@click.option(
    "--top",
    type=click.IntRange(1),
    default=5,
    metavar="N",
    help="Show each token's N strongest features, and the N strongest that the run explains; default: 5.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write a page instead, in one file."
)
@click.option("--colour/--no-colour", default=None, help="Shade the text in colour; default: on a terminal.")
def try_text(
    folder: str,
    text: str | None,
    text_file: str | None,
    dictionaries: tuple[str, ...],
    top: int,
    as_json: bool,
    out: Path | None,
    colour: bool | None,
) -> None:
    """Print which features of a run are active on each token of your own text, and what each promotes next.

    The run's own model and dictionaries are loaded again. Features that the run explains are shown with their
    explanation and main score. What a feature promotes is what its decoder adds to the logits of the next token, by
    the unembedding alone.

    \b
    autointerp try RUN --text "import os" --top 3
    autointerp try RUN --text-file notes.txt --out notes.html
    """
    import json

    from autointerp.api import open_run
    from autointerp.reporting import trial as reporting
    from autointerp.reporting.site import tried
    from sae.common.errors import UserError, visible
    from sae.common.files import write_atomic

    refuse_output(out)
    if out and text_file and os.path.realpath(out) == os.path.realpath(text_file):
        raise UserError(f"--out {out} is the file with the text; write to another one")
    trial = open_run(folder).try_text(_given_text(text, text_file), dictionaries, top)
    if out:
        write_atomic(out, tried.saved_page(trial).encode("utf-8", "replace"))
        click.echo(f"next: open {visible(str(out))} in a browser")
        return
    if as_json:
        click.echo(json.dumps(reporting.trial_json(trial)))
        return
    echo_paged(reporting.trial_page(trial, sys.stdout.isatty() if colour is None else colour))
    first = next((f.id for token in trial.tokens for f in token.features if f.id in trial.results), None)
    if first and str(first).isprintable():
        click.echo(f"\nnext: {shlex.join(['autointerp', 'show', folder, str(first)])}")


MOST_BYTES = 10_000_000
"""Of a text: more is no text that a person would look at token by token, or a stream without an end."""


def _given_text(text: str | None, file: str | None) -> str:
    """Return the text. Raises UserError if none or two are given, if it is not UTF-8, or too long."""
    from sae.common.errors import UserError

    if (text is None) == (file is None):
        raise UserError("give a text: either --text TEXT (- for the standard input) or --text-file FILE")
    if file is not None and Path(file).exists() and not Path(file).is_file():
        raise UserError(f"--text-file {file} is no regular file; give one, or send the text to --text -")
    try:
        if text is not None and text != "-":
            return text.encode("utf-8", "surrogateescape").decode("utf-8")  # a shell's bytes that are not UTF-8
        return _read(file).decode("utf-8")
    except UnicodeDecodeError as error:
        source = file or ("the standard input" if text == "-" else "--text")
        raise UserError(f"{source} is not UTF-8 text: {error.reason}; save it as UTF-8") from error


def _read(file: str | None) -> bytes:
    """Read a file, or the standard input. Raises UserError if that is closed, or longer than MOST_BYTES."""
    from sae.common.errors import UserError

    if file is None and sys.stdin is None:
        raise UserError("the standard input is closed; send the text to --text -, or give --text-file FILE")
    with nullcontext(sys.stdin.buffer) if file is None else Path(file).open("rb") as stream:
        content = stream.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise UserError(f"{file or 'the standard input'} has more than {MOST_BYTES:,} bytes; give a shorter text")
    return content
