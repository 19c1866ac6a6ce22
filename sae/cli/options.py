"""Defines what several commands of `sae` share: flags, their texts, and the command to convert a pickle."""

from __future__ import annotations

import shlex

import click

HOOKS = "blocks.0.mlp.hook_post, or a module of transformers, hf:model.layers.0.mlp (its input: :in)"
CORPUS = "stdlib, a text file, a folder, FILE.jsonl|json|parquet[#COLUMN], also .gz, .zst, or hf:NAME; several: 'A + B'"

allow_pickle = click.option(
    "--allow-pickle",
    is_flag=True,
    help="Also open pickle files. They are read by a restricted unpickler, which runs no code from the file.",
)


def next_convert(paths: tuple[str, ...]) -> str | None:
    """Return the command that converts the first pickle file among these; None if there is none."""
    from sae import formats

    pickled = [path for path in paths if formats.recognise(path).format.pickled]
    return f"{shlex.join(['sae', 'convert', pickled[0], 'OUT', '--allow-pickle'])}" if pickled else None
