"""Writes the pages of runs into a folder, which is replaced as a whole: pages, scripts, style, data in chunks."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autointerp.records import FeatureRecord, FeatureResult
from autointerp.reporting.site import features, pages
from autointerp.reporting.site.chunks import Chunks, write_script
from autointerp.reporting.site.index import dictionaries_of, explainers_of, index, scorers_of
from autointerp.reporting.site.map import feature_map
from autointerp.reporting.site.neighbours import Neighbours, Ranked
from autointerp.reporting.site.runs import SiteRun, read_all
from autointerp.store import RunFolder
from sae.common.errors import UserError, visible
from sae.common.files import TEMPORARY, cannot_write

MARKER = "site.txt"
"""The file by which a folder of pages is known, so that no other folder is replaced."""
LIST_BYTES, DETAIL_BYTES = 64_000, 200_000
"""Most bytes of a script of the list, and of one with whole features (unless a single feature has more)."""
MOST_POINTS = 1500
"""Most features that a picture shows, evenly spaced over all."""


def write(folders: Sequence[RunFolder], out: Path) -> None:
    """Write the pages of one run, or of several side by side, into the folder `out`.

    The same runs give the same bytes. Raises UserError if `out` holds other files or cannot be written, or if a run
    cannot be read.
    """
    refuse_foreign(out)
    runs = read_all(folders)
    write_runs(runs, out)


def is_site(folder: Path) -> bool:
    """Tell whether a folder is one of pages."""
    return (folder / MARKER).is_file()


def refuse_foreign(out: Path) -> None:
    """Raise UserError if something is there that is no folder (a file, a device), or one of other files than pages."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is no folder; choose another --out")
    if out.is_dir() and not is_site(out) and any(out.iterdir()):
        raise UserError(f"{out} holds other files than a site; choose another --out")


def write_runs(runs: Sequence[SiteRun], out: Path) -> None:
    """Write the pages beside the old ones, then put them in their place.

    A link is followed: it stays, and a path through the old pages themselves stays valid while they are moved. Raises
    UserError if that fails, or if there are other files than pages.
    """
    refuse_foreign(out)
    out = Path(os.path.realpath(out))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=out.parent))
        try:
            fill(runs, temporary / "new")
            if out.exists():
                os.rename(out, temporary / "old")
            os.rename(temporary / "new", out)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise cannot_write(out, error, "choose another --out") from error


def fill(runs: Sequence[SiteRun], folder: Path) -> None:
    """Write the pages into a folder that is made for them."""
    folder.mkdir()
    (folder / "static").mkdir()
    shutil.copy(pages.STATIC / "style.css", folder / "static")
    for name, text in pages.scripts():
        (folder / "static" / name).write_text(text, "utf-8")
    for name, text in pages.render(runs):
        (folder / name).write_text(text, "utf-8")
    for (config_file, _), run in pages.named(runs):
        (folder / config_file).write_text(pages.config_yaml(run), "ascii")
    facts = Data(runs, folder / "data").write()
    write_script(folder / "data", "index", index(runs, facts))
    (folder / MARKER).write_text("Pages of `autointerp browse`: open index.html.\n", "ascii")


@dataclass(frozen=True)
class Entry:
    """Holds one feature with what the pages show of it."""

    n: int
    """Its number in the site."""
    run: int
    """Its run's number in the site."""
    dictionary: int
    """Its dictionary's number in the site."""
    feature: FeatureRecord
    results: Sequence[FeatureResult]
    neighbours: dict[str, Any]


class Data:
    """Writes the data of all features: lists and points by explainer, and whole features."""

    def __init__(self, runs: Sequence[SiteRun], folder: Path) -> None:
        self._runs, self._folder = runs, folder
        self._explainers, self._scorers = explainers_of(runs), scorers_of(runs)
        self._details = Chunks(folder, "features", DETAIL_BYTES)
        self._asked = Chunks(folder, "asked", DETAIL_BYTES)
        self._lists = [Chunks(folder, f"list/{number}", LIST_BYTES) for number in range(len(self._explainers) or 1)]
        self._drawn: list[tuple[int, FeatureRecord]] = []
        self._points: list[list[Any]] = [[] for _ in self._lists]
        self._n = sum(len(run.features) for run in runs)

    def write(self) -> dict[str, Any]:
        """Write everything; return the number of features and of points, and where the scripts of the lists begin."""
        for entry in self._entries():
            self._add(entry)
        for chunks in (self._details, self._asked, *self._lists):
            chunks.close()
        for explainer, points in enumerate(self._points):
            write_script(self._folder, f"points/{explainer}", points)
        facts = {"n": self._n, "points": len(self._points[0]), "lists": [chunks.starts for chunks in self._lists]}
        return facts | {"map": self._write_map()}

    def _write_map(self) -> dict[str, str] | None:
        """Write where the features of the points stand on the map; return what it is, or None if there is none."""
        drawn = feature_map(self._drawn)
        if drawn is None:
            return None
        write_script(self._folder, "map", drawn.points)
        return {"method": drawn.method, "writes": visible(drawn.writes)}

    def _add(self, entry: Entry) -> None:
        detail = features.detail(entry.feature, entry.results, self._explainers) | entry.neighbours
        for explanation, one in zip(detail["explanations"], entry.results, strict=True):
            explanation["asked"] = self._add_asked(entry, one)
        named = {"n": entry.n, "dictionary": entry.dictionary, "index": entry.feature.id.index}
        file = self._details.add(named | detail)
        n_drawn = min(self._n, MOST_POINTS)
        is_drawn = (entry.n + 1) * n_drawn // self._n > entry.n * n_drawn // self._n
        if is_drawn:
            self._drawn.append((entry.run, entry.feature))
        by_explainer = {result.explainer: result for result in entry.results}
        for explainer, (chunks, points) in enumerate(zip(self._lists, self._points, strict=True)):
            result = by_explainer.get(self._explainers[explainer]) if self._explainers else None
            row = features.list_row(entry.feature, entry.dictionary, result, self._scorers)
            chunks.add([file, *row])
            if is_drawn:
                points.append([entry.n, *row[:5], *row[6:]])  # without the text

    def _add_asked(self, entry: Entry, result: FeatureResult) -> int | None:
        """Add what was asked about an explanation; return the number of the script, or None if nothing is kept."""
        exchanges = self._runs[entry.run].asked.get((result.feature, result.explainer), ())
        rows = [[each.stage, each.question, each.answer] for each in exchanges]
        return self._asked.add([entry.n, self._explainers.index(result.explainer), rows]) if rows else None

    def _entries(self) -> Iterator[Entry]:
        """Yield every feature of every run."""
        numbers = {(row["run"], row["name"]): number for number, row in enumerate(dictionaries_of(self._runs))}
        first = 0
        for number, run in enumerate(self._runs):
            for offset, feature in enumerate(run.features):
                dictionary = numbers[number, feature.id.dictionary]
                near = {
                    "together": _neighbours(run.together, offset, first),
                    "alike": _neighbours(run.alike, offset, first),
                }
                yield Entry(first + offset, number, dictionary, feature, run.results.get(feature.id, ()), near)
            first += len(run.features)


def _neighbours(neighbours: Neighbours, offset: int, first: int) -> dict[str, Any] | None:
    """List the neighbours of a run's feature by their numbers in the site; None if they were not computed."""
    if not neighbours.size:
        return None

    def listed(ranked: Ranked) -> list[list[float]]:
        return [[first + index, r] for index, r in ranked]

    own, others = neighbours.own[offset], neighbours.others[offset]
    return {"size": neighbours.size, "own": listed(own), "others": listed(others)}
