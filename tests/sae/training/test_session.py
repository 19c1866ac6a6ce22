"""`sae train` as a user meets it: a folder of dictionaries, stopped, killed and gone on with to the very same end."""

import json
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file, save_file

from sae import formats
from sae.cli import main
from sae.common.errors import UserError
from sae.dictionary import Dictionary
from sae.training.checkpoint import Checkpoints
from sae.training.ranks import Ranks
from sae.training.session import differences, run
from tests.conftest import heed_interrupts
from tests.sae.training.small import (
    NAMES,
    KilledError,
    assert_same,
    cut_short,
    finish,
    of_planted,
    rows,
    struck_by_ctrl_c,
    toy,
    written,
)


def started(config: Path, out: Path) -> subprocess.Popen[str]:
    """The command line in a process of its own, in another folder."""
    command = [sys.executable, "-m", "sae", "train", str(config), "--out", str(out)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=config.parent, stdout=pipe, stderr=pipe, text=True, preexec_fn=heed_interrupts)


def invoked(*arguments: object) -> Result:
    """The same in this process, which has torch already."""
    return CliRunner().invoke(main, ["train", *map(str, arguments)])


def refused(*arguments: object) -> str:
    """The one line that a mistake ends with."""
    done = invoked(*arguments)
    assert done.exit_code == 2, done.output
    return done.stderr.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the small training gives if nobody disturbs it."""
    return finish(toy(tmp_path_factory.mktemp("undisturbed") / "out")).folder


def test_a_user_trains(undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, out = written(tmp_path), tmp_path / "out"
    done = invoked(config, "--out", out)  # in a process of its own: with Ctrl-C, below
    shown, progress = done.stdout, done.stderr
    assert done.exit_code == 0, progress
    assert_same(out, undisturbed)
    assert sorted(path.name for path in out.iterdir()) == sorted([*NAMES, "metrics.jsonl", "subject", "train.json"])
    table = {line.split()[0]: line.split()[1:] for line in shown.splitlines() if line.startswith(NAMES)}
    assert list(table) == list(NAMES)
    assert table[NAMES[0]][:2] == ["128", "4"]
    assert shown.splitlines()[-1] == f"next: sae eval {shlex.join(f'{out}/{name}' for name in NAMES)}"
    assert "dead features start over" in progress
    # again: everything is there, so nothing is trained or written
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    monkeypatch.setattr("sae.training.session.Session", None)
    again = invoked(config, "--out", out)
    assert (again.exit_code, again.stdout, again.stderr) == (0, shown, "")
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*")}


def test_dictionaries_say_where_they_come_from(undisturbed: Path) -> None:
    about = json.loads((undisturbed / "train.json").read_text())
    assert (about["status"], about["processes"], about["problems"]) == ("complete", 1, {})
    for name, row in zip(NAMES, about["dictionaries"], strict=True):
        made = formats.load(undisturbed / name)
        assert (made.name, made.kind, made.hook_point) == (name, "sae", "blocks.0.mlp.hook_post")
        assert made.model == str(undisturbed / "subject")
        known = made.metadata
        assert known["recipe"]["expansion"] == 4
        assert (known["steps"], known["batch"], known["vectors"], known["seed"]) == (100, 256, 25_600, 0)
        assert known["corpus"]["source"] == "stdlib"
        assert known["prepend_bos"] is False
        assert known["metrics"]["tokens"] <= 6_000
        assert [known["metrics"][key] for key in ("l0", "fvu", "ce_recovered", "dead")] == [
            row[key] for key in ("l0", "fvu", "ce_recovered", "dead")
        ]


def test_the_small_training_has_all_that_resuming_must_restore(undisturbed: Path) -> None:
    """AuxK at work across a checkpoint, and features that were resampled at one."""
    result = rows(undisturbed)
    assert any(row["dictionary"] == NAMES[0] and row["step"] == 70 and row["dead"] > 0 for row in result)
    assert [row["step"] for row in result if row["status"] == "resampled"] == [48, 70]
    assert all(row["features"] for row in result if row["status"] == "resampled")


@pytest.mark.slow
def test_ctrl_c_and_the_same_command_again(undisturbed: Path, tmp_path: Path) -> None:
    config, out = written(tmp_path), tmp_path / "out"
    process = started(config, out)
    wait_for(out / "checkpoint" / "latest.json", process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 130, errors
    assert errors.splitlines()[-1] == "sae: stopped; the same command continues from here"
    assert "Traceback" not in errors
    assert not list(out.glob("*/dictionary.json"))
    assert invoked(config, "--out", out).exit_code == 0
    assert_same(out, undisturbed)


@pytest.mark.slow
def test_a_kill_at_any_moment_and_the_same_command_again(undisturbed: Path, tmp_path: Path) -> None:
    config, out = written(tmp_path), tmp_path / "out"
    process = started(config, out)
    wait_for(out / "checkpoint" / "latest.json", process)
    time.sleep(random.uniform(0, 1))
    process.kill()
    process.communicate(timeout=600)
    assert invoked(config, "--out", out).exit_code == 0
    assert_same(out, undisturbed)


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    ends = time.monotonic() + 900
    while not path.is_file():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < ends
        time.sleep(0.01)


@pytest.mark.parametrize("at", [*(pytest.param(step, marks=pytest.mark.slow) for step in (3, 50, 71)), 48])
def test_a_kill_before_and_right_at_a_checkpoint(undisturbed: Path, tmp_path: Path, at: int) -> None:
    """3: before the first one. 48: resampled, not yet put down. 50: just put down. 71: after rows of no checkpoint."""
    out = tmp_path / "out"
    with pytest.raises(KilledError):
        run(toy(out), cut_short(at))
    assert Checkpoints(out / "checkpoint", Ranks()).step == {3: None, 48: 32, 50: 48, 71: 64}[at]
    finish(toy(out))
    assert_same(out, undisturbed)


@pytest.mark.slow
def test_again_and_again(undisturbed: Path, tmp_path: Path) -> None:
    """Every start does 29 steps more and is stopped; what is left over counts from there."""
    out, stopped = tmp_path / "out", 0
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            run(toy(out), cut_short(29, struck_by_ctrl_c))
        stopped += 29
        assert Checkpoints(out / "checkpoint", Ranks()).step == stopped
    finish(toy(out))
    assert_same(out, undisturbed)


@pytest.mark.slow
def test_a_kill_while_the_subject_is_trained(
    undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAE_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "out"
    with pytest.raises(KilledError):
        run(toy(out), cut_short(20, work="training the subject"))
    (out / ".tmp-x").mkdir()  # as a kill in the midst of writing leaves
    finish(toy(out))
    assert_same(out, undisturbed)


def test_a_kill_while_the_dictionaries_are_saved(
    undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is there, of the next the folder, of the last nothing."""
    out, save = tmp_path / "out", formats.save

    def interrupted(dictionary: Dictionary, folder: Path) -> None:
        if folder.name == NAMES[1]:
            folder.mkdir()
            raise KilledError
        save(dictionary, folder)

    monkeypatch.setattr(formats, "save", interrupted)
    with pytest.raises(KilledError):
        finish(toy(out))
    monkeypatch.undo()
    assert json.loads((out / "train.json").read_text())["status"] == "training"
    finish(toy(out))
    assert_same(out, undisturbed)


def test_another_trainings_folder_is_refused(undisturbed: Path, tmp_path: Path) -> None:
    config = written(tmp_path)
    message = refused(config, "--out", undisturbed, "--set", "dictionaries.0.k=5", "--seed", 1)
    assert message.startswith(f"sae: {undisturbed} was trained with other settings (seed, dictionaries.0.k); ")
    assert "(subject.toy.seed)" in refused(config, "--out", undisturbed, "--set", "subject.toy.seed=1")
    assert "(dictionaries)" in refused(
        config, "--out", undisturbed, "--set", "dictionaries=[{architecture: topk, k: 3}]"
    )
    assert invoked(config, "--out", undisturbed, "--set", "runtime.measure_every=7").exit_code == 0
    assert "holds no training" in refused(config, "--out", tmp_path)
    assert "holds no training" in refused(config, "--out", config)
    (tmp_path / "other").mkdir()
    for content in ('{"epochs": 3}', '{"version": 1}'):
        (tmp_path / "other" / "train.json").write_text(content)
        assert "holds no training" in refused(config, "--out", tmp_path / "other")


@pytest.mark.slow
def test_a_mistake_before_training_does_not_bar_its_folder(tmp_path: Path) -> None:
    """Nor does the subject that was made for it serve another."""
    config, out = written(tmp_path), tmp_path / "out"
    assert "k = 9000" in refused(config, "--set", "dictionaries.0.k=9000", "--out", out)
    assert (out / "subject").is_dir()
    done = invoked(config, "--set", "subject.toy.d_mlp=16", "--steps", 3, "--out", out)
    assert done.exit_code == 0, done.output
    assert {formats.peek(out / name).d_in for name in NAMES} == {16}


def test_differences_are_named_as_deep_as_they_go() -> None:
    before = {"a": {"b": 1, "c": [1, 2]}, "d": [{"e": 1}], "f": 1}
    assert list(differences(before, before)) == []
    assert list(differences(before, {"a": {"b": 2, "c": [1, 3]}, "d": [{"e": 1, "g": None}], "f": {}})) == [
        "a.b", "a.c.1", "f",
    ]  # fmt: skip


@pytest.mark.slow
def test_one_that_goes_wrong_is_told_and_the_others_are_finished(undisturbed: Path, tmp_path: Path) -> None:
    """Told at once, at the end, and whenever the same command is given again."""
    config, out = written(tmp_path), tmp_path / "out"
    given = [config, "--out", out, "--set", "dictionaries.0.lr=1e6", "--set", "dictionaries.1.lr=1e38"]
    done = invoked(*given)
    assert done.exit_code == 2
    message = done.stderr.strip().splitlines()
    assert any(line.startswith(f"{NAMES[0]}, step 10: its loss is ") for line in message)
    assert message[-1].startswith(f"sae: dictionary {NAMES[0]} was not finished: its loss is ")
    assert f"; dictionary {NAMES[1]} was not finished: its loss is nan at step 10: lower lr, or clip" in message[-1]
    failed = [row for row in rows(out) if row["status"] == "error"]
    assert [(row["dictionary"], row["step"]) for row in failed] == [(NAMES[0], 10), (NAMES[1], 10)]
    assert not (out / NAMES[0]).exists()
    assert formats.load(out / NAMES[2]).W_enc_DF.equal(formats.load(undisturbed / NAMES[2]).W_enc_DF)
    again = invoked(*given)
    assert (again.exit_code, again.stderr.strip()) == (2, message[-1])
    assert again.stdout == done.stdout


@pytest.mark.slow
def test_a_stopped_one_that_went_wrong_stays_so(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"dictionaries__0__lr": 1e30, "dictionaries__2__l1": 1e4}
    with pytest.raises(KilledError):
        run(toy(tmp_path / "a", **changes), cut_short(90))
    finish(toy(tmp_path / "a", **changes))
    finish(toy(tmp_path / "b", **changes))
    assert_same(tmp_path / "a", tmp_path / "b")


@pytest.mark.slow
@pytest.mark.parametrize("hook_point", ["blocks.0.attn.hook_z", "blocks.0.hook_resid_post"])
def test_other_hook_points(planted: Path, tmp_path: Path, hook_point: str) -> None:
    done = finish(of_planted(planted, tmp_path / "out", subject__hook_point=hook_point))
    for row in done.about["dictionaries"]:
        made = formats.load(done.folder / row["name"])
        assert (made.d_in, made.hook_point, made.model) == (16, hook_point, str(planted / "model"))
        assert row["fvu"] < 0.9


def test_a_stopped_training_goes_on_with_the_same_model_only(planted: Path, tmp_path: Path) -> None:
    shutil.copytree(planted / "model", tmp_path / "model")
    settings = of_planted(planted, tmp_path / "out", subject__model=str(tmp_path / "model"), steps=20)
    with pytest.raises(KeyboardInterrupt):
        run(settings, cut_short(3, struck_by_ctrl_c))
    (tmp_path / "model" / "README.md").write_text("no file of the model")
    weights = load_file(tmp_path / "model" / "model.safetensors")
    weights["transformer.wte.weight"][0] += 1
    save_file(weights, tmp_path / "model" / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"model\.safetensors of the model .* has changed since .* was stopped; put it"):
        finish(settings)
    shutil.copy(planted / "model" / "model.safetensors", tmp_path / "model")
    assert finish(settings).about["status"] == "complete"


def test_what_cannot_be_trained(planted: Path, tmp_path: Path) -> None:
    given = [written(tmp_path), "--model", planted / "model", "--corpus", planted / "corpus.jsonl"]
    assert "subject.hook_point is required" in refused(*given, "--out", tmp_path / "z")
    given += ["--hook", "blocks.0.mlp.hook_post"]
    assert "has no hook point" in refused(*given, "--hook", "blocks.0.mlp.hook_pots", "--out", tmp_path / "a")
    assert "corpus.context=32" in refused(*given, "--set", "corpus.context=64", "--out", tmp_path / "b")
    assert "k = 900" in refused(*given, "--set", "dictionaries.1.k=900", "--out", tmp_path / "c")
    assert "cannot load model" in refused(*given, "--model", tmp_path / "nothing", "--out", tmp_path / "d")
    if not torch.cuda.is_available():
        message = refused(*given, "--set", "runtime.device=cuda", "--out", tmp_path / "e")
        assert "there is no device 'cuda' here" in message
