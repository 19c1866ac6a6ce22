"""The main job end to end: a planted truth, determinism, kill and resume, the run folder's contract."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import get_args

import pandas
import pyarrow.parquet as parquet
import pytest

import autointerp as package
from autointerp import record_files
from autointerp.records import ACTIVE_SOURCES, AnswerError, Explanation, Status
from autointerp.reporting.leaderboard import COLUMNS
from autointerp.store import LOG, RECORD_FILES, SCHEMA_VERSION, RunFolder
from sae.common.progress import Silent
from tests.conftest import OFFLINE, WORDS, autointerp, run_planted

FILES = {
    "run.json", "records.parquet", "features.parquet", "results.jsonl", "leaderboard.json", "leaderboard.csv",
    "leaderboard.md", "leaderboard.tex", "comparisons.json", "population.parquet", "population_text.parquet",
    *(f"pictures/{name}.png" for name in ("scores", "features", "length")),
}  # fmt: skip


def contents(folder: Path) -> dict[str, bytes]:
    """All files but the log."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != LOG]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_a_planted_feature_is_named_and_scores_one(planted_run: package.Run) -> None:
    results = planted_run.results.query("explainer == 'rules-1'").set_index("feature")
    assert list(results.index) == list(range(8))
    for feature, word in enumerate(WORDS):
        assert results.loc[feature, "explanation"] == f'Active on the token "{word}" (10.0).'
        assert results.loc[feature, "simulation/top_and_random"] == pytest.approx(1.0)
        assert results.loc[feature, "status"] == "ok"


def test_its_shuffled_explanation_scores_nothing(planted_run: package.Run) -> None:
    controls = planted_run.results["mismatched/simulation/top_and_random"]
    assert controls.abs().max() < 0.35
    assert abs(controls.mean()) < 0.1
    board = planted_run.leaderboard()
    main = board[board.scorer == "simulation/top_and_random"].iloc[0]
    assert main["mean"] == pytest.approx(1.0)
    assert main["control_mean"] == pytest.approx(
        planted_run.results.query("explainer == 'rules-1'")["mismatched/simulation/top_and_random"].mean()
    )


def test_rules_judge_a_planted_feature_offline(planted_run: package.Run) -> None:
    """The judge follows from the simulator; of the ten promoted tokens the rule names the strongest."""
    board = planted_run.leaderboard().query("explainer == 'rules-1'").set_index("scorer")
    scores = {name: board.loc[name, "mean"] for name in OFFLINE[1:]}
    assert scores == {"detection": 1.0, "fuzzing": 1.0, "intruder": 1.0, "logits": pytest.approx(0.55)}
    assert set(board.loc[OFFLINE[1:], "judge"]) == {"rules"}
    for name in OFFLINE[1:3]:
        assert abs(board.loc[name, "control_mean"] - 0.5) < 0.15
    for feature, word in enumerate(WORDS):
        record = planted_run.features[feature]
        assert record.promoted[0] == word
        assert len(record.unpromoted) == 10
        assert not set(record.promoted) & set(record.unpromoted)


def test_ablating_a_planted_word_makes_that_word_less_likely(planted_run: package.Run) -> None:
    """The unembedding is the embedding, so that a word foretells itself; the rule names it and no other token."""
    board = planted_run.leaderboard().query("explainer == 'rules-1'").set_index("scorer")
    recalls = []
    for feature, word in zip(planted_run.features, WORDS, strict=True):
        own = [record for record in feature.score if record.source in ACTIVE_SOURCES][:3]
        assert feature.effect
        assert feature.effect.tokens == sum(value > 0 for record in own for value in record.activations) > 0
        assert feature.effect.lowered[0] == word
        assert feature.effect.lowered_by[0] < -0.1
        assert min(feature.effect.raised_by) > 0
        assert len(feature.effect.unlowered) == len(feature.effect.lowered)
        assert not set(feature.effect.unlowered) & set(feature.effect.lowered)
        assert (feature.effect.logit_agreement or 0) > 0.5
        recalls.append(1 / len(feature.effect.lowered))
    assert board.loc["effect", "mean"] == pytest.approx(0.5 + sum(recalls) / 16)
    page = autointerp("show", planted_run.path, f"words/{planted_run.features[0].id.index}", cwd=planted_run.path)
    assert "judged lowered by effect: 'red'" in page.stdout
    assert re.search(r"ablated: loss [+-]\d\.\d{4} nats on \d+ active tokens, [+-]\d", page.stdout)


@pytest.mark.slow
def test_every_offline_scorer_runs_in_smoke_and_is_shown(smoke: Path, tmp_path: Path) -> None:
    """`smoke` has trained the subject and the dictionaries; these are the same, judged."""
    done = autointerp(
        "run", "smoke", "--scorers", ",".join(OFFLINE), "--explainer", "rules-5", "--judge", "rules",
        "--set", "detection.logprobs=true", "--out", "r", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    board = package.open_run(tmp_path / "r").leaderboard()
    assert {name.split("/")[0] for name in board.scorer} == set(OFFLINE)
    assert not board.n_error.any()
    learnt = board[board.dictionary == "topk_2x"].set_index("scorer")
    for name in ("detection", "detection/auroc", "fuzzing"):
        assert learnt.loc[name, "mean"] > learnt.loc[name, "control_mean"] + 0.1
    assert learnt.loc["intruder", "mean"] > 0.2
    listed = autointerp("show", "r", cwd=tmp_path).stdout.splitlines()
    feature = next(line.split()[0] for line in listed if line.startswith("topk_2x/"))
    page = autointerp("show", "r", feature, cwd=tmp_path).stdout
    for part in ("judged promoted by logits: ", "judged     detection: ", "judged     fuzzing: "):
        assert part in page


def test_the_run_folder_keeps_its_contract(smoke: Path) -> None:
    assert set(contents(smoke)) == FILES
    logged = (smoke / LOG).read_text().splitlines()
    assert logged[0].endswith("begins or continues")
    assert logged[-1].endswith("is complete")
    assert any("sae.common.progress: scoring: done in" in line for line in logged)
    about = json.loads((smoke / "run.json").read_text())
    assert about["schema_version"] == SCHEMA_VERSION
    assert about["status"] == "complete"
    for key in (
        "identity",
        "config",
        "inputs",
        "prompts",
        "versions",
        "git_commit",
        "sampling",
        "dictionaries",
        "totals",
    ):
        assert key in about
    records = parquet.read_table(smoke / "records.parquet").to_pandas()
    assert list(records.columns) == [field.name for field in record_files.SCHEMA]
    assert (records.tokens.map(len) == 32).all()
    assert (records.activations.map(len) == 32).all()
    documents = records.groupby(["dictionary", "feature", "split"]).document.agg(set).unstack()
    assert not [1 for row in documents.itertuples() if row.explain & row.score]
    assert (records[records.source == "inactive"].activations.map(max) == 0).all()
    board = json.loads((smoke / "leaderboard.json").read_text())
    assert all(tuple(row) == COLUMNS for row in board)
    assert board[0]["explainer"] == about["config"]["explainers"][0]
    assert {row["kind"] for row in board} == {"sae", "neurons", "pca", "ica", "random", "random_matched"}
    assert len(pandas.read_csv(smoke / "leaderboard.csv")) == len(board)
    for row in board:
        assert sum(row[f"n_{status}"] for status in get_args(Status)) == 12
    lines = [json.loads(line) for line in (smoke / "results.jsonl").read_text().splitlines()]
    assert len(lines) == 6 * 12 * 4
    assert "/" not in {line["status"] for line in lines}
    assert {line["status"] for line in lines} <= set(get_args(Status))


def test_the_leaderboard_is_what_the_results_say(smoke: Path) -> None:
    run = package.open_run(smoke)
    results = run.results
    for row in run.leaderboard().to_dict("records"):
        group = results[(results.dictionary == row["dictionary"]) & (results.explainer == row["explainer"])]
        scores = group[row["scorer"]]
        assert row["mean"] == pytest.approx(scores.mean())
        assert row["n_undefined"] == scores.isna().sum()
        assert row["mean_undefined_as_zero"] == pytest.approx(scores.fillna(0).mean())
        assert row["ci_low"] <= row["mean"] <= row["ci_high"]


@pytest.fixture(scope="module")
def again(smoke: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `run`, the smoke run again, sampled anew, and the `cache` of it, which shares what was trained."""
    folder = tmp_path_factory.mktemp("again")
    (folder / "cache").mkdir()
    for made in ("dictionaries", "subjects", "tokens"):
        (folder / "cache" / made).symlink_to(Path(os.environ["AUTOINTERP_CACHE"], made))
    run_beside(folder, "run")
    return folder


def run_beside(folder: Path, out: str, *flags: str) -> str:
    done = autointerp(
        "run", "smoke", "--out", out, *flags, cwd=folder, environment={"AUTOINTERP_CACHE": str(folder / "cache")}
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_same_seed_same_bytes(
    planted: Path, planted_run: package.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sampled anew, with nothing from the cache."""
    monkeypatch.setenv("AUTOINTERP_CACHE", str(tmp_path / "cache"))
    run_planted(planted, tmp_path / "run")
    assert contents(tmp_path / "run") == contents(planted_run.path)


@pytest.mark.slow
def test_same_seed_same_bytes_of_smoke(smoke: Path, again: Path) -> None:
    assert contents(again / "run") == contents(smoke)


@pytest.mark.slow
def test_records_are_sampled_once(again: Path) -> None:
    """For other explainers and scorers; as soon as a file of the first run is not as it was, they are sampled anew."""
    drawn = {name: (again / "run" / name).read_bytes() for name in RECORD_FILES}
    shown = run_beside(again, "explained", "--explainer", "rules-2")
    assert f"records: those of {again / 'run'}, which has the same" in shown
    assert "sampling" not in shown.replace("dictionaries and sampling", "")
    for key in ("sampling", "dictionaries"):
        first, second = (json.loads((again / name / "run.json").read_text())[key] for name in ("run", "explained"))
        assert first == second
    (again / "run" / "records.parquet").write_bytes(b"other")
    assert "sampling 6 dictionaries" in run_beside(again, "anew", "--explainer", "rules-3")
    for out in ("explained", "anew"):
        assert {name: (again / out / name).read_bytes() for name in RECORD_FILES} == drawn


def test_a_finished_run_is_only_opened(smoke: Path, tmp_path: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in smoke.iterdir()}
    done = autointerp("run", "smoke", "--out", smoke, cwd=tmp_path)
    assert done.returncode == 0
    assert "topk_2x" in done.stdout
    assert {path.name: path.stat().st_mtime_ns for path in smoke.iterdir()} == before


def wait_for(condition: object, process: subprocess.Popen[bytes], seconds: float = 900) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.002)
    return False


def begin_scoring(smoke: Path, out: Path) -> None:
    """Copy what a run has on disk when it begins to score."""
    out.mkdir()
    for name in ("records.parquet", "features.parquet", "population.parquet", "population_text.parquet"):
        shutil.copy(smoke / name, out)
    about = json.loads((smoke / "run.json").read_text())
    del about["totals"]
    (out / "run.json").write_text(json.dumps(about | {"status": "scoring"}))


@pytest.mark.parametrize("lines", [60, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 200))])
def test_kill_and_resume(smoke: Path, tmp_path: Path, lines: int) -> None:
    """SIGKILL while scoring, a torn line on top; resumed, nothing finished is done again and all files are the same."""
    out = tmp_path / "run"
    results = out / "results.jsonl"
    if lines > 1:  # one of them samples too
        begin_scoring(smoke, out)
    process = subprocess.Popen(
        [sys.executable, "-m", "autointerp", "run", "smoke", "--out", str(out)],
        cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    reached = wait_for(lambda: results.exists() and results.read_bytes().count(b"\n") >= lines, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert reached
    finished = results.read_bytes()
    assert json.loads((out / "run.json").read_text())["status"] == "scoring"
    with results.open("ab") as stream:
        stream.write(b'{"feature":{"dictionary":"topk')
    records = (out / "records.parquet").stat().st_mtime_ns
    done = autointerp("run", "smoke", "--out", out, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "sampling" not in done.stderr
    assert results.read_bytes().startswith(finished[: finished.rfind(b"\n") + 1])
    assert (out / "records.parquet").stat().st_mtime_ns == records
    assert contents(out) == contents(smoke)


@pytest.mark.slow
def test_killed_before_sampling_is_done_leaves_no_half_run(smoke: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "autointerp", "run", "smoke", "--out", str(out), "--seed", "7"],
        cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    begun = wait_for(out.exists, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert begun
    assert not (out / "features.parquet").exists()
    done = autointerp("run", "smoke", "--out", out, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert contents(out) == contents(smoke)


def test_a_population_that_is_gone_is_one_line(smoke: Path, tmp_path: Path) -> None:
    begin_scoring(smoke, tmp_path / "run")
    (tmp_path / "run" / "population.parquet").unlink()
    done = autointerp("run", "smoke", "--out", "run", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "lacks its population; the same command with another --out starts over" in done.stderr


def test_the_population_is_every_token_of_the_score_half(planted_run: package.Run) -> None:
    """A planted feature is active exactly on its word; explain and score halves are all text that is sampled."""
    tokens = planted_run.about["sampling"]["population_tokens"]
    assert 0.3 < tokens / planted_run.about["sampling"]["usable_tokens"] < 0.7
    explained = {record.document for feature in planted_run.features for record in feature.explain}
    for feature in planted_run.features:
        population = feature.population
        assert population is not None
        assert population.text.ids_ML.size == tokens
        assert not explained & set(population.text.document_M.tolist())
        for fragment, acts_L in enumerate(population.acts_ML):
            words = population.text.tokens(fragment)
            assert [value > 0 for value in acts_L] == [word == WORDS[feature.id.index] for word in words]
        weighted = [record for record in feature.score if record.source == "weighted"]
        assert len(weighted) == 10
        assert all(record.weight >= 1 for record in weighted)


def test_another_identity_does_not_touch_the_folder(smoke: Path, tmp_path: Path) -> None:
    before = contents(smoke)
    done = autointerp("run", "smoke", "--seed", 1, "--out", smoke, cwd=tmp_path)
    assert done.returncode == 2
    assert "holds another run" in done.stderr
    assert contents(smoke) == before


def test_a_full_disk_is_told_and_what_was_finished_stays(
    smoke: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sae.common.errors import UserError

    shutil.copytree(smoke, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    before = (folder.path / "results.jsonl").read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left on device"):
        folder.append(list(folder.results())[:1])
    with pytest.raises(UserError, match="No space left on device"):
        folder.update(status="changed")
    assert folder.about["status"] == "complete"
    assert (folder.path / "results.jsonl").read_bytes().startswith(before)


@pytest.mark.slow
def test_what_a_kill_during_a_write_leaves_is_swept_and_does_not_stop_resuming(smoke: Path, tmp_path: Path) -> None:
    """A killed first write leaves only a temporary folder: that is still an empty run folder."""
    out = tmp_path / "run"
    (out / ".tmp-killed").mkdir(parents=True)
    (out / ".tmp-killed" / "run.json").write_text("{")
    done = autointerp("run", "smoke", "--out", out, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert contents(out) == contents(smoke)


def test_an_empty_folder_stays_empty_after_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    done = autointerp("run", "smoke", "--corpus", "absent", "--out", "out", cwd=tmp_path)
    assert done.returncode == 2
    assert not list((tmp_path / "out").iterdir())
    (tmp_path / "out" / "letter.txt").write_text("mine")
    done = autointerp("run", "smoke", "--out", "out", cwd=tmp_path)
    assert (done.returncode, "not empty and not a run folder" in done.stderr) == (2, True), done.stderr


def test_failures_are_counted_and_never_scored(smoke: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A simulator that cannot read some explanations: those are errors, in no mean, in every count."""
    from autointerp import config
    from autointerp.evaluate import Method
    from autointerp.reporting import leaderboard
    from autointerp.runs.offline import Offline
    from autointerp.runs.work import Work
    from autointerp.simulators import rules as simulator

    original = simulator.RulesSimulator.simulate

    def moody(self: object, explanation: Explanation, fragments: object) -> object:
        if len(explanation.text) % 3 == 0:
            raise AnswerError("no answer")
        return original(self, explanation, fragments)  # type: ignore[arg-type]

    monkeypatch.setattr(simulator.RulesSimulator, "simulate", moody)
    folder = RunFolder(smoke)
    experiment = config.load("smoke", {"runtime.fail_on_error": 1.0})
    work = Work(folder.read_features(), experiment, Method.of(experiment), [])
    work.explain(Offline(), Silent(""))
    work.evaluate(Offline(), Silent(""), lambda results: None)
    errors = [result for result in work.results() if result.status == "error"]
    assert errors
    assert all(not result.scores and result.error == "no answer" for result in errors)
    rows = leaderboard.make_rows(folder.about, folder.densities(), work.results(), Method.of(experiment).chances)
    assert sum(row["n_error"] for row in rows if row["scorer"] == "simulation/top") == len(errors)
    for row in rows:
        assert sum(row[f"n_{status}"] for status in get_args(Status)) == 12


def test_environment_chooses_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sae.common.settings import cache_folder

    monkeypatch.setenv("AUTOINTERP_CACHE", str(tmp_path / "here"))
    assert cache_folder("autointerp") == tmp_path / "here" != cache_folder("sae")
    monkeypatch.delenv("AUTOINTERP_CACHE")
    assert cache_folder("autointerp").name == "autointerp"
