"""A package of somebody else's, built and installed, adds a scorer, a provider and a format, and they run."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.conftest import PLANTED_SETTINGS

ROOT = Path(__file__).parents[2]
PACKAGE = Path(__file__).parent / "foreign_package"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages with the foreign one, built from its source."""
    folder = tmp_path_factory.mktemp("foreign")
    shutil.copytree(PACKAGE, folder / "source")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", folder / "site", folder / "source"], check=True)
    return folder / "site"


@pytest.fixture
def plain(planted: Path, tmp_path: Path) -> Path:
    """The planted dictionary in the foreign format."""
    folder = tmp_path / "plain"
    folder.mkdir()
    eye = np.eye(16, dtype=np.float32)[:, :8]
    about = {"hook_point": "hook_embed", "model": str(planted / "model")}
    np.savez(folder / "plain.npz", encoder=eye, decoder=eye.T, **about)  # type: ignore[arg-type]
    return folder


def command(installed: Path, program: str, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": f"{installed}{os.pathsep}{ROOT}"}
    words = [sys.executable, "-m", program, *map(str, arguments)]
    return subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, timeout=900, check=False)


def test_foreign_parts_are_in_help_settings_and_errors(installed: Path, tmp_path: Path) -> None:
    help_text = " ".join(command(installed, "autointerp", "run", "--help", cwd=tmp_path).stdout.split())
    assert "word_overlap" in help_text
    assert "every_other/MODEL answers 1, 0, 1, ... without reading" in help_text
    printed = command(installed, "autointerp", "config", "word_overlap", cwd=tmp_path).stdout
    assert "# Letters of the shortest word that counts.\n  shortest: 4\n" in printed
    assert yaml.safe_load(printed) == {"word_overlap": {"shortest": 4}}
    for flags, near in (
        (["--scorers", "word_overlp"], "unknown scorer 'word_overlp'; did you mean word_overlap?"),
        (["--set", "word_overlap.shortst=3"], "did you mean word_overlap.shortest"),
        (["--set", "word_overlap.shortest=x"], "word_overlap.shortest: input should be a valid integer"),
    ):
        wrong = command(installed, "autointerp", "run", *flags, cwd=tmp_path)
        assert (wrong.returncode, wrong.stderr.strip().count("\n")) == (2, 0), wrong.stderr
        assert near in wrong.stderr


@pytest.mark.slow
def test_foreign_parts_run_and_a_judge_beside_the_rules(installed: Path, plain: Path, planted: Path) -> None:
    """Rules explain and simulate, the foreign scorer reads the text, and the foreign provider judges detection."""
    settings = [*PLANTED_SETTINGS, "word_overlap.shortest=3", "sampling.score.inactive=10", "detection.texts=4"]
    changes = [word for setting in settings for word in ("--set", setting)]
    done = command(
        installed, "autointerp", "run", "dictionary", "--dictionary", plain, "--corpus", planted / "corpus.jsonl",
        "--baselines", "none", "--explainer", "rules-1", "--judge", "every_other/m", "--features", 3, *changes,
        "--scorers", "simulation,word_overlap,detection", "--out", "run", cwd=plain.parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = {row["scorer"]: row for row in json.loads((plain.parent / "run" / "leaderboard.json").read_text())}
    assert rows["simulation/top_and_random"]["mean"] == pytest.approx(1.0)
    assert (rows["simulation/top"]["simulator"], rows["simulation/top"]["judge"]) == ("rules", None)
    assert rows["word_overlap"]["mean"] > 0.6 > rows["word_overlap"]["control_mean"]
    assert rows["word_overlap"]["chance"] == 0.5
    assert rows["detection"]["judge"] == "every_other/m"
    assert rows["detection"]["n_ok"] == 3
    about = json.loads((plain.parent / "run" / "run.json").read_text())
    assert about["config"]["judge"] == "every_other/m"
    assert about["config"]["word_overlap"] == {"shortest": 3}
    assert about["inputs"]["judges"] == [["every_other/m"]]
    results = [json.loads(line) for line in (plain.parent / "run" / "results.jsonl").read_text().splitlines()]
    for result in results:
        assert [item["answer"] for item in result["judgements"]["detection"][:4]] == [1, 0, 1, 0]


def test_foreign_format_is_known_to_sae(installed: Path, plain: Path) -> None:
    done = command(installed, "sae", "info", plain, cwd=plain.parent)
    assert done.returncode == 0, done.stderr
    assert "hook_embed" in done.stdout


def test_the_foreign_scorer_is_short_enough_to_be_an_example() -> None:
    lines = (PACKAGE / "foreign_parts" / "word_overlap.py").read_text("utf-8").splitlines()
    assert sum(1 for line in lines if line.strip()) <= 30
