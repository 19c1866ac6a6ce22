"""A standard output that is closed or full: one line on standard error, no traceback, also none while ending."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

COMMANDS = ("sae info {d}", "autointerp show {run}", "autointerp leaderboard {run}", "autointerp config", "sae --help")


@pytest.mark.parametrize("to", ["> /dev/full", ">&-", "2>&- >&-", "| true"])
@pytest.mark.parametrize(
    "command", [pytest.param(one, marks=[] if "info" in one else pytest.mark.slow) for one in COMMANDS]
)
def test_an_output_that_takes_nothing(command: str, to: str, smoke: Path, planted: Path, tmp_path: Path) -> None:
    words = command.format(d=shlex.quote(str(planted / "dictionary")), run=shlex.quote(str(smoke)))
    line = f"set -o pipefail; {shlex.quote(sys.executable)} -m {words} {to}"
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=600)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert done.stderr.count("\n") <= 1, done.stderr
    if "2>&-" not in to and "|" not in to:
        assert done.returncode != 0
        assert "standard output" in done.stderr
