"""Studies circuits between layers: the automatic circuit detection of Cunningham et al. (2023), and attribution."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from autointerp.statistics.intervals import mean_interval
from autointerp.studies import STUDIES, Figure, Session, Study, figure
from sae.common.tables import Table, number

TARGETS, TREES, STRONGEST = 20, 2, 3
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
        f"share of the {STRONGEST} strongest by ablation that are so by attribution": [one["overlap"] for one in targets],
        "the same by chance": [one["chance"] for one in targets],
    }  # fmt: skip
    for what, values in shares.items():
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


STUDIES.register("circuits", Circuits)
