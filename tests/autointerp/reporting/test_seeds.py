"""Runs that differ only in their seed: the parts of the variance by simulation, and the command from end to end."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from autointerp.cli.experiment import _with_seeds
from autointerp.config import load
from autointerp.reporting import seeds
from autointerp.store import RunFolder
from tests.autointerp.reporting.rows import row
from tests.autointerp.reporting.test_leaderboard import run_folder
from tests.conftest import autointerp

SEED, TEXT, FEATURES = 0.02, 0.03, 0.04


def rows(rng: np.random.Generator, n: int, **values: Any) -> list[dict[str, Any]]:
    """Means of n seeds around 0.4, with all three sources of error."""
    errors = {"se_documents": TEXT, "se_features": FEATURES} | values
    deviation = np.sqrt(SEED**2 + TEXT**2 + FEATURES**2)
    return [row("sae", mean=0.4 + deviation * rng.normal(), **errors) for _ in range(n)]


def test_the_seeds_part_is_what_text_and_features_leave() -> None:
    made = seeds.over_seeds(rows(np.random.default_rng(0), 4000), (-1.0, 1.0))
    assert (made.seed, made.text, made.features) == (
        pytest.approx(SEED, abs=0.006),
        pytest.approx(TEXT),
        pytest.approx(FEATURES),
    )
    assert made.largest == "features"
    unknown = seeds.over_seeds(rows(np.random.default_rng(0), 4000, se_documents=None), (-1.0, 1.0))
    assert (unknown.text, unknown.seed) == (None, pytest.approx(np.hypot(SEED, TEXT), abs=0.003))


def test_the_interval_covers_the_mean_over_all_three() -> None:
    """Against scipy, and by simulation: 95% of 1,000 sets of five seeds."""
    rng = np.random.default_rng(1)
    five = rows(rng, 5)
    means = [one["mean"] for one in five]
    made = seeds.over_seeds(five, None)
    assert (made.low, made.high) == pytest.approx(stats.t.interval(0.95, 4, np.mean(means), stats.sem(means)))
    covered = [(one := seeds.over_seeds(rows(rng, 5), None)).low <= 0.4 <= one.high for _ in range(1000)]
    assert 0.93 <= np.mean(covered) <= 0.97
    assert seeds.over_seeds(five, (0.39, 0.41)).low >= 0.39


def seeded(path: Path, seed: int, **config: Any) -> RunFolder:
    run = RunFolder(run_folder(path, [row("sae", mean=0.4 + seed / 100, se_features=0.001, se_documents=0.002)]))
    about = json.loads((path / "run.json").read_text())
    about["config"] |= {"seed": seed} | config
    run.begin(about)
    return run


def test_runs_that_differ_in_more_than_their_seed_have_no_such_table(tmp_path: Path) -> None:
    first, second = seeded(tmp_path / "a", 0), seeded(tmp_path / "b", 1, name="b")
    (table,) = seeds.tables([first, second])
    assert "over seeds 0, 1" in table.title
    assert seeds.ONE_DOCUMENT not in table.title
    assert list(table.rows[0]) == ["sae", "0.41 [0.34, 0.47]", "0.007", "0.002", "0.001", "seeds (--seeds)"]
    assert seeds.tables([first]) == []
    assert seeds.tables([first, seeded(tmp_path / "c", 0)]) == []
    assert seeds.tables([first, seeded(tmp_path / "d", 1, judge="openai/m")]) == []
    done = autointerp("leaderboard", tmp_path / "a", tmp_path / "b", cwd=tmp_path)
    assert "over seeds 0, 1" in done.stdout


def test_seeds_follow_each_other_and_share_the_budget() -> None:
    made = _with_seeds(load("smoke", {"seed": 3, "runtime.out": "here", "runtime.max_cost": 9.0}), 3)
    assert [(one.seed, one.runtime.out, one.runtime.max_cost) for one in made] == [
        (3, "here/seed-3", 3.0), (4, "here/seed-4", 3.0), (5, "here/seed-5", 3.0)
    ]  # fmt: skip
    assert _with_seeds(load("smoke", {}), 2)[1].runtime.out is None


def test_a_dry_run_of_seeds_is_refused_in_one_line(tmp_path: Path) -> None:
    done = autointerp("run", "smoke", "--seeds", "3", "--dry-run", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "leave --seeds out" in done.stderr


@pytest.mark.slow
def test_two_seeds_from_the_command_line_resume(tmp_path: Path) -> None:
    words = ("run", "smoke", "--seeds", "2", "--out", "runs", "--features", "6", "--set", "runtime.pictures=[]")
    done = autointerp(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "over seeds 0, 1" in done.stdout
    kept = {path: path.read_bytes() for path in tmp_path.glob("runs/seed-*/results.jsonl")}
    assert len(kept) == len(set(kept.values())) == 2
    again = autointerp(*words, "--quiet", cwd=tmp_path)
    assert again.stdout.split() == ["runs/seed-0", "runs/seed-1"]
    assert {path: path.read_bytes() for path in kept} == kept
