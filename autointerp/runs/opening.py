"""Opens run folders: a finished run is checked, and tables and pictures that are damaged are made again."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autointerp import config as configs
from autointerp import ratings
from autointerp.config import Config
from autointerp.evaluate import Method
from autointerp.reporting import leaderboard
from autointerp.runs.dependence import dependence_of
from autointerp.runs.plan import READ_AS_TEXT
from autointerp.runs.requests import without_logprobs
from autointerp.runs.rounds import rounds_of
from autointerp.sections import Runtime
from autointerp.store import PICTURES, RATINGS, SOURCES, RunFolder
from sae.common.errors import UserError
from sae.common.progress import Silent
from sae.common.resources import path_of

log = logging.getLogger(__name__)


def open_folder(path: str | Path) -> RunFolder:
    """Open a run folder. Raises UserError if it is none, or if it is finished and a file cannot be made again."""
    folder = RunFolder(path_of(path))
    if folder.about["status"] == "complete":
        repair(folder)
    return folder


def repair(folder: RunFolder) -> None:
    """Check a finished run's files; make tables and pictures again that are missing, damaged or older than ratings.

    Raises UserError naming files that are damaged and cannot be made from the others.
    """
    damaged = folder.damaged()
    if lost := [name for name in damaged if name in SOURCES]:
        raise UserError(
            f"{folder.path}: missing or damaged, and not to be made from the other files: {', '.join(lost)}; the "
            "command that made the run, with another --out, makes it again"
        )
    if RATINGS in damaged:
        ratings.read(folder.path)  # refuses what cannot be read before anything is computed
    if damaged:
        rebuild(folder)
    if made := [name for name in damaged if name != RATINGS]:
        log.warning("%s: %s was missing or damaged, and was made again", folder.path, ", ".join(made))


def rebuild(folder: RunFolder) -> None:
    """Make a finished run's tables and pictures again from its results. Raises UserError if it is not finished."""
    about = folder.about
    if about["status"] != "complete":
        raise UserError(f"{folder.path} is not finished; finish it with the command that began it")
    config, features, results = config_of(folder), folder.read_features(), list(folder.results())
    method = Method.of(config)
    dependence = dependence_of(method, features, results)
    rounds = rounds_of(config, method, features, Silent)
    resolved = rounds.resolved(results, dependence) if rounds else None
    leaderboard.write(folder, results, method.chances, dependence, _picture_formats(about), resolved)
    folder.seal()


def config_of(folder: RunFolder) -> Config:
    """Return the config by which a run asks its models. Raises UserError if it cannot be built any more."""
    about = folder.about
    config = configs.build(dict(about["config"]), {}, f"{folder.path / 'run.json'}")
    assert isinstance(config, Config)
    return without_logprobs(config, about.get(READ_AS_TEXT, ()))


def _picture_formats(about: Mapping[str, Any]) -> list[str]:
    """Return the formats of a run's pictures; the default ones for a run of schema 4, which lists no files."""
    if "files" not in about:
        return list(Runtime().pictures)
    return sorted({Path(name).suffix.removeprefix(".") for name in about["files"] if name.startswith(PICTURES)})
