"""Draws a study's pictures: one of each part that has panels, and one of the main panels of a few.

The same measurements give the same bytes: no file holds a time or a random name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from autointerp.reporting.plots import STYLE, save
from autointerp.store import PICTURES
from autointerp.studies import STUDIES, Draw

OVERVIEW = "study"
"""Name of the picture of the main panels."""
PARTS = ("explained", "patching", "erasure", "splitting")
"""The parts whose main panels it has."""
PAGE = 7.2
"""Inches of a row of panels."""
LINKED = ("svg", "png")
"""Formats that study.md can show, the better one first."""
Panel = tuple[Draw, tuple[float, float]]
"""What draws a panel, and its size in inches."""


def write(folder: Path, outcomes: Mapping[str, Mapping[str, Any]], formats: Sequence[str]) -> None:
    """Write the pictures, in each format, into the study's folder `pictures`.

    Args:
        outcomes: of each part what it `measured`, or else why it did not.
    """
    pictures = dict(_pictures(outcomes)) if formats else {}
    if not pictures:
        return
    import matplotlib

    (folder / PICTURES).mkdir(exist_ok=True)
    with matplotlib.rc_context(STYLE):
        for name, panels in pictures.items():
            _save(panels, folder / PICTURES / name, formats)


def linked(outcomes: Mapping[str, Mapping[str, Any]], formats: Sequence[str]) -> dict[str, str]:
    """Return the paths of the pictures that study.md shows, by part; none without a format that it can show."""
    shown = [kind for kind in LINKED if kind in formats]
    return {name: f"{PICTURES}/{name}.{kind}" for kind in shown[:1] for name, _ in _pictures(outcomes)}


def _pictures(outcomes: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, list[Panel]]]:
    """Yield the panels of each picture; the overview needs all its parts."""
    main: dict[str, Panel] = {}
    for name, outcome in outcomes.items():
        part = STUDIES.get(name)()
        panels = part.panels(outcome["measured"]) if "measured" in outcome else ()
        if panels:
            yield name, [(draw, part.panel_size(outcome["measured"])) for draw in panels]
            main[name] = (panels[0], (PAGE / 2, 3.0))
    if main.keys() >= set(PARTS):
        yield OVERVIEW, [main[name] for name in PARTS]


def _save(panels: Sequence[Panel], path: Path, formats: Sequence[str]) -> None:
    """Lay panels out in rows, as many in each as the page's width holds."""
    from matplotlib.figure import Figure

    width, height = panels[0][1]
    columns = min(len(panels), max(1, int(PAGE / width)))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    for number, (draw, _) in enumerate(panels):
        draw(figure.add_subplot(rows, columns, number + 1))
    save(figure, path, formats)
