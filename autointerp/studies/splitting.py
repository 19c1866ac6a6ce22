"""Studies feature splitting over dictionaries of three sizes, trained at once on the grammar's subject."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from autointerp.statistics.intervals import mean_interval
from autointerp.studies import MONOSEMANTICITY, STUDIES, Draw, Figure, NotApplicable, Session, Study, figure
from sae.common.tables import Table, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NEAR = 0.7
"""Cosine from which on a feature of a larger dictionary counts as a child of its nearest in the smaller one."""
TOKEN = " the"
"""The common token whose features are followed."""
MOSTLY = 0.5
"""Share of a feature's activation on one token from which on it is a feature of that token."""
NOTE = "a direction: features split as dictionaries grow, without one number"


class Splitting(Study):
    """Follows features from each dictionary to the next larger one."""

    name = "splitting"
    title = (
        "Three sizes of one dictionary are trained at once on the grammar's subject. Each feature's nearest in the "
        f"next smaller one, by cosine of the decoder directions (a child: {NEAR} or more) and by correlation of the "
        "activations."
    )
    version = 2

    def measure(self, session: Session) -> dict[str, Any]:
        """Match the features of each size with those of the next. Raises NotApplicable but for a toy."""
        from autointerp.sampling import splitting
        from autointerp.sampling.tasks import is_toy

        if not is_toy(session):
            raise NotApplicable("needs three sizes of one dictionary: only a toy has them trained here")
        return splitting.measure(session, TOKEN, NEAR, MOSTLY)

    def figures(self, measured: Mapping[str, Any]) -> Sequence[Figure]:
        """Return how many children features have, and whether both ways of matching agree."""
        figures = []
        for step in measured["steps"]:
            name, children = f"{step['smaller']} to {step['larger']}", [float(one) for one in step["children"]]
            split = [float(one > 1) for one in children]
            figures += [
                figure(f"{name}: children of a feature", mean_interval(children), len(children)),
                figure(
                    f"{name}: share of features with two children or more", mean_interval(split, (0, 1)), len(split),
                    published=0.0, above=True, source=MONOSEMANTICITY, note=NOTE,
                ),
                *(
                    figure(f"{name}: {what}", mean_interval(step[key], (0, 1)), len(step[key]))
                    for what, key in (("share with a parent", "has_parent"), ("same parent by co-firing", "agree"))
                ),
            ]  # fmt: skip
        return figures

    def tables(self, measured: Mapping[str, Any]) -> Sequence[Table]:
        """Return the features of one common token at each size, and the graph around those of the smallest."""
        sizes = [
            [one["name"], *(str(one[key]) for key in ("n_features", "live", "single", "token")), number(one["fvu"])]
            for one in measured["sizes"]
        ]
        header = ["dictionary", "features", "active", "of one token", f"of {TOKEN!r}", "FVU"]
        title = f"Features that have {MOSTLY:.0%} of their activation on one token, and on {TOKEN!r}."
        graph = [
            [f"{edge['larger']}/{edge['child']}", f"{edge['smaller']}/{edge['parent']}", number(edge["cosine"]),
             number(edge["correlation"]), " ".join(map(repr, edge["before"]))]
            for edge in measured["graph"]
        ]  # fmt: skip
        columns = ["feature", "nearest in the smaller one", "cosine", "correlation", "words before it, most often"]
        about = (
            f"Features of {TOKEN!r}: which of the smaller dictionary they come from, and in which context they stand."
        )
        return [Table(header, sizes, title), Table(columns, graph, about)]

    def panels(self, measured: Mapping[str, Any]) -> Sequence[Draw]:
        """Draw the decoder directions of all sizes, joined with their parents."""
        return [partial(_draw, measured["map"])]

    def panel_size(self, measured: Mapping[str, Any]) -> tuple[float, float]:
        """Return a row's width."""
        return 7.2, 5.0


def _draw(drawn: Mapping[str, Any], panel: Axes) -> None:
    """Draw features as points, larger for smaller dictionaries, those of the common token with a ring."""
    for number_of, (size, colour) in enumerate(zip(drawn["sizes"], COLOURS, strict=False)):
        for child, parent in enumerate(size["parents"]):
            if parent is not None:
                ends = (size["points"][child], drawn["sizes"][number_of - 1]["points"][parent])
                panel.plot(*zip(*ends, strict=True), color="#999999", linewidth=0.5, zorder=1)
        x, y = zip(*size["points"], strict=True)
        label = f"{size['name'].replace('_', ' ')}, {len(x)} active"
        panel.scatter(
            x, y, s=26 / (number_of + 1) ** 1.3, color=colour, linewidth=0, zorder=3 - number_of / 9, label=label
        )
        rings = [size["points"][row] for row in size["token"]]
        x, y = zip(*rings, strict=True) if rings else ((), ())
        panel.scatter(x, y, s=36, facecolor="none", edgecolor="black", linewidth=0.6, zorder=4)
    panel.set_xticks([])
    panel.set_yticks([])
    panel.set_xlabel(f"{drawn['method']} of decoder directions\nlines: cosine >= {NEAR}; rings: {TOKEN!r}")
    panel.set_title("Splitting of features")
    panel.legend(fontsize=6)


COLOURS = ("#0072B2", "#D55E00", "#009E73")
"""Of the dictionaries, the smallest first."""


STUDIES.register("splitting", Splitting)
