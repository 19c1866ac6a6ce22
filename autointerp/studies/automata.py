"""Studies finite-state automata: chains of features, against the fixed sequences that were planted in the grammar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from autointerp.statistics.intervals import mean_interval
from autointerp.studies import STUDIES, Figure, NotApplicable, Session, Study, figure
from sae.common.tables import Table, number

LEAST = 0.5
"""Fall of the logit, in nats, beyond other features' tokens, that confirms an edge."""
SHOWN = 10
"""Chains in the table, the longest."""


class Automata(Study):
    """Finds chains and counts which of the planted sequences they follow."""

    name = "automata"
    title = (
        "Features of one token (half of their activation or more), of a dictionary of the grammar's subject behind its "
        "last layer, on text a third of whose sentences are fixed sequences. An edge leads from one to another whose "
        "token is predicted there (10% or more) and whose logit falls when the first is ablated: found on one half of "
        f"the text, confirmed on the other by {LEAST} nats or more. Planted: neighbouring words of the fixed sequences."
    )

    def measure(self, session: Session) -> dict[str, Any]:
        """Find edges and compare them with what was planted. Raises NotApplicable but for a toy."""
        from autointerp.sampling.automata import measure
        from autointerp.sampling.tasks import is_toy

        if not is_toy(session):
            raise NotApplicable("needs sequences that are known to be in the text: only the grammar's are")
        return measure(session, LEAST)

    def figures(self, measured: Mapping[str, Any]) -> Sequence[Figure]:
        """Return precision and recall, the same for shuffled edges, and how far tokens fall."""
        precision, shuffled = measured["planted"], measured["planted_shuffled"]
        starts, recall, possible = measured["in_text"], measured["recalled"], measured["possible"]
        named = {
            "edges from planted tokens that are planted (precision)": precision,
            "the same with the second features shuffled": shuffled,
            "all edges whose two tokens follow each other somewhere in the text": starts,
            "planted pairs that an edge has (recall)": recall,
            "the same, of pairs both of whose tokens are in some edge": possible,
        }
        falls = [figure(f"fall of {what} token, nats", mean_interval(measured[key]), len(measured[key]))
                 for what, key in (("the second feature's", "falls"), ("other features'", "others"))]  # fmt: skip
        shares = [figure(what, mean_interval(values, (0.0, 1.0)), len(values)) for what, values in named.items()]
        return [*shares, *falls]

    def tables(self, measured: Mapping[str, Any]) -> Sequence[Table]:
        """Return the longest chains with their text."""
        rows = [
            [" > ".join(map(str, one["features"])), repr("".join(one["tokens"])), number(min(one["falls"]))]
            for one in measured["chains"][:SHOWN]
        ]
        header = ["features", "tokens", "least fall, nats"]
        return [Table(header, rows, "The longest chains, each along the strongest edge.")]


STUDIES.register("automata", Automata)
