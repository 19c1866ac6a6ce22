"""The command line as a user meets it: their own things, one line for each mistake, a feature's page."""

import json
import shlex
from pathlib import Path

import pytest

from sae.common.files import alone
from tests.conftest import PLANTED_SETTINGS, autointerp, autointerp_process, heed_interrupts

SETTINGS = [argument for setting in PLANTED_SETTINGS for argument in ("--set", setting)]


def test_ones_own_dictionary_with_model_and_hook_from_its_metadata(planted: Path, tmp_path: Path) -> None:
    done = autointerp(
        "run", "--dictionary", planted / "dictionary", "--corpus", planted / "corpus.jsonl", "--features", 4,
        "--baselines", "neurons,random_matched", *SETTINGS, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "runs").iterdir()
    board = json.loads((run / "leaderboard.json").read_text())
    assert [row["dictionary"] for row in board[::4][:3]] == ["words", "neurons", "random_matched[words]"]
    assert board[0]["hook_point"] == "hook_embed"
    assert board[0]["mean"] == pytest.approx(1.0)
    assert "next: autointerp show" in done.stdout


def test_a_saelens_dictionary_with_model_and_hook_given(planted: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    folder = tmp_path / "theirs"
    folder.mkdir()
    eye = torch.eye(16)[:, :8].contiguous()
    tensors = {"W_enc": eye, "b_enc": torch.zeros(8), "W_dec": eye.T.contiguous(), "b_dec": torch.zeros(16)}
    save_file(tensors, folder / "sae_weights.safetensors")
    config = {"architecture": "standard", "d_in": 16, "d_sae": 8, "metadata": {}}
    (folder / "cfg.json").write_text(json.dumps(config))
    arguments = ["run", "--dictionary", folder, "--corpus", planted / "corpus.jsonl", "--baselines", "none", *SETTINGS]
    missing = autointerp(*arguments, cwd=tmp_path)
    assert (missing.returncode, missing.stderr.count("\n")) == (2, 1)
    assert "no dictionary names its model; give --model" in missing.stderr
    done = autointerp(*arguments, "--model", planted / "model", "--hook", "hook_embed", "--out", "r", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "r" / "leaderboard.json").read_text())[0]["mean"] == pytest.approx(1.0)


MISTAKES = {
    "unknown hook point": (["--hook", "hook_embd"], "did you mean hook_embed or"),
    "wrong width": (["--hook", "blocks.0.mlp.hook_post"], "reads vectors of width 16, but blocks.0.mlp.hook_post"),
    "no such dictionary": (["--dictionary", "absent"], "dictionary absent: no such file or folder"),
    "no such corpus": (["--corpus", "absent.txt"], "no such file or folder; corpora are"),
    "corpus too short": (["--corpus", "{tmp}/short.txt"], "too few to hold out"),
    "device that is not there": (["--device", "cuda:99", "--seed", "99"], "cuda:99"),
    "unreadable corpus": (["--corpus", "{tmp}/latin.txt"], "as UTF-8 text"),
    "unknown config key": (["--set", "sampling.fragments=8"], "did you mean sampling.fragment"),
    "context beyond the model's": (["--set", "corpus.context=64"], "sees at most 32 tokens; set corpus.context=32"),
    "unknown explainer": (["--explainer", "gpt"], "unknown explainer 'gpt'"),
    "explainer of too many rules": (["--explainer", f"rules-{'9' * 5000}"], "unknown explainer 'rules-99"),
    "population of no fragment": (["--set", "sampling.population=1"], "sampling.population=1 is less than one frag"),
    "seed after the last": (["--seeds", "2", "--seed", str(2**63 - 1)], f"--seeds 2 ends with seed {2**63}; give at"),
    "more seeds than runs": (["--seeds", "99999999999"], "give at most 1,000, none above"),
    "unknown baseline": (["--baselines", "neuron"], "neurons"),
    "no such model": (["--model", "absent/model"], "cannot load model absent/model"),
    "two dictionaries of one name": (["--dictionary", "{planted}/dictionary"], "two dictionaries are called 'words'"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_leaves_nothing(mistake: str, planted: Path, tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("the red stone in the river")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9 \xff\xfe")
    flags, message = MISTAKES[mistake]
    flags = [flag.format(tmp=tmp_path, planted=planted) for flag in flags]
    done = autointerp(
        "run", "--dictionary", planted / "dictionary", "--baselines", "none", *SETTINGS,
        *([] if mistake == "corpus too short" else ["--corpus", planted / "corpus.jsonl"]), *flags, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.strip().count("\n") == 0, done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_corpus_too_small_to_train_a_subject_on(tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    for number in range(6):
        (tmp_path / "small" / f"{number}.txt").write_text("the red stone in the river " * 20)
    done = autointerp("run", "smoke", "--corpus", "small", cwd=tmp_path)
    assert (done.returncode, done.stderr.strip().count("\n")) == (2, 0), done.stderr
    assert "give more text" in done.stderr


def test_a_run_folder_takes_one_process_at_a_time(tmp_path: Path, cache: Path) -> None:
    with alone(tmp_path / "r"):
        done = autointerp("run", "smoke", "--out", tmp_path / "r", cwd=tmp_path)
    assert done.returncode == 2
    assert "another process is working on" in done.stderr


def test_show_lists_features_and_prints_one(smoke: Path, tmp_path: Path) -> None:
    listed = autointerp("show", smoke, cwd=tmp_path)
    assert listed.returncode == 0
    name = next(line.split()[0] for line in listed.stdout.splitlines() if line.startswith("topk_2x/"))
    plain = autointerp("show", smoke, name, cwd=tmp_path).stdout
    for part in (name, "rules-5 (ok)", "Active on", "explained from", "predicted", "]9"):
        assert part in plain
    assert "\033[" not in plain
    assert "\033[48;5;" in autointerp("show", smoke, name, "--colour", cwd=tmp_path).stdout
    lines = plain.splitlines()
    assert lines[0].startswith(name)
    assert lines[2].startswith("rules-5 (ok)")
    assert lines[5] == "explained from"
    assert "token-table (" not in plain
    assert lines[-1] == "also explained by rules-1, rules-unlimited, token-table: --explainer NAME, or --all"
    assert "token-table (" in autointerp("show", smoke, name, "--all", cwd=tmp_path).stdout
    other = autointerp("show", smoke, name, "--explainer", "rules-1", cwd=tmp_path).stdout.splitlines()
    assert other[2].startswith("rules-1 (")
    assert other != lines
    worst = autointerp("show", smoke, "--sort", "worst", "--limit", "2", "--dictionary", "pca", cwd=tmp_path).stdout
    assert sum(line.startswith("pca/") for line in worst.splitlines()) == 2
    nan = autointerp("show", smoke, "--below", "nan", cwd=tmp_path)
    assert (nan.returncode, nan.stderr) == (2, "autointerp: --below is nan, and no score is less; give a number\n")
    mixed = autointerp("show", smoke, name, "--limit", "2", cwd=tmp_path)
    assert (mixed.returncode, mixed.stderr.count("--limit is for the list of features")) == (2, 1)
    wrong = autointerp("show", smoke, name + "0000", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "did you mean" in wrong.stderr
    assert autointerp("show", tmp_path, cwd=tmp_path).returncode == 2


def test_a_long_page_goes_through_the_pager_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    from autointerp.cli import results

    paged: list[str] = []
    monkeypatch.setattr("click.echo_via_pager", lambda text, color: paged.append(text))
    for is_terminal in (False, True):
        monkeypatch.setattr("sys.stdout.isatty", lambda is_terminal=is_terminal: is_terminal, raising=False)
        results.echo_paged("short")
        results.echo_paged("long\n" * 999)
    assert paged == ["long\n" * 999]


def test_list_names_the_runs_here(smoke: Path, tmp_path: Path) -> None:
    assert autointerp("list", cwd=tmp_path).stdout == "no runs here\nnext: autointerp run\n"
    listed = autointerp("list", smoke.parent, cwd=tmp_path)
    assert listed.returncode == 0
    assert "complete" in listed.stdout
    assert "topk_2x 0." in listed.stdout
    assert listed.stdout.endswith(f"next: autointerp show {shlex.quote(str(smoke))}\n")


def test_version_and_help(tmp_path: Path) -> None:
    assert autointerp_process("--version", cwd=tmp_path).stdout.startswith("autointerp, version ")
    for command in ("run", "show", "leaderboard"):
        assert autointerp(command, "--help", cwd=tmp_path).returncode == 0


def test_ctrl_c_ends_with_130_and_says_how_to_go_on(tmp_path: Path) -> None:
    import signal
    import subprocess
    import sys
    import time

    process = subprocess.Popen(
        [sys.executable, "-m", "autointerp", "run", "smoke", "--seed", "9", "--out", "r"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts,
    )  # fmt: skip
    while not (tmp_path / "r").exists():  # the run has not begun
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, message = process.communicate(timeout=600)
    assert process.returncode == 130, message
    assert "the same command continues from here" in message
    assert "Traceback" not in message
