"""Tells whether pages show what their runs hold: writes them once more elsewhere, and compares every byte.

Taken from the pages as they are: a run's name; what language models were asked, where this machine's cache of answers
does not hold it; the points of a UMAP, which another version of it would not repeat.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from autointerp.records import FeatureId
from autointerp.reporting.site import write
from autointerp.reporting.site.chunks import write_script
from autointerp.reporting.site.index import explainers_of
from autointerp.reporting.site.runs import SiteRun
from autointerp.runs.replay import Exchange
from sae.common.errors import UserError

AROUND = 20
"""Characters that are shown before and after the first one that differs."""
_ASKED = TypeAdapter(list[tuple[int, int, list[tuple[str, str, str]]]])
"""Reads a script of questions: the numbers of the feature and of the explainer; of each stage, question and answer."""
_Written = Mapping[tuple[int, str], Sequence[Exchange]]
"""Exchanges by the number of the feature and the explainer."""


def differences(runs: Sequence[SiteRun], site: Path) -> tuple[int, list[str]]:
    """Count the files of a folder of pages, and say which of them are not as the runs give them, and where.

    Raises UserError if there is no room for a copy of the pages among the temporary files.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="autointerp-") as temporary:
            made = Path(temporary) / site.name
            write.fill(_with_written(runs, site), made)
            passed_over = _keep_umap(site, made)
            files = sorted(path for path in made.rglob("*") if path.is_file() and path != passed_over)
            wrong = [_difference(site, path.relative_to(made), path.read_bytes()) for path in files]
    except OSError as error:
        raise UserError(f"cannot write the pages to compare them: {error}; set TMPDIR to another folder") from error
    return len(wrong), [text for text in wrong if text]


def _difference(site: Path, name: Path, follows: bytes) -> str | None:
    """Say where a file differs first from what follows; None if it does not."""
    shown = (site.name / name).as_posix()
    try:
        written = (site / name).read_bytes()
    except OSError as error:
        return f"{shown} cannot be read: {error.strerror}"
    if written == follows:
        return None
    at = _first_difference(written, follows)
    part = slice(max(0, at - AROUND), at + AROUND)
    mine, other = (text[part].decode("utf-8", "replace") for text in (written, follows))
    return f"{shown}, byte {at:,}: {mine!r} is written, but {other!r} follows"


def _first_difference(a: bytes, b: bytes) -> int:
    n = min(len(a), len(b))
    differs = np.frombuffer(a[:n], np.uint8) != np.frombuffer(b[:n], np.uint8)
    return int(differs.argmax()) if differs.any() else n


def label_of(site: Path) -> str | None:
    """Read the name under which pages show their only run; None if they do not say it."""
    index = _read(site, "index")
    runs = index.get("runs") if isinstance(index, dict) else None
    label = runs[0].get("label") if isinstance(runs, list) and len(runs) == 1 and isinstance(runs[0], dict) else None
    return label if isinstance(label, str) else None


def _read(site: Path, name: str) -> Any:
    """Read the value of a script; None if it cannot be read."""
    try:
        return json.loads((site / "data" / f"{name}.js").read_text("ascii").partition("=")[2])
    except (OSError, ValueError, RecursionError):
        return None


def _keep_umap(site: Path, made: Path) -> Path | None:
    """Let the pages have the UMAP that is written, if one is; return the file of its points, which is not compared."""
    written, index = (_read(folder, "index") for folder in (site, made))
    map_of = written.get("map") if isinstance(written, dict) else None
    if not isinstance(map_of, dict) or map_of.get("method") != "UMAP" or not index["map"]:
        return None
    write_script(made / "data", "index", index | {"map": index["map"] | {"method": "UMAP"}})
    return made / "data" / "map.js"


def _with_written(runs: Sequence[SiteRun], site: Path) -> list[SiteRun]:
    """Give the runs the questions and answers that are written where the cache has not the same number of them."""
    written = _asked(site, explainers_of(runs))
    made, first = [], 0
    for run in runs:
        numbers = {feature.id: first + offset for offset, feature in enumerate(run.features)}
        made.append(replace(run, asked=_complete(run, numbers, written)))
        first += len(run.features)
    return made


def _complete(
    run: SiteRun, numbers: Mapping[FeatureId, int], written: _Written
) -> dict[tuple[FeatureId, str], Sequence[Exchange]]:
    complete = {}
    for feature, results in run.results.items():
        for explainer in (result.explainer for result in results):
            cached, shown = run.asked.get((feature, explainer), ()), written.get((numbers[feature], explainer), ())
            complete[feature, explainer] = cached if len(cached) == len(shown) else shown
    return complete


def _asked(site: Path, explainers: Sequence[str]) -> _Written:
    """Read what the pages say that language models were asked; nothing of scripts that hold something else."""
    written: dict[tuple[int, str], Sequence[Exchange]] = {}
    for path in (site / "data" / "asked").glob("*.js"):
        try:
            rows = _ASKED.validate_python(_read(site, f"asked/{path.stem}"))
        except ValidationError:
            continue
        for n, explainer, exchanges in rows:
            if 0 <= explainer < len(explainers):
                written[n, explainers[explainer]] = [Exchange(*each) for each in exchanges]
    return written
