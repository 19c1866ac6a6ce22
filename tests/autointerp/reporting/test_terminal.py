"""What a run prints in a terminal, from folders and estimates made by hand."""

import shlex
from pathlib import Path
from typing import Any

import pytest

from autointerp.llm.pricing import Prices
from autointerp.reporting import lists, terminal
from autointerp.store import RunFolder
from sae.common.errors import UserError
from tests.autointerp.reporting.rows import simulated

SUMMARY = {
    "name": "d", "n_features": 2048, "l0": None, "fvu": 0.25, "ce_recovered": None, "dead": None, "n_sampled": 9,
    "n_candidates": 12, "n_dead": 1, "n_rare": 2, "converged": False,
}  # fmt: skip
SAMPLED = {
    "device": "cpu", "corpus_tokens": 1_000_000, "held_out_tokens": 2000, "held_out_by": "this run",
    "usable_tokens": 1500, "near_duplicate_documents": 7, "score_tokens_in_explain_16_grams": 0.004,
}  # fmt: skip


def finished(path: Path, **totals: Any) -> RunFolder:
    folder = RunFolder(path / "run")
    known = {"calls": 0, "tokens_in": 0, "tokens_out": 0, "cost_usd": 0.0, "error": 0}
    config = {"corpus": {"source": "stdlib"}}
    folder.begin(
        {"status": "complete", "notes": [], "sampling": SAMPLED, "dictionaries": [SUMMARY], "totals": known | totals}
    )
    folder.update(config=config)
    folder.write_json("leaderboard.json", simulated("d"))
    return folder


def test_the_outcome_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    terminal.print_outcome(finished(tmp_path))
    printed = capsys.readouterr().out
    for part in (
        "2,000 held out by this run, 1,500 of them in fragments that records are drawn from",
        "near-duplicates: 7 documents stay on the side of another that has more than a quarter of their 16-grams",
        "0.4% of the tokens to score lie in a 16-gram of the text to explain",
        "d: 2,048 features, L0 -, FVU 0.250, CE recovered -, dead -; sampled 9 of 12 candidates (1 dead, 2 too rare); "
        "stopped before it converged",
        "d           0.50 [0.40, 0.60]",
        f"the other tables in {tmp_path}/run/leaderboard.md",
    ):
        assert part in printed
    assert "model calls" not in printed
    assert "errors" not in printed
    assert printed.endswith(f"next: autointerp show {shlex.quote(str(tmp_path / 'run'))}\n")


def test_the_outcome_of_a_paid_run_with_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    terminal.print_outcome(finished(tmp_path, calls=1234, cost_usd=None, error=3))
    printed = capsys.readouterr().out
    assert "model calls: 1,234, with 0 tokens in and 0 out; cost unknown" in printed
    assert "3 results are errors" in printed


def stage(name: str, usd: float | None, most: float | None) -> dict[str, Any]:
    return {
        "stage": name,
        "model": "openai/m",
        "calls": 1200,
        "in cache": 0,
        "usd": usd,
        "most usd": most,
        "thinking": "-",
    }


def test_an_estimate_adds_up_its_stages(capsys: pytest.CaptureFixture[str]) -> None:
    prices = Prices({}, 0.5, "2026-01-01")
    stages = [stage("explain", 0.5, 2.0), stage("simulate", 1.0, 3.0)]
    saved = {"--batch": 0.5, "--set controls=0.2": 0.321}
    terminal.print_estimate(stages, prices, 30, saved, "autointerp run x")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["stage", "model", "calls", "in", "cache", "usd", "most", "usd", "thinking"]
    assert lines[2].split() == ["explain", "openai/m", "1,200", "0", "0.5000", "2.0000", "-"]
    assert "about $1.50, $0.0500 a feature; at most $5.00" in lines[-4]
    assert "prices as of 2026-01-01" in lines[-4]
    assert lines[-3:-1] == ["--batch would save $0.75 (50%)", "--set controls=0.2 would save $0.48 (32%)"]
    assert lines[-1] == "next: autointerp run x --max-cost 5.00"


def test_an_estimate_without_a_price_or_without_calls(capsys: pytest.CaptureFixture[str]) -> None:
    prices = Prices({}, 0.5, "2026-01-01")
    stages = [stage("explain", 0.5, 2.0), stage("simulate", None, None)]
    terminal.print_estimate(stages, prices, 3, {}, "autointerp run x")
    assert "no price is known for openai/m: write" in capsys.readouterr().out
    terminal.print_estimate([], prices, 3, {}, "autointerp run x")
    assert "makes no model calls" in capsys.readouterr().out


def test_a_run_without_results_has_no_list(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no results yet; finish it"):
        lists.feature_list(RunFolder(tmp_path))
