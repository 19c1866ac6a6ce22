"""Leaderboard rows made by hand."""

from typing import Any

from autointerp.reporting.leaderboard import COLUMNS
from autointerp.scorers.simulation import NAMES


def row(dictionary: str, scorer: str = "simulation/population", **values: Any) -> dict[str, Any]:
    """Make a row of a run with the rules; `values` replace its fields."""
    known = {"dictionary": dictionary, "kind": dictionary, "hook_point": "blocks.0.mlp.hook_post", "scorer": scorer}
    known |= {"explainer": "rules-5", "simulator": "rules", "n_ok": 9, "n_undefined": 1, "n_error": 0, "n_control": 9}
    known |= {"n_failed": 0, "n_control_failed": 1, "n_control_undefined": 0}
    known |= {"mean": 0.5, "ci_low": 0.4, "ci_high": 0.6, "mean_undefined_as_zero": 0.45, "control_mean": 0.01}
    known |= {"best_control": "mismatched", "lead": 0.49, "lead_low": 0.39, "lead_high": 0.59}
    known |= {"chance": 0.0, "density_median": 0.01, "l0": 8.0, "fvu": 0.2, "cost_usd": 0.0}
    return {name: (known | values).get(name) for name in (*COLUMNS, *values)}


def simulated(dictionary: str, **values: Any) -> list[dict[str, Any]]:
    """Make a dictionary's rows of simulation scoring, one per score."""
    return [row(dictionary, scorer, **values) for scorer in NAMES]
