"""Defines what several commands share: kinds of commands and options, and the config fields behind the flags."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from sae.common.click_group import Command
from sae.common.errors import UserError

OUTPUT = click.Path(dir_okay=False, path_type=Path)


def refuse_output(*files: Path | None) -> None:
    """Raise UserError for a file that cannot be written, that a run folder holds already, or that is given twice.

    A run's own files can hold answers that were paid for.
    """
    from sae.common.files import refuse_unwritable

    given = [file for file in files if file]
    for number, file in enumerate(given):
        refuse_unwritable(file)
        if file.exists() and (file.parent / "run.json").is_file():
            raise UserError(f"{file} is a file of the run in that folder; write to another one")
        if os.path.realpath(file) in map(os.path.realpath, given[:number]):
            raise UserError(f"{file} is to be written twice; give two files")


class AsksModels(Command):
    """Marks a command that asks language models: its help ends with the forms of model specs."""

    def format_epilog(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        from autointerp.llm import specs

        with formatter.section("Model specs"):
            for line in specs.help_lines():
                formatter.write(f"  {line}\n")


class PartOption(click.Option):
    """Names the registered parts in an option's help; looks them up only when the help is printed."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Fill in {baselines}, {explainers}, {simulators}, {scorers} and {presets}."""
        from autointerp.explainers import EXPLAINERS, LANGUAGE_MODEL
        from autointerp.scorers import SCORERS
        from autointerp.simulators import SIMULATORS
        from sae.baselines.registry import BASELINES
        from sae.common.resources import shipped_folder

        rows = super().get_help_record(ctx)
        return rows and (
            rows[0],
            rows[1].format(
                explainers=", ".join(n.replace("_", "-") for n in EXPLAINERS.names if n != LANGUAGE_MODEL),
                baselines=", ".join(BASELINES.names),
                simulators=", ".join(SIMULATORS.names),
                scorers=", ".join(SCORERS.names),
                presets=", ".join(sorted(path.stem for path in shipped_folder("eval_configs").glob("presets/*.yaml"))),
            ),
        )


FLAGS = {
    "model": "subject.model",
    "context": "corpus.context",
    "device": "runtime.device",
    "engine": "runtime.engine",
    "simulator": "simulator",
    "judge": "judge",
    "features": "sampling.features",
    "seed": "seed",
    "out": "runtime.out",
    "until_resolved": "stopping.until_resolved",
    "difference": "stopping.difference",
    "max_cost": "runtime.max_cost",
    "fail_on_error": "runtime.fail_on_error",
    "batch": "runtime.batch",
    "check": "runtime.check",
    "site": "runtime.site",
}
"""The config field behind each plain flag."""


def changes_of(flags: dict[str, Any]) -> dict[str, Any]:
    """Return the changes of the config that the flags mean."""
    values = {name: value for name, value in flags.items() if value is not None}
    changes = {FLAGS[name]: value for name, value in values.items() if name in FLAGS}
    if "explainer" in values:
        changes["explainers"] = [values["explainer"]]
    if values.get("explanations"):
        from autointerp.explanation_files import specs

        given = [spec for name in values["explanations"] for spec in specs(name)]
        changes |= {"explainers": [*given, *changes.get("explainers", [])], "dictionaries.baselines": []}
    if "feature_ids" in values:
        numbers = _numbers(values["feature_ids"])
        changes = {"sampling.features": len(numbers)} | changes | {"sampling.feature_ids": {"": numbers}}
    for flag, field in (("baselines", "dictionaries.baselines"), ("scorers", "scorers")):
        if flag in values:
            names = [name.strip() for name in values[flag].split(",")]
            changes[field] = [name for name in names if name not in ("", "none")]
    return changes


def _numbers(text: str) -> list[int]:
    """Read a list of numbers, or a file of them. Raises UserError if it is neither."""
    from autointerp.records import is_index

    try:
        # A long list is no path: the system refuses to look for it.
        given = Path(text).read_text("utf-8-sig") if os.path.isfile(text) else text
    except UnicodeDecodeError as error:
        raise UserError(f"--feature-ids: {text} is no file of numbers; write 0,5,17 or a file") from error
    words = re.split(r"[\s,]+", given.strip())
    wrong = next((word for word in words if not is_index(word)), None)
    if wrong is not None:
        raise UserError(f"--feature-ids: {wrong[:40]!r} is neither a file nor a whole number; write 0,5,17 or a file")
    return sorted({int(word) for word in words})


@contextmanager
def messages() -> Iterator[None]:
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
