"""Runs in rounds with judges: what is not scored is not asked about, and a budget that ends in a round is continued."""

import re
from collections import Counter

import pytest

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
