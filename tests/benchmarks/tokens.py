"""Counts what judging a feature costs in tokens, for the README: our settings, and those of published protocols.

    python tests/benchmarks/tokens.py [FEATURES]

The demo's subject, text and dictionaries; FEATURES (default 10) of each of its six dictionaries. Every prompt is
rendered by this project, with the published protocol's records, excerpts per prompt and calls, and counted as by
--dry-run; no call is made. An answer is taken to be of the usual length; thinking is not counted. Not a test: it
asserts nothing.
"""

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import autointerp
from autointerp.config import load
from sae.common.progress import Silent

MODEL, SERVER = "anthropic/claude-haiku-4-5", "http://localhost:1/v1#m"
PRICE_IN, PRICE_OUT = 1.0, 5.0
"""USD per million tokens."""
JUDGED = load("judged")
RECORDS: dict[str, Any] = {
    "sampling.fragment": JUDGED.sampling.fragment, "sampling.explain": JUDGED.sampling.explain.model_dump(),
    "sampling.score": JUDGED.sampling.score.model_dump(), "controls": JUDGED.controls, "control_kinds": ["mismatched"],
}  # fmt: skip
EVERYTHING = {"scorers": ["simulation", "detection", "fuzzing"]}


def records(**counts: int) -> dict[str, int]:
    """All of a side's records; those that are not named are 0."""
    return dict.fromkeys(("top", "quantile", "importance", "random", "inactive"), 0) | counts


BILLS: dict[str, Any] = {
    "sampling.fragment": 64, "sampling.explain": records(top=5), "sampling.score": records(top=5, random=5, weighted=0),
    "controls": 0.0,
}  # fmt: skip
HIGHLIGHTED = {"explanation.style": "highlighted", "controls": 0.0, "control_kinds": ["mismatched"]}
SETTINGS: dict[str, dict[str, Any]] = {
    "ours: numbered, one call a feature": RECORDS | EVERYTHING,
    "ours: numbered, one call a fragment": RECORDS | {"simulation.fragments": 1},
    "ours: every token again, lines": RECORDS | {"simulation.format": "lines"},
    "ours: every token again, JSON": RECORDS | {"simulation.format": "json"},
    "ours: JSON, controls for all": RECORDS | EVERYTHING | {"simulation.format": "json", "controls": 1.0},
    "Bills: all at once": BILLS | {"simulator": SERVER, "simulation.method": "all_at_once"},
    "Bills' records, numbered": BILLS,
    "delphi: detection, fuzzing": HIGHLIGHTED | {
        "sampling.fragment": 32, "sampling.explain": records(quantile=40),
        "sampling.score": records(quantile=50, inactive=50, weighted=0), "scorers": ["detection", "fuzzing"],
    },
    "SAEBench: one question (32 for 21 tokens)": HIGHLIGHTED | {
        "sampling.fragment": 32, "sampling.explain": records(top=10, importance=5),
        "sampling.score": records(top=2, importance=2, inactive=10, weighted=0), "scorers": ["detection"],
        "detection.texts": 14,
    },
}  # fmt: skip


def counted(changes: Mapping[str, Any], features: int, out: Path) -> list[tuple[str, float, float, float]]:
    """Calls, tokens in and tokens out of a feature, by stage."""
    base = {"explainers": [MODEL], "simulator": MODEL, "sampling.features": features, "scorers": ["simulation"]}
    estimator = autointerp.api.estimate("demo", base | {"control_kinds": ["mismatched"]} | changes, out, Silent)
    n = len(autointerp.open_run(out).features)
    return [
        (stage.stage, stage.calls / n, stage.usage.tokens_in / n, stage.usage.tokens_out / n)
        for stage in estimator.stages
    ]


def main() -> None:
    features = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    print(f"| setting | stage | calls | tokens in | tokens out | USD at ${PRICE_IN:g} / ${PRICE_OUT:g} |")
    print("|---" * 6 + "|")
    for name, changes in SETTINGS.items():
        with tempfile.TemporaryDirectory() as folder:
            rows = counted(changes, features, Path(folder) / "run")
        total = ("total", *(sum(row[i] for row in rows) for i in (1, 2, 3)))
        for stage, calls, tokens_in, tokens_out in [*rows, total]:
            usd = (PRICE_IN * tokens_in + PRICE_OUT * tokens_out) / 1e6
            print(f"| {name} | {stage} | {calls:.1f} | {tokens_in:,.0f} | {tokens_out:,.0f} | {usd:.4f} |", flush=True)


if __name__ == "__main__":
    main()
