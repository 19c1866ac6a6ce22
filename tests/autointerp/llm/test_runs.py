"""Whole runs with judges against the fake server: faults change nothing, nothing is paid twice, keys stay secret."""

import json
import logging
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.autointerp.llm.conftest import EXPLAINER, KEY, SIMULATOR, Finished, RunSession
from tests.conftest import heed_interrupts

FAULTS = {
    "429": 0.01, "429-after": 0.01, "500": 0.06, "503": 0.04, "529": 0.01, "drop": 0.05, "half": 0.05, "garbage": 0.04,
    "timeout": 0.005, "slow": 0.005, "refusal": 0.01, "length": 0.01,
}  # fmt: skip
"""30% of all answers. Not `shape`: nobody can tell that a whole explanation lacks its last word."""
VALUES = ("explanation", "simulations", "scores", "judgements")


@pytest.mark.parametrize("features", [None, pytest.param(45, marks=pytest.mark.slow)])
def test_faults_change_no_value(session: RunSession, finished: Finished, features: int | None) -> None:
    """Of 150 and more calls; with 45 features, of 2,000."""
    flags: list[object] = ["--features", features] if features else []
    if features:
        clean = session.run("clean", *flags, cache="a")
        assert clean.returncode == 0, clean.stderr
        assert len(session.server.calls()) >= 2000
    else:
        assert len(finished.calls) >= 150
        shutil.copytree(finished.session.folder / "one", session.folder / "clean")
    before = len(session.server.calls())
    session.server.configure(faults=FAULTS, latency=0.01, retry_after=0.05, hang=30)
    shutil.copytree(session.folder / "clean", session.folder / "faulty")
    for name in ("results.jsonl", "leaderboard.json"):
        (session.folder / "faulty" / name).unlink()
    about = json.loads((session.folder / "faulty" / "run.json").read_text())
    (session.folder / "faulty" / "run.json").write_text(json.dumps(about | {"status": "scoring"}))
    retry_policy = ("--fail-on-error", 1, "--set", "runtime.attempt_seconds=10")
    done = session.run("faulty", *flags, *retry_policy, cache="b")
    assert done.returncode == 0, done.stderr
    calls = session.server.calls()[before:]
    assert sum(call["fault"] is not None for call in calls) / len(calls) > 0.2
    assert max(Counter(call["body"] for call in calls).values()) <= 8
    truth, result = session.results("clean"), session.results("faulty")
    assert set(result) == set(truth)
    assert {row["status"] for row in result.values()} <= {"ok", "failed", "undefined", "error"}
    unharmed = [name for name, row in result.items() if not row["errors"]]
    assert len(unharmed) > 0.9 * len(truth)
    for name in unharmed:
        assert [result[name][part] for part in VALUES] == [truth[name][part] for part in VALUES]
        for kind, control in result[name]["controls"].items():
            assert control["errors"] or control == truth[name]["controls"][kind]
    for name, row in result.items():
        for scorer in row["errors"]:
            assert not [score for score in row["scores"] if score.split("/")[0] == scorer], name


def test_a_rerun_makes_no_calls(session: RunSession, finished: Finished) -> None:
    finished.copy_cache(session.folder / "cache")
    again = session.run("two", **finished.addresses)  # where nobody answers
    assert again.returncode == 0, again.stderr
    assert session.files("two") == finished.session.files("one")
    estimate = session.run("three", "--dry-run", **finished.addresses)
    assert set(estimated_calls(estimate.stdout).values()) == {0}, estimate.stdout


def estimated_calls(printed: str) -> dict[str, int]:
    """The number of calls of each stage, from the table that a dry run prints."""
    _, rows = printed.split("─\n")
    cells = [line.split() for line in rows.split("\n\n")[0].splitlines()]
    return {stage: int(calls.replace(",", "")) for stage, _, calls, *_ in cells}


def test_a_dry_run_counts_the_calls_that_are_then_made(finished: Finished) -> None:
    counted = estimated_calls(finished.estimate)
    made = Counter(call["path"] for call in finished.calls)
    assert made["/v1/messages"] == counted["explain"]
    assert made["/v1/chat/completions"] == pytest.approx(counted["simulate"] + counted["detection"], rel=0.02)


@pytest.mark.slow  # test_pipeline.py kills a run of rules at every change
@pytest.mark.parametrize("times", [1, 3])
def test_kill_and_resume_pays_for_nothing_twice(session: RunSession, finished: Finished, times: int) -> None:
    """SIGKILL at random points; then the files are the undisturbed run's."""
    session.server.configure(latency=0.05)
    few = ("--set", "runtime.concurrency=20")  # so that not all calls are under way at a kill
    rng, kills = random.Random(0), []
    for _ in range(times):
        process = subprocess.Popen(
            session.command("killed", *few), cwd=session.folder, env=session.environment("b"),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        target = len(session.server.calls()) + rng.randrange(30, 70)
        while len(session.server.calls()) < target and process.poll() is None:
            time.sleep(0.02)
        kills.append(time.time())
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    done = session.run("killed", *few, cache="b")
    assert done.returncode == 0, done.stderr
    assert session.files("killed") == finished.session.files("one")
    by_body: dict[str, list[Any]] = {}
    for call in session.server.calls():
        by_body.setdefault(call["body"], []).append(call)
    for calls in by_body.values():
        for call in calls[:-1]:
            # Asked again: only if the answer was on its way, or not stored yet, when a kill came.
            late = [kill for kill in kills if call["received"] < kill and kill - call["answered"] < 0.3]
            assert late or not call["completed"], call
    repeated = sum(len(calls) > 1 for calls in by_body.values())
    assert repeated < 0.5 * len(by_body)


def test_no_key_is_ever_written(session: RunSession, caplog: pytest.LogCaptureFixture) -> None:
    """Everything a run writes, logs of all libraries at debug level and an error that echoes the key included."""
    caplog.set_level(logging.DEBUG)
    for library in ("anthropic", "openai", "httpx2", "httpcore2"):
        caplog.set_level(logging.DEBUG, library)
    session.server.configure(faults={"500": 0.05, "garbage": 0.05})
    done = session.run("out")
    assert done.returncode == 0, done.stderr[-2000:]
    session.server.configure(key="another", echo_key=True)
    refused = session.run("fresh", cache="other")
    assert refused.returncode == 2
    errors = [line for line in refused.stderr.splitlines() if line.startswith("autointerp:")]
    assert len(errors) == 1
    assert "check ANTHROPIC_API_KEY" in errors[0]
    libraries = {record.name.split(".")[0] for record in caplog.records}
    assert libraries >= {"anthropic", "openai"}
    assert "HTTP Request" in caplog.text
    assert "HTTP Response: POST" in caplog.text
    assert not [text for text in (done.stdout, done.stderr, refused.stdout, refused.stderr, caplog.text) if KEY in text]
    leaks = [path for path in session.folder.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
    assert not leaks


def test_missing_keys_are_one_line_before_anything_slow(session: RunSession) -> None:
    began = time.process_time()
    done = session.run("out", ANTHROPIC_API_KEY="")
    assert (done.returncode, done.stderr.strip().count("\n")) == (2, 0), done.stderr
    assert "anthropic/claude-haiku-4-5 needs a key: set ANTHROPIC_API_KEY" in done.stderr
    assert time.process_time() - began < 20
    (session.folder / ".env").write_text("ANTHROPIC_API_KEY=sk-test-another\n")
    refused = session.run("out", ANTHROPIC_API_KEY="")
    assert "check ANTHROPIC_API_KEY" in refused.stderr  # the key of .env was sent, and is not the server's


@pytest.mark.slow
def test_credit_exhausted_in_the_middle_stops_at_once_and_resumes(session: RunSession) -> None:
    session.server.configure(credit=80, latency=0.01)
    stopped = session.run("out", "--set", "runtime.concurrency=20")
    assert stopped.returncode == 2
    assert "no credit is left: top it up, then run the same command" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    calls = session.server.calls()
    assert sum(call["completed"] for call in calls) == 80
    assert len(calls) < 80 + 2 * 20
    session.server.configure(credit=None)
    assert session.run("out").returncode == 0
    completed = Counter(call["body"] for call in session.server.calls() if call["completed"])
    assert set(completed.values()) == {1}


@pytest.mark.slow
def test_a_hopeless_run_is_stopped_with_everything_kept(session: RunSession) -> None:
    session.server.configure(faults={"shape": 1.0})
    stopped = session.run("out", "--fail-on-error", 0.1)
    assert stopped.returncode == 1
    assert "1 of 6 results are errors, more than --fail-on-error 0.1 allows" in stopped.stderr
    assert "everything is kept" in stopped.stderr
    assert len(session.results("out")) >= 1
    session.server.configure(faults={})
    other = session.run("out", cache="fresh")
    assert other.returncode == 0, other.stderr
    assert not [row for row in session.results("out").values() if row["errors"]]


@pytest.mark.slow
def test_the_budget_is_never_passed_and_a_new_one_continues(session: RunSession) -> None:
    spent: list[float] = []
    while (stopped := session.run("out", "--max-cost", "0.012")).returncode and len(spent) < 9:
        assert stopped.returncode == 1, stopped.stderr
        assert "stopped before a call that could pass --max-cost 0.012" in stopped.stderr
        spent.append(float(stopped.stderr.split("--max-cost 0.012: $")[1].split(" ")[0]))
    assert stopped.returncode == 0, stopped.stderr
    assert len(spent) > 1
    assert all(0.002 < amount <= 0.012 for amount in spent), spent  # a call's bound is about 0.01
    completed = Counter(call["body"] for call in session.server.calls() if call["completed"])
    assert set(completed.values()) == {1}
    totals = json.loads((session.folder / "out" / "run.json").read_text())["totals"]
    board = json.loads((session.folder / "out" / "leaderboard.json").read_text())
    assert totals["cost_usd"] == pytest.approx(sum(row["cost_usd"] for row in board if row["scorer"] == "detection"))
    assert totals["cost_usd"] > sum(spent)
    assert totals["calls"] == pytest.approx(len(completed), rel=0.05)  # a few texts are asked for two features
    mystery = f"{session.server.openai_url}#mystery"
    unknown = session.run("other", "--features", 4, "--max-cost", 1, "--explainer", mystery)
    assert unknown.returncode == 2
    assert "no price is known for" in unknown.stderr


@pytest.mark.slow
def test_ctrl_c_ends_with_130_and_the_same_command_goes_on(session: RunSession) -> None:
    session.server.configure(latency=0.2)
    process = subprocess.Popen(
        session.command("out"), cwd=session.folder, env=session.environment("cache"),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts,
    )  # fmt: skip
    while len(session.server.calls()) < 60:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert "never retrieved" not in errors
    session.server.configure(latency=0)
    assert session.run("out").returncode == 0
    completed = Counter(call["body"] for call in session.server.calls() if call["completed"])
    assert sum(count > 1 for count in completed.values()) <= 100  # those under way when it was pressed


@pytest.mark.slow
@pytest.mark.parametrize("outs", [["same", "same"], ["same", "same", "apart"]])
def test_two_processes_share_cache_and_run_folder(session: RunSession, outs: list[str]) -> None:
    session.server.configure(latency=0.05)
    processes = [
        subprocess.Popen(
            session.command(out), cwd=session.folder, env=session.environment("cache"),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for out in outs
    ]  # fmt: skip
    errors = [process.communicate(timeout=600)[1] for process in processes]
    codes = [process.returncode for process in processes]
    assert sorted(codes[:2]) == [0, 2], errors
    assert "another process is working on" in errors[codes[:2].index(2)]
    assert codes[2:] == [0] * len(codes[2:]), errors[2:]
    for out in outs[2:]:
        assert session.files(out) == session.files("same")


@pytest.mark.parametrize(
    ("flags", "errors"),
    [
        (["--explainer", "anthropic/"], "model spec 'anthropic/' names no model; write anthropic/MODEL"),
        (["--simulator", "claude"], "unknown simulator 'claude'; write anthropic/MODEL"),
        (["--simulator", "rules"], "writes prose, which the simulator `rules` cannot read"),
        (["--simulator", "anthropic/x", "--set", "simulation.method=logprobs"], "set simulation.method=text"),
        (["--simulator", "openai/x", "--set", "simulation.method=all_at_once"], "cannot simulate by all_at_once"),
        (["--explainer", "http://user:pw@host/v1#m"], "must not hold a password"),
        (["--explainer", "http://127.0.0.1:1/v1"], "write http://host:port/v1#MODEL"),
        (["--set", "explanation.temperature=1"], "takes no temperature; set explanation.temperature=null"),
        (["--set", "judgement.temperature=0", "--simulator", "anthropic/x"], "set judgement.temperature=null"),
        (["--set", "sampling.score.inactive=0"], "detection needs texts on which features are silent"),
        (["--scorers", "detecting"], "scorers.0"),
        (["--set", "explanation.styl=tokens"], "did you mean explanation.style"),
        (["--set", "runtime.prices=absent.yaml"], "cannot read the prices absent.yaml"),
    ],
)
def test_mistakes_with_judges_are_one_line(session: RunSession, flags: list[str], errors: str) -> None:
    done = session.run("out", *flags)
    assert done.returncode == 2, done.stderr
    assert errors in done.stderr
    assert done.stderr.strip().count("\n") == 0, done.stderr
    assert not session.server.calls()


def test_results_say_what_was_asked_and_what_it_cost(finished: Finished) -> None:
    session = finished.session
    about = json.loads((session.folder / "one" / "run.json").read_text())
    assert {label.split("@")[0] for label in about["prompts"]} == {
        "explainer/tokens", "simulator/lines", "scorer/detection", "again",
    }  # fmt: skip
    assert about["inputs"]["judges"] == [[EXPLAINER], [SIMULATOR]]
    board = json.loads((session.folder / "one" / "leaderboard.json").read_text())
    assert {row["explainer"] for row in board} == {EXPLAINER}
    models = {row["scorer"].split("/")[0]: (row["simulator"], row["judge"]) for row in board}
    assert models == {"simulation": (SIMULATOR, None), "detection": (None, SIMULATOR)}
    assert {row["scorer"]: row["chance"] for row in board}["detection"] == 0.5
    for row in session.results("one").values():
        assert row["usage"]["cost_usd"] > 0
        assert row["usage"]["calls"] >= 21
        assert row["explanation"]["prompt"].startswith("explainer/tokens@")


def test_sampled_fixture_is_a_run_that_has_not_begun(sampled: Path) -> None:
    assert json.loads((sampled / "run.json").read_text())["status"] == "scoring"
    assert not (sampled / "results.jsonl").exists()
