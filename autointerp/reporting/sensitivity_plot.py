"""Draws a specification curve: every dictionary's score under every specification, and below what each chooses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autointerp.reporting.plots import CHANCE_COLOUR, STYLE, panels_of, plain, save
from autointerp.reporting.sensitivity import CHOICES, Multiverse, Specification
from autointerp.store import PICTURES
from sae.baselines.registry import colour_of, in_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAME = "sensitivity"
CURVE_HEIGHT, OPTION_HEIGHT = 3.2, 0.16
"""Inches that the scores take, and each option below."""
SHADE = "#f2f2f2"


def write(folder: Path, every: Multiverse, formats: Sequence[str]) -> None:
    """Write the picture, in each format, into the folder `pictures`."""
    import matplotlib

    with matplotlib.rc_context(STYLE):
        save(draw(every), folder / PICTURES / NAME, formats)


def draw(every: Multiverse) -> Figure:
    """Draw the specifications by the lead of the run's first dictionary over the best other one, smallest first."""
    ordered = sorted(every.specifications, key=lambda one: one.lead(every.first))
    options = [(choice, option) for choice in CHOICES for option in _options(every, choice)]
    heights = [CURVE_HEIGHT, OPTION_HEIGHT * (len(options) + 1)]
    figure, panels = panels_of(2, 1, (8.0, 1.0 + sum(heights)), heights)
    _draw_scores(panels[0, 0], every, ordered)
    _draw_options(panels[1, 0], options, ordered)
    _mark_reference([panels[0, 0], panels[1, 0]], ordered.index(every.reference))
    own = f"by the lead of {in_words(every.first, every.kinds[every.first])} over the best other; line: the run's own"
    figure.suptitle(plain(f"{len(ordered)} specifications, {own}", 120))
    return figure


def _options(every: Multiverse, choice: str) -> list[str]:
    return list(dict.fromkeys(str(getattr(one, choice)) for one in every.specifications))


def _draw_scores(panel: Axes, every: Multiverse, ordered: Sequence[Specification]) -> None:
    """Draw each dictionary's scores above chance, with intervals over features."""
    kinds: list[str] = []
    for name in every.reference.order:
        kind = every.kinds[name]
        style: dict[str, Any] = {"color": colour_of(kind), "label": plain(in_words(name, kind))}
        filled = kind not in kinds  # dictionaries of one kind share a colour
        kinds.append(kind)
        drawn = [(at, one, one.means[name]) for at, one in enumerate(ordered) if name in one.means]
        for at, one, mean in drawn:
            if mean.low is not None and mean.high is not None:
                ends = [one.above_chance(mean.low), one.above_chance(mean.high)]
                panel.plot([at, at], ends, color=style["color"], linewidth=0.6, alpha=0.35)
        heights = [one.above_chance(mean.mean) for _, one, mean in drawn]
        face = style["color"] if filled else "none"
        panel.plot([at for at, *_ in drawn], heights, "o", markersize=2.6, markerfacecolor=face, **style)
    panel.axhline(0.0, color=CHANCE_COLOUR, linewidth=0.8, zorder=0)
    panel.set_ylabel("(score - chance) / (1 - chance)")
    panel.legend(bbox_to_anchor=(1.01, 1), loc="upper left")


def _draw_options(panel: Axes, options: Sequence[tuple[str, str]], ordered: Sequence[Specification]) -> None:
    """Draw a row per option, with a mark under each specification that chooses it."""
    for row, (choice, option) in enumerate(options):
        at = [index for index, one in enumerate(ordered) if getattr(one, choice) == option]
        if CHOICES.index(choice) % 2 == 0:
            panel.axhspan(row - 0.5, row + 0.5, color=SHADE, linewidth=0, zorder=0)
        panel.plot(at, [row] * len(at), "|", color="black", markersize=5, markeredgewidth=1.0)
    panel.set_yticks(range(len(options)), [plain(f"{choice}: {option}") for choice, option in options])
    panel.set_ylim(len(options) - 0.5, -0.5)
    panel.set_xticks([])
    panel.set_xlabel("specifications")


def _mark_reference(panels: Sequence[Axes], at: int) -> None:
    for panel in panels:
        panel.axvline(at, color="black", linewidth=0.6, linestyle=":", zorder=0)
