"""Studies concept erasure: what is left of a coming pronoun's gender, and what taking it away costs elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from autointerp.statistics.intervals import mean_interval
from autointerp.studies import STUDIES, Draw, Figure, Session, Study, figure
from sae.baselines.registry import TRAINED_COLOUR, colour_of
from sae.common.tables import Table, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COUNTS = (1, 2, 4, 8, 16, 32)
"""Numbers of features that are ablated, and of principal components that are projected out."""
PROMPTS = 200
"""Prompts on which erasers are fitted, and as many on which they are measured."""
NEAR = 0.05
"""What a probe may be above chance and the concept still counts as erased."""


class Erasure(Study):
    """Compares ablated features with LEACE (Belrose et al. 2023), a mean difference and principal components."""

    name = "erasure"
    title = (
        "The gender of a coming pronoun is erased from the activations. What is left: accuracy of a fresh linear probe "
        "and of the model's choice between the two pronouns, on names and actions not seen before. Cost: length of the "
        "edit over that of the activations, and KL divergence on other text, where every token is erased."
    )

    def measure(self, session: Session) -> dict[str, Any]:
        """Fit erasers on some prompts and measure them. Raises NotApplicable if the model does not do the task."""
        from autointerp.sampling.experiments import erased

        return erased(session, COUNTS, PROMPTS)

    def figures(self, measured: Mapping[str, Any]) -> Sequence[Figure]:
        """Return, of each way, the weakest that erases (else the strongest): what is left and what it costs."""
        figures = []
        for way in dict.fromkeys(one["way"] for one in measured["results"]):
            one = _weakest_enough(measured, way)
            many = sum(other["way"] == way for other in measured["results"]) > 1
            label = f"{way}, k = {one['k']}" if many else way
            shares = [("a fresh probe is right", "probe_P"), ("the model prefers the right pronoun", "answer_P")]
            figures += [
                figure(f"{label}: {what}", mean_interval(one[key], (0.0, 1.0)), len(one[key])) for what, key in shares
            ]
            figures += [
                figure(f"{label}: edit length, relative", mean_interval(one["edit_P"]), len(one["edit_P"])),
                figure(f"{label}: KL on other text, nats a token", mean_interval(one["kl_N"]), len(one["kl_N"])),
            ]
        return figures

    def tables(self, measured: Mapping[str, Any]) -> Sequence[Table]:
        """Return every way and strength; `front`: no other one leaves less of the concept at less cost."""
        chance = max(measured["majority"], 1 - measured["majority"])
        rows, points = [], [(max(chance, _mean(one, "probe_P")), _mean(one, "kl_N")) for one in measured["results"]]
        for one, point in zip(measured["results"], points, strict=True):
            values = [_mean(one, key) for key in ("probe_P", "answer_P", "edit_P", "kl_N")]
            is_front = not any(other != point and other[0] <= point[0] and other[1] <= point[1] for other in points)
            shown = [number(value, 3) for value in values]
            rows.append([one["way"], str(one["k"]), *shown, "yes" if is_front else ""])
        header = ["way", "k", "probe", "model's choice", "edit length", "KL on other text", "front"]
        return [Table(header, rows, f"Always the more frequent gender: {number(chance, 3)}.")]

    def panels(self, measured: Mapping[str, Any]) -> Sequence[Draw]:
        """Draw what is left of the concept against each cost."""
        costs = {"kl_N": "KL on other text, nats a token", "edit_P": "length of the edit, relative"}
        return [partial(_draw, measured, key, label) for key, label in costs.items()]


def _draw(measured: Mapping[str, Any], cost: str, label: str, panel: Axes) -> None:
    """Draw each way as a line through its strengths; below and to the left is better."""
    ways: dict[str, list[tuple[float, float]]] = {}
    for one in measured["results"]:
        ways.setdefault(one["way"], []).append((_mean(one, cost), _mean(one, "probe_P")))
    ablations = [way for way in ways if way.startswith(FEATURES)]
    for way, points in ways.items():
        known = MARKS.get(way)
        colour, mark = known or (TRAINED_COLOUR, "osv^D"[ablations.index(way) % 5])
        panel.plot(*zip(*points, strict=True), marker=mark, markersize=3.5, linewidth=0.8, color=colour, label=way)
    panel.axhline(max(measured["majority"], 1 - measured["majority"]), color="#bbbbbb", linewidth=0.8, zorder=0)
    if cost == "kl_N":
        panel.set_xscale("symlog", linthresh=1e-3)
        panel.set_xlim(left=0)
    panel.set_xlabel(label)
    panel.set_ylabel("a fresh probe is right")
    panel.set_title("Erasing a pronoun's gender")
    panel.legend(fontsize=6)


FEATURES = "features of "
MARKS = {
    "nothing": ("#000000", "x"),
    "LEACE": ("#0072B2", "*"),
    "mean difference": ("#CC79A7", "P"),
    "PCA": (colour_of("pca"), "o"),
}
"""Colour and marker of each way but ablations."""


def _mean(one: Mapping[str, Any], key: str) -> float:
    return float(np.mean(one[key]))


def _weakest_enough(measured: Mapping[str, Any], way: str) -> Mapping[str, Any]:
    """Return the weakest of a way after which the probe is near chance; the strongest if it never is."""
    own: list[Mapping[str, Any]] = [one for one in measured["results"] if one["way"] == way]
    chance = max(measured["majority"], 1 - measured["majority"])
    enough = [one for one in own if _mean(one, "probe_P") <= chance + NEAR]
    return (enough or own[-1:])[0]


STUDIES.register("erasure", Erasure)
