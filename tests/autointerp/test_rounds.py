"""Runs in rounds: what stops, what goes on, interrupted anywhere, checked again, foretold."""

import json
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from autointerp.evaluate import Method
from autointerp.reporting import leaderboard
from autointerp.runs.dependence import dependence_of
from autointerp.runs.offline import Offline
from autointerp.runs.opening import config_of
from autointerp.runs.rounds import Rounds
from autointerp.runs.work import Work
from autointerp.store import LOG, RunFolder
from sae.common.progress import Silent
from tests.autointerp.test_pipeline import contents, wait_for
from tests.conftest import autointerp

FLAGS = (
    "--explainer", "rules-5", "--until-resolved", "--difference", "0.9", "--set", "stopping.first=5",
    "--set", "runtime.pictures=[]", "--set", "control_kinds=[mismatched]",
)  # fmt: skip
ENDS = [5, 8, 12]
"""Features of a dictionary with which the rounds of `smoke` end."""


@pytest.fixture(scope="module")
def rounds(smoke: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[bytes]]:
    """A finished run in rounds, with the records of `smoke`; and the lines of its results as they were written."""
    folder, lines, append = tmp_path_factory.mktemp("rounds"), list[bytes](), RunFolder.append

    def noted(self: RunFolder, results: object) -> None:
        append(self, results)  # type: ignore[arg-type]
        lines[:] = (self.path / "results.jsonl").read_bytes().splitlines(keepends=True)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunFolder, "append", noted)
        done = autointerp("run", "smoke", *FLAGS, "--out", "run", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "comparison " in done.stdout
    assert "comparisons are resolved; " in done.stderr
    return folder / "run", lines


def rows_of(run: Path) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = json.loads((run / "comparisons.json").read_text())
    return rows


def test_dictionaries_stop_when_their_comparisons_are_resolved(rounds: tuple[Path, list[bytes]]) -> None:
    run, _ = rounds
    scored = Counter(result.feature.dictionary for result in RunFolder(run).results())
    rows = rows_of(run)
    assert len(rows) == 15 + 6
    assert set(scored.values()) <= set(ENDS)
    assert min(scored.values()) < 12
    for name, n in scored.items():
        own = [row for row in rows if name in (row["dictionary"], row["against"])]
        last = max(len(ENDS) if row["round"] is None else int(str(row["round"])) for row in own)
        assert n <= ENDS[last - 1], name
        assert n >= max(int(str(row["features"])) for row in own if row["dictionary"] == name)
    for row in rows:
        low, high = (float(str(row[end])) for end in ("low", "high"))
        expected = "differ" if low > 0 or high < 0 else "equal" if low > -0.9 and high < 0.9 else "open"
        assert row["verdict"] == expected
        assert (row["round"] is None) == (expected == "open")
        assert (row["chance"] is None) == (expected != "open")
        assert row["given_up"] == (row["chance"] is not None and float(str(row["chance"])) < 0.5)


def test_a_score_is_that_of_the_run_without_rounds(rounds: tuple[Path, list[bytes]], smoke: Path) -> None:
    """With its controls: a feature's result does not depend on what else is scored."""
    whole = {result.feature: result for result in RunFolder(smoke).results() if result.explainer == "rules-5"}
    for result in RunFolder(rounds[0]).results():
        assert result.scores == whole[result.feature].scores
        assert result.controls["mismatched"] == whole[result.feature].controls["mismatched"]


def test_scored_again_without_a_file_the_same_is_decided(rounds: tuple[Path, list[bytes]]) -> None:
    """As `verify` and dry runs score: what the text adds to the error is not lost where nothing is written."""
    folder = RunFolder(rounds[0])
    config, features = config_of(folder), folder.read_features()
    method, made = Method.of(config), []
    for append in (None, lambda results: None):
        work, deciding = Work(features, config, method, ()), Rounds(config, method, features)
        work.explain(Offline(), Silent("explaining"))
        work.evaluate(Offline(), Silent("scoring"), append)
        own = deciding.compared(work.results())
        resolution = deciding.resolution(own, deciding.dependence(own, work.influences))
        made.append([(one.difference, one.low, one.high) for one in resolution.comparisons])
    assert made[0] == made[1]


def test_intervals_are_wider_than_those_of_one_look(rounds: tuple[Path, list[bytes]]) -> None:
    folder = RunFolder(rounds[0])
    method, results = Method.of(config_of(folder)), list(folder.results())
    dependence = dependence_of(method, folder.read_features(), results)
    texts = leaderboard.texts(folder, results, method.chances, dependence, None)
    for row, plain in zip(folder.read_leaderboard(), json.loads(texts[leaderboard.BOARD]), strict=True):
        assert row["mean"] == plain["mean"]
        assert row["ci_low"] <= plain["ci_low"]
        assert row["ci_high"] >= plain["ci_high"]
        assert row["ci_high"] - row["ci_low"] > plain["ci_high"] - plain["ci_low"]


@pytest.mark.parametrize("share", [0.6, *(pytest.param(share, marks=pytest.mark.slow) for share in (0.1, 0.95))])
def test_stopped_anywhere_and_resumed_the_files_are_the_same(
    rounds: tuple[Path, list[bytes]], tmp_path: Path, share: float
) -> None:
    run, lines = rounds
    begin(run, tmp_path / "run")
    written = b"".join(lines[: int(share * len(lines))])
    (tmp_path / "run" / "results.jsonl").write_bytes(written + b'{"feature":{"dictionary":"to')
    done = autointerp("run", "smoke", *FLAGS, "--out", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "run") == contents(run)


def begin(run: Path, out: Path) -> None:
    """Copy what a run has on disk when it begins to score."""
    out.mkdir()
    for name in ("records.parquet", "features.parquet", "population.parquet", "population_text.parquet"):
        shutil.copy(run / name, out)
    about = json.loads((run / "run.json").read_text())
    for name in ("totals", "files", "checksum"):
        del about[name]
    (out / "run.json").write_text(json.dumps(about | {"status": "scoring"}))


@pytest.mark.slow
@pytest.mark.parametrize("round_", [1, 2, 3])
def test_killed_in_a_round_and_resumed_the_files_are_the_same(
    rounds: tuple[Path, list[bytes]], tmp_path: Path, round_: int
) -> None:
    run, lines = rounds
    begin(run, tmp_path / "run")
    results = tmp_path / "run" / "results.jsonl"
    process = subprocess.Popen(
        [sys.executable, "-m", "autointerp", "run", "smoke", *FLAGS, "--out", str(tmp_path / "run")],
        cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    target = {1: 3, 2: 6 * ENDS[0] + 1, 3: len(lines) - 1}[round_]
    reached = wait_for(lambda: results.exists() and results.read_bytes().count(b"\n") >= target, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert reached
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "scoring"
    done = autointerp("run", "smoke", *FLAGS, "--out", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "run") == contents(run)


@pytest.mark.slow
def test_every_figure_can_be_computed_again_and_one_changed_digit_is_noticed(
    rounds: tuple[Path, list[bytes]], tmp_path: Path
) -> None:
    from autointerp.runs.verify import verify

    run, _ = rounds
    assert not [check for check in verify(RunFolder(run), Silent) if check.differences]
    shutil.copytree(run, tmp_path / "run")
    path = tmp_path / "run" / "comparisons.json"
    rows = rows_of(run)
    rows[0]["features"] = int(str(rows[0]["features"])) + 1
    path.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
    wrong = [text for check in verify(RunFolder(tmp_path / "run"), Silent) for text in check.differences]
    assert wrong[0].startswith("comparisons.json, line")


@pytest.mark.slow
def test_damaged_tables_are_made_again_as_they_were(rounds: tuple[Path, list[bytes]], tmp_path: Path) -> None:
    run, _ = rounds
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "comparisons.json").write_text("[]")
    done = autointerp("leaderboard", "run", cwd=tmp_path)
    assert "Until resolved, by population in at most 3 rounds" in done.stdout
    assert contents(tmp_path / "run") == contents(run)
    assert (tmp_path / "run" / LOG).exists()


@pytest.mark.slow
def test_a_dry_run_foretells_the_rounds_with_rules(rounds: tuple[Path, list[bytes]], tmp_path: Path) -> None:
    """For a language model: not more features than rules had to score, because other rules score all for nothing."""
    model = "anthropic/claude-haiku-5-5"
    flags = [*(model if word == "rules-5" else word for word in FLAGS), "--set", "stopping.most=12"]
    done = autointerp("run", "smoke", *flags, "--simulator", model, "--dry-run", "--out", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    foretold = re.search(
        r"as if rules had scored them: about \$([\d.]+), with [\d,]+ calls for (\d+) of 72", done.stdout
    )
    about = re.search(r"about \$([\d.]+), \$[\d.]+ a feature; at most", done.stdout)
    assert foretold, done.stdout
    assert about, done.stdout
    assert 6 * ENDS[0] <= int(foretold[2]) <= len(list(RunFolder(rounds[0]).results()))
    assert float(foretold[1]) < float(about[1])


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--difference", "0.1"], "--difference is for --until-resolved; add that, or leave it out"),
        (["--until-resolved", "--difference", "0"], "stopping.difference"),
    ],
)
def test_mistakes_are_one_line(flags: list[str], says: str, tmp_path: Path) -> None:
    done = autointerp("run", "smoke", *flags, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert says in done.stderr


def test_one_dictionary_without_controls_has_nothing_to_compare(planted: Path, tmp_path: Path) -> None:
    done = autointerp(
        "run", "--dictionary", planted / "dictionary", "--corpus", planted / "corpus.jsonl", "--baselines", "none",
        "--set", "controls=0", "--until-resolved", cwd=tmp_path,
    )  # fmt: skip
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "--until-resolved has nothing to compare" in done.stderr
