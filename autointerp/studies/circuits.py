"""Studies circuits between layers: the automatic circuit detection of Cunningham et al. (2023), and attribution."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from autointerp.statistics.intervals import mean_interval
from autointerp.studies import STUDIES, Draw, Figure, Session, Study, figure
from sae.common.errors import shortened, visible
from sae.common.tables import Table, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TARGETS, TREES, STRONGEST = 16, 2, 3
"""Features of each upper dictionary that are measured, trees from each topmost one, and branches of a node."""
SHARE = (-1.0, 1.0)
"""The range of correlations."""


class Circuits(Study):
    """Finds on which features of the layer below features depend, by ablation and by attribution."""

    name = "circuits"
    title = (
        "Lower features are ablated one by one on the excerpts of an upper feature, from which integrated gradients "
        "attribute its activation to them too. Of the grammar's subject: dictionaries behind each layer, and "
        "transcoders of two. Between brackets the features of both ends; means over upper features drawn at random."
    )

    def measure(self, session: Session) -> dict[str, Any]:
        """Ablate and attribute. Raises NotApplicable without two dictionaries, one above the other."""
        from autointerp.sampling import circuits

        return circuits.measure(session, TARGETS, TREES, STRONGEST)

    def figures(self, measured: Mapping[str, Any]) -> Sequence[Figure]:
        """Return how far ablation and attribution agree, and what confirms them on other excerpts."""
        return [one for link in measured["links"] for one in _of_link(link)]

    def tables(self, measured: Mapping[str, Any]) -> Sequence[Table]:
        """Return the trees."""
        header = ["feature", "lost without it", "attributed to it", "of this, by earlier tokens", "explanation"]
        title = (
            f"Features drawn at random, each with the {STRONGEST} lower features that it loses most activation "
            "without, down to the lowest layer. Shares of the activation of the feature above, each feature on its own "
            "excerpts; earlier tokens act through attention."
        )
        return [Table(header, [row for tree in measured["trees"] for row in _rows(tree, 0)], title)]

    def panels(self, measured: Mapping[str, Any]) -> Sequence[Draw]:
        """Draw the trees, one below the other."""
        return [partial(_draw, measured["trees"])] if measured["trees"] else []

    def panel_size(self, measured: Mapping[str, Any]) -> tuple[float, float]:
        """Return the size that the trees need."""
        return 7.4, 0.3 + HEIGHT * sum(_leaves(tree) + 0.5 for tree in measured["trees"])


def _of_link(link: Mapping[str, Any]) -> Iterator[Figure]:
    """Return the figures between two dictionaries."""
    targets, name = link["targets"], f"{link['upper']} on {link['lower']}"
    correlated = {
        "correlation": "ablation against attribution, correlation over lower features",
        "mismatched": "the same with another feature's attribution",
        "direct": "ablation against weights of the residual stream alone (times activation), correlation",
    }
    for key, what in correlated.items():
        values = [one[key] for one in targets if one[key] is not None]
        if values:
            yield figure(f"{name}: {what}", mean_interval(values, SHARE), len(values))
    shares = {
        "overlap": f"share of the {STRONGEST} strongest by ablation that are so by attribution",
        "chance": "the same by chance",
        "earlier": "share of attribution to earlier tokens",
    }
    for key, what in shares.items():
        values = [one[key] for one in targets]
        yield figure(f"{name}: {what}", mean_interval(values, (0.0, 1.0)), len(values))
    labels = {
        "ablation": f"the {STRONGEST} strongest by ablation",
        "attribution": f"the {STRONGEST} strongest by attribution",
        "random": f"{STRONGEST} others at random",
    }
    for key, which in labels.items():
        values = [one["lost"][key] for one in targets]
        what = f"share of the activation lost on other excerpts without {which}"
        yield figure(f"{name}: {what}", mean_interval(values), len(values))


def _rows(node: Mapping[str, Any], depth: int) -> Iterator[list[str]]:
    mark = "· " * (depth - 1) + "└ " if depth else ""
    shares = [number(node[key]) if key in node else "" for key in ("lost", "attributed", "earlier")]
    yield [f"{mark}{node['dictionary']}/{node['feature']}", *shares, node["explanation"]]
    for below in node["below"]:
        yield from _rows(below, depth + 1)


def _draw(trees: Sequence[Mapping[str, Any]], panel: Axes) -> None:
    """Draw trees with their roots on the left, and lines as wide as what is lost."""
    panel.set_axis_off()
    height = 0.0
    for tree in trees:
        height = _place(tree, 0, height, panel)[1] + 0.5
    panel.set_xlim(-0.05, 3)
    panel.set_ylim(height - 0.5, -1)


def _leaves(node: Mapping[str, Any]) -> int:
    return sum(map(_leaves, node["below"])) or 1


def _place(node: Mapping[str, Any], depth: int, leaves: float, panel: Axes) -> tuple[float, float]:
    """Draw a node below the leaves that are drawn already; returns its height, and how many leaves there are then."""
    heights, first = list[float](), leaves
    for below in node["below"]:
        height, leaves = _place(below, depth + 1, leaves, panel)
        heights.append(height)
    y = sum(heights) / len(heights) if heights else first
    for below, height in zip(node["below"], heights, strict=True):
        panel.plot([depth, depth + 1], [y, height], color="#bbbbbb", linewidth=0.6 + 6 * below["lost"], zorder=1)
        panel.text(depth + 0.9, height - 0.1, f"{below['lost']:.2f}", fontsize=6, ha="right", va="bottom")
    text = shortened(_drawable(node["explanation"].removeprefix("Active on ")), WIDEST).replace("$", r"\$")
    label = "\n".join([f"{node['dictionary']}/{node['feature']}", *textwrap.wrap(text, WIDEST // 2)])
    box = {"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": "#D55E00", "linewidth": 0.6}
    panel.text(depth, y, label, fontsize=5.5, va="center", bbox=box, zorder=3)
    return y, leaves if heights else leaves + 1


def _drawable(text: str) -> str:
    """Write characters that the picture's font lacks by their number."""
    from matplotlib import font_manager, ft2font

    font = ft2font.FT2Font(font_manager.findfont(font_manager.FontProperties()))
    return "".join(one if font.get_char_index(ord(one)) else f"U+{ord(one):04X}" for one in visible(text))


WIDEST = 76
"""Characters of an explanation in a picture, in two lines."""
HEIGHT = 0.4
"""Inches that a leaf of a tree takes."""


STUDIES.register("circuits", Circuits)
