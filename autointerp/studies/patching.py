"""Studies activation patching on indirect objects, as Cunningham et al. (2023), Figure 3: few features, small edits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from autointerp.statistics.intervals import mean_interval
from autointerp.studies import CUNNINGHAM, STUDIES, Draw, Figure, Session, Study, figure
from sae.baselines.registry import BASELINES, TRAINED_COLOUR, colour_of, in_words
from sae.common.tables import Table, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COUNTS = (0, 1, 2, 4, 8, 16, 32)
"""Numbers of patched features."""
PAIRS, SEARCHED, PROMPTS = 3, 8, 20
"""Pairs of names, and of each the prompts on which the order is searched and those on which it is measured."""
GRID = 33
"""Edit magnitudes at which two curves are compared."""
NOTE = (
    "a direction, read off curves without numbers, at layer 11 of Pythia-410M; there a third name replaces the "
    "indirect object, and one set of features is searched for all prompts. The L1 dictionary here (sparse) is trained "
    "too briefly: trained four times longer it is ahead of PCA on prompts of their kind (tests/benchmarks/patching.py)"
)
Curve = Mapping[str, Any]


class Patching(Study):
    """Compares dictionaries by how much must be edited until the model predicts the counterfactual's answer."""

    name = "patching"
    version = 2
    title = (
        "Features are set to what they are on a counterfactual prompt, in a greedily searched order. KL divergence, in "
        "nats, from the prediction there, by the number of patched features and by the length of the edit; areas are "
        "means over the numbers above 0 (1, 2, 4 ... 32) or over lengths, and intervals over prompts. Each of three "
        "pairs of names has its own order. Patching all features leaves what the dictionary does not reconstruct."
    )

    def measure(self, session: Session) -> dict[str, Any]:
        """Search the order on some prompts and patch others. Raises NotApplicable if the model does not do the task."""
        from autointerp.sampling.experiments import patched

        return patched(session, COUNTS, PAIRS, SEARCHED, PROMPTS)

    def figures(self, measured: Mapping[str, Any]) -> Sequence[Figure]:
        """Return areas between the sparse dictionaries' curves and the others', and interchange accuracy."""
        curves, n = measured["curves"], measured["prompts"]
        rivals = [name for name in (measured["dense"], "pca", "neurons", "random") if name]
        figures = []
        for sparse in measured["sparse"]:
            for rival in rivals:
                claim = (
                    {"published": 0.0, "above": True, "source": CUNNINGHAM, "note": NOTE} if rival in CLAIMED else {}
                )
                by_count = _by_count(curves[rival]) - _by_count(curves[sparse])
                by_length = _by_length(curves[rival], curves[sparse])
                name = f"area between {rival} and {sparse}"
                figures += [
                    figure(f"{name}, KL by number of features", mean_interval(by_count.tolist()), n, **claim),
                    figure(f"{name}, KL by edit length", mean_interval(by_length.tolist()), n, **claim),
                ]
        last = measured["counts"][-1]
        for name in (*measured["sparse"], *rivals):
            followed = curves[name]["followed_KP"][-1]
            what = f"interchange accuracy of {name}, {last} features"
            figures.append(figure(what, mean_interval(followed, (0.0, 1.0)), n))
            (whole,) = curves[name]["whole_1P"]
            figures.append(figure(f"KL with all features of {name} patched, nats", mean_interval(whole), n))
        return figures

    def tables(self, measured: Mapping[str, Any]) -> Sequence[Table]:
        """Return the curves."""
        header = ["dictionary", "L0", "patched", "KL, nats", "edit length", "interchange accuracy"]
        rows = []
        for name, curve in measured["curves"].items():
            for row, count in enumerate(measured["counts"]):
                means = [np.mean(curve[key][row]) for key in ("kl_KP", "edit_KP", "followed_KP")]
                rows.append([name, number(curve["l0"], 1), str(count), *(number(float(one), 3) for one in means)])
        return [Table(header, rows, "Means over prompts.")]

    def panels(self, measured: Mapping[str, Any]) -> Sequence[Draw]:
        """Draw KL against the number of patched features, and against the length of the edit."""
        return [partial(_draw, measured, by_length) for by_length in (False, True)]


CLAIMED = {"alpha_0", "pca"}
"""Those that Figure 3 shows beside the sparse dictionaries."""


def _by_count(curve: Curve) -> NDArray[np.float64]:
    """Return each prompt's KL, in the mean over the numbers of patched features above 0."""
    values: NDArray[np.float64] = np.asarray(curve["kl_KP"])[1:].mean(0)
    return values


def _by_length(rival: Curve, sparse: Curve) -> NDArray[np.float64]:
    """Return each prompt's difference of KL, in the mean over edit lengths that both curves reach."""
    lengths = [np.maximum.accumulate(np.asarray(curve["edit_KP"]).mean(1)) for curve in (rival, sparse)]
    grid = np.linspace(0, min(each[-1] for each in lengths), GRID)
    each = [
        np.array([np.interp(grid, length, kl).mean() for kl in np.asarray(curve["kl_KP"]).T])
        for curve, length in zip((rival, sparse), lengths, strict=True)
    ]
    difference: NDArray[np.float64] = each[0] - each[1]
    return difference


def _draw(measured: Mapping[str, Any], by_length: bool, panel: Axes) -> None:
    """Draw each dictionary's mean KL with its 95% interval."""
    learnt = [name for name in measured["curves"] if name not in BASELINES]
    for name, curve in measured["curves"].items():
        intervals = [mean_interval(row) for row in curve["kl_KP"]]
        means, lows, highs = zip(*((one.mean, one.low, one.high) for one in intervals if one), strict=True)
        x = np.mean(curve["edit_KP"], 1) if by_length else np.arange(len(means))
        colour = colour_of(name) if name in BASELINES else TRAINED_COLOUR
        style = LINES[learnt.index(name) % len(LINES)] if name in learnt else LINES[0]
        panel.plot(x, means, style, marker="o", markersize=2.5, linewidth=1.2, color=colour, label=in_words(name, name))
        if lows[0] is not None:
            panel.fill_between(x, lows, highs, color=colour, alpha=0.12, linewidth=0)
    if not by_length:
        panel.set_xticks(range(len(measured["counts"])), [str(count) for count in measured["counts"]])
    panel.set_xlabel("length of the edit" if by_length else "patched features")
    panel.set_ylabel("KL from the other answer, nats")
    panel.set_title("Patching indirect objects")
    panel.legend(fontsize=6)


LINES = ("-", "--", ":", "-.")
"""Line styles of the trained dictionaries, which have one colour."""


STUDIES.register("patching", Patching)
