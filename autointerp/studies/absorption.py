"""Studies absorption as SAEBench defines it, of properties of words that the grammar's subject knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from autointerp.statistics.intervals import mean_interval
from autointerp.studies import STUDIES, Figure, NotApplicable, Session, Study, figure
from sae.common.tables import Table, number

KNOWN = 0.6
"""F1 of a probe, on words it was not fitted on, from which on it counts as telling the property."""


class Absorption(Study):
    """Asks whether features of single words hold what the feature of their property should."""

    name = "absorption"
    title = (
        "Properties of words: gender of names, scripts, first letters. A linear probe gives each one's direction, a "
        "sparse probe its features; absorbed is what other features hold of the direction (SAEBench's absorption "
        "fraction), or hold whole where the property's features are silent (full). Fitted on three quarters of the "
        f"words, measured on the others; means over the properties that both probes tell there (F1 {KNOWN} or more)."
    )

    def measure(self, session: Session) -> dict[str, Any]:
        """Measure three sizes of one dictionary. Raises NotApplicable but for a toy."""
        from autointerp.sampling.absorption import measure
        from autointerp.sampling.tasks import is_toy

        if not is_toy(session):
            raise NotApplicable("needs words whose properties are known: only the grammar's are")
        return {"properties": measure(session, KNOWN)}

    def figures(self, measured: Mapping[str, Any]) -> Sequence[Figure]:
        """Return what the subject knows, and of each dictionary how much is absorbed."""
        properties, figures = measured["properties"], []
        for group in dict.fromkeys(one["group"] for one in properties):
            scores = [one["probe_f1"] for one in properties if one["group"] == group]
            figures.append(figure(f"{group}: F1 of the linear probe", mean_interval(scores, (0.0, 1.0)), len(scores)))
        each = [one for known in properties for one in known["dictionaries"]]
        for name in dict.fromkeys(one["dictionary"] for one in each):
            own = [one for one in each if one["dictionary"] == name and one["sparse_f1"] >= KNOWN]
            figures += [
                figure(f"{name}: {what}", mean_interval([one[key] for one in own], (0.0, 1.0)), len(own))
                for what, key in (("absorption fraction", "fraction"), ("full absorption", "full"))
            ]
        return figures

    def tables(self, measured: Mapping[str, Any]) -> Sequence[Table]:
        """Return every property that the subject knows, in each dictionary."""
        header = ["property", "probe F1", "dictionary", "sparse F1", "features", "tokens", "fraction", "full"]
        rows = [
            [f"{known['group']}: {known['property']}", number(known["probe_f1"]), *_row(one)]
            for known in measured["properties"] for one in known["dictionaries"]
        ]  # fmt: skip
        unknown = [one for one in measured["properties"] if not one["dictionaries"]]
        listed = ", ".join(f"{one['group']} {one['property']} ({number(one['probe_f1'])})" for one in unknown)
        return [Table(header, rows, f"Not known to the subject, with the probe's F1: {listed or 'none'}.")]


def _row(one: Mapping[str, Any]) -> list[str]:
    shown = [number(one["fraction"]), number(one["full"])] if one["sparse_f1"] >= KNOWN else ["-", "-"]
    return [one["dictionary"], number(one["sparse_f1"]), " ".join(map(str, one["features"])), str(one["words"]), *shown]


STUDIES.register("absorption", Absorption)
