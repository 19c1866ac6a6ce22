"""Studies how much of the model the described features explain: cross-entropy recovered by the best of them alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from autointerp.statistics.intervals import Interval
from autointerp.studies import MONOSEMANTICITY, STUDIES, Draw, Figure, NotApplicable, Session, Study, figure
from sae.baselines.registry import TRAINED_COLOUR
from sae.common.tables import Table, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INTERPRETABLE = 0.5
"""Score from which on a feature counts as described."""
SHARES = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
"""Shares of the scored features that are kept, the best first; none: the decoder's bias alone."""


class Explained(Study):
    """Replaces the activations by what some features alone reconstruct."""

    name = "explained"
    title = (
        "The activations are replaced by what some features alone reconstruct. Share of the loss added by zero "
        "ablation that this avoids (CE recovered), on held-out blocks."
    )
    version = 2

    def measure(self, session: Session) -> dict[str, Any]:
        """Measure the loss with the k best-scored features alone, for several k, and with k drawn at random."""
        scores = {
            result.feature.index: result.scores.get(session.main_score) or 0.0
            for result in session.results(session.dictionary)
        }
        if not scores:
            raise NotApplicable(f"no feature of {session.dictionary} is active often enough to be scored")
        order = sorted(scores, key=lambda index: (-scores[index], index))
        counts = sorted({round(share * len(order)) for share in SHARES})
        described = [index for index in order if scores[index] >= INTERPRETABLE]
        from autointerp.sampling.studies import recovered

        curves = recovered(session, order, counts, described)
        least = [scores[order[k - 1]] if k else None for k in counts]
        return {"scored": len(order), "score": session.main_score, "described": len(described), "least": least} | curves

    def figures(self, measured: Mapping[str, Any]) -> Sequence[Figure]:
        """Return what the whole dictionary recovers, what the described features do, and the best against others."""
        described = f"the {measured['described']:,} of {measured['scored']:,} scored features of score >= .5"
        n = measured["blocks"]
        return [
            figure(
                f"CE recovered by all {measured['n_features']:,} features", Interval(*measured["whole"]), n,
                published=0.79, source=MONOSEMANTICITY,
                note="share of the log-likelihood; 4,096 features, trained much longer",
            ),
            figure("CE recovered by the decoder's bias alone", Interval(*measured["best"][0]), n),
            figure(f"CE recovered by {described} alone", Interval(*measured["described_alone"]), n),
            figure(
                "CE recovered by the better-scored half, minus a random half's",
                Interval(*measured["best_half_above_random"]), n,
            ),
        ]  # fmt: skip

    def tables(self, measured: Mapping[str, Any]) -> Sequence[Table]:
        """Return the curve over the number of features that are kept."""
        rows = [
            [
                f"{k:,}",
                number(least),
                *(f"{number(value)} [{number(low)}, {number(high)}]" for value, low, high in both),
            ]
            for k, least, *both in zip(*(measured[key] for key in ("counts", "least", "best", "random")), strict=True)
        ]
        title = f"CE recovered by k features alone, with 95% intervals over blocks; best by {measured['score']}."
        return [Table(["k", "least score of the best", "best-scored", "drawn at random"], rows, title)]

    def panels(self, measured: Mapping[str, Any]) -> Sequence[Draw]:
        """Draw CE recovered against the least score of the features that are kept, and against their number."""
        return [partial(_draw, measured, by_score) for by_score in (True, False)]


def _draw(measured: Mapping[str, Any], by_score: bool, panel: Axes) -> None:
    kept = [row for row, least in enumerate(measured["least"]) if least is not None or not by_score]
    x = [measured["least" if by_score else "counts"][row] for row in kept]
    for key, label, colour in (("best", "best-scored", TRAINED_COLOUR), ("random", "as many at random", "#555555")):
        values, lows, highs = zip(*(measured[key][row] for row in kept), strict=True)
        panel.plot(x, values, "-" if key == "best" else "--", marker="o", markersize=3, color=colour, label=label)
        panel.fill_between(x, lows, highs, color=colour, alpha=0.15, linewidth=0)
    for row in kept if by_score else ():
        where = (measured["least"][row], measured["best"][row][0])
        panel.annotate(f"{measured['counts'][row]:,}", where, (0, 5), textcoords="offset points", fontsize=6)
    panel.set_xlabel("least score of the features kept" if by_score else "features kept")
    panel.set_ylabel("CE recovered")
    panel.set_title("Explained by the described features")
    panel.legend(fontsize=6)


STUDIES.register("explained", Explained)
