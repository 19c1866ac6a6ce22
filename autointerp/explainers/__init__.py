"""Explainers: from the records of a feature to a sentence about it. One idea per file; `make` finds one by its spec."""

from collections.abc import Sequence
from typing import Protocol

from autointerp.records import ActivationRecord, Explanation
from sae.errors import UserError


class Explainer(Protocol):
    """Sees the explain records and nothing else."""

    name: str

    def explain(self, records: Sequence[ActivationRecord]) -> Explanation: ...


def make(spec: str) -> Explainer:
    """`rules-N`, `rules-unlimited` (and `rules`, which is rules-5) or `token-table`. Raises UserError otherwise."""
    from autointerp.explainers.rules import RulesExplainer, TokenTableExplainer

    if spec == "token-table":
        return TokenTableExplainer()
    kind, _, limit = spec.partition("-")
    if kind == "rules" and limit == "unlimited":
        return RulesExplainer(None)
    if kind == "rules" and (limit == "" or (limit.isdigit() and int(limit) > 0)):
        return RulesExplainer(int(limit or 5))
    raise UserError(f"unknown explainer {spec!r}; known: rules-N (N = 1, 2, ...), rules-unlimited, token-table")
