"""Runs in rounds with judges: what is not scored is not asked about, and a budget that ends in a round is continued.

Rules score more features than are judged, and correct the differences: every figure can be computed again.
"""

import json
import re
from collections import Counter

import pytest

from autointerp.runs.verify import verify
from autointerp.store import RunFolder
from sae.common.progress import Silent
from tests.autointerp.llm.conftest import RunSession

ROUNDS = (
    "--features", 8, "--until-resolved", "--difference", 3, "--set", "stopping.first=5", "--scorers", "simulation",
)  # fmt: skip
"""Correlations differ by less than 3: the first round resolves all, if it is reached."""


@pytest.mark.slow
def test_a_budget_ends_in_a_round_and_the_same_command_continues(session: RunSession) -> None:
    foretold = session.run("rounds", *ROUNDS, "--dry-run")
    assert foretold.returncode == 0, foretold.stderr
    expected = re.search(r"expected, .*: about \$[\d.]+, with ([\d,]+) calls for 10 of 16 features", foretold.stdout)
    assert expected, foretold.stdout
    stopped = session.run("rounds", *ROUNDS, "--max-cost", 0.002)
    assert stopped.returncode == 1, stopped.stderr
    assert "stopped before a call that could pass --max-cost 0.002" in stopped.stderr
    before = len(session.server.calls())
    assert before < int(expected[1])
    done = session.run("rounds", *ROUNDS)
    assert done.returncode == 0, done.stderr
    assert "2 of 3 comparisons" not in done.stderr
    assert len(session.results("rounds")) == 10
    calls = Counter(call["body"] for call in session.server.calls())
    assert sum(calls.values()) == len(calls)
    assert len(calls) == pytest.approx(int(expected[1]), rel=0.1)
    rows = json.loads((session.folder / "rounds" / "comparisons.json").read_text())
    assert [rows[0][name] for name in ("n_scored", "n_most", "n_free")] == [10, 16, 64]
    assert "Differences and leads are corrected by rules' scores of 64 features" in done.stdout
    assert not [check for check in verify(RunFolder(session.folder / "rounds"), Silent) if check.differences]
    rows[0]["low"] += 1e-6
    (session.folder / "rounds" / "comparisons.json").write_text(json.dumps(rows, indent=1) + "\n")
    wrong = [text for check in verify(RunFolder(session.folder / "rounds"), Silent) for text in check.differences]
    assert wrong[0].startswith("comparisons.json, line")
