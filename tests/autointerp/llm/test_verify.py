"""`verify` holds for runs as they are, and finds one changed digit, even where run.json was made to fit the change."""

import json
import random
import re
import shutil
from pathlib import Path

import pytest

from autointerp import Run
from autointerp.runs.verify import Check, verify
from autointerp.store import RunFolder
from sae.common.progress import Silent
from tests.autointerp.llm.conftest import Finished
from tests.conftest import autointerp

TABLES = ("leaderboard.json", "leaderboard.csv", "leaderboard.md", "leaderboard.tex", "comparisons.json")


@pytest.fixture
def judged_run(finished: Finished, tmp_path: Path) -> RunFolder:
    """A copy of a run whose answers came from language models."""
    shutil.copytree(finished.session.folder / "one", tmp_path / "run")
    return RunFolder(tmp_path / "run")


def differences(folder: RunFolder) -> list[str]:
    return [text for check in verify(folder, Silent) for text in check.differences]


def another_digit(text: str, offset: int) -> str:
    """Change the digit at an offset."""
    return text[:offset] + str((int(text[offset]) + 1) % 10) + text[offset + 1 :]


def test_an_untouched_run_holds(judged_run: RunFolder) -> None:
    before = {path: path.read_bytes() for path in judged_run.path.rglob("*") if path.is_file()}
    checks = verify(judged_run, Silent)
    results = list(judged_run.results())
    assert checks[0] == Check("scores computed again from answers and records", sum(len(r.scores) for r in results))
    assert not [check for check in checks if check.differences]
    assert {path: path.read_bytes() for path in judged_run.path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", TABLES)
def test_a_changed_digit_of_a_table_does_not_follow(name: str, judged_run: RunFolder) -> None:
    path, rng = judged_run.path / name, random.Random(name)
    text = path.read_text("utf-8")
    figures = [match.start() for match in re.finditer(r"(?<=\.)\d|(?<=[ ,:])\d(?=[,\n ])", text)]
    path.write_text(another_digit(text, rng.choice(figures)), "utf-8")
    judged_run.seal()
    (only,) = differences(judged_run)
    assert only.startswith(f"{name}, line ")


def test_a_changed_digit_of_a_score_or_an_answer_does_not_follow(judged_run: RunFolder) -> None:
    """In each of twelve draws: a score, an interval, a predicted activation, a judge's answer."""
    path, rng = judged_run.path / "results.jsonl", random.Random(0)
    text = path.read_text("utf-8")
    parts = r'"scores":\{[^}]*\}|"intervals":\{[^}]*\}|"predicted":\[[^]]*\]|"answer":\d'
    spans = [match.span() for match in re.finditer(parts, text)]
    own = [span for span in spans if '"controls"' not in text[text.rfind("\n", 0, span[0]) + 1 : span[0]]]
    for start, end in rng.sample(own, 12):
        digits = [start + match.start() for match in re.finditer(r"(?<=\.)\d(?!e)|(?<=:)\d", text[start:end])]
        path.write_text(another_digit(text, rng.choice(digits)), "utf-8")
        judged_run.seal()
        assert differences(judged_run), text[start:end]


def test_any_file_that_was_touched_is_named(judged_run: RunFolder) -> None:
    path = judged_run.path / "results.jsonl"
    path.write_bytes(path.read_bytes().replace(b"{", b"{ ", 1))
    assert "results.jsonl is not the file that the run wrote" in differences(judged_run)


def test_a_run_of_rules_is_scored_again_whole(planted_run: Run, tmp_path: Path) -> None:
    """A control's score, which other runs cannot check, is the only thing that does not follow."""
    shutil.copytree(planted_run.path, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    path = folder.path / "results.jsonl"
    lines = path.read_text("utf-8").splitlines()
    row = json.loads(lines[0])
    name = next(name for name, value in row["controls"]["mismatched"]["scores"].items() if value)
    row["controls"]["mismatched"]["scores"][name] += 1e-6
    path.write_text("\n".join([json.dumps(row), *lines[1:], ""]), "utf-8")
    folder.seal()
    done = autointerp("verify", folder.path, cwd=tmp_path)
    assert done.returncode == 1
    expected = f"{row['feature']['dictionary']}/{row['feature']['index']} by {row['explainer']}: [controls][mismatched]"
    assert expected in done.stderr.splitlines()[-1]
    assert done.stderr.count("autointerp: ") == 1


def test_an_unfinished_run_is_refused(judged_run: RunFolder) -> None:
    judged_run.update(status="scoring")
    done = autointerp("verify", judged_run.path, cwd=judged_run.path.parent)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "is not finished" in done.stderr
