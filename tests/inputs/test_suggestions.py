"""The command that a command suggests next works when it is pasted, also where paths hold spaces and quotes."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.inputs.harness import copied, invoke

SMALL = (
    "--set", "corpus.context=32", "--set", "sampling.fragment=16", "--set", "corpus.held_out=0.5", "--features", "2",
    "--baselines", "none", "--explainer", "rules-1", "--set", "subject.prepend_bos=false", "--set",
    "sampling.population=2000", "--set", "control_kinds=[mismatched]",
)  # fmt: skip


def suggested(text: str) -> Iterator[str]:
    """The commands after `next: ` in what a command printed."""
    yield from re.findall(r"\bnext: (.+)$", text, re.MULTILINE)


def follow(words: list[str], folder: Path, most: int = 4) -> list[str]:
    """Run a command, then what it suggests, then what that suggests; return the commands."""
    done = invoke(*words, cwd=folder)
    assert done.exit_code == 0, done.output
    commands = list(suggested(done.stdout))
    assert len(commands) == 1, done.stdout
    followed = shlex.split(commands[0])
    return [commands[0], *(follow(followed, folder, most - 1) if most > 1 and followed != words else [])]


@pytest.fixture
def here(planted: Path, tmp_path: Path) -> Path:
    """A folder with spaces and quotes in its name, with a dictionary, its model and a corpus."""
    folder = tmp_path / "it's here; $HOME `x`"
    copied(planted, folder)
    return folder


def test_after_info(here: Path) -> None:
    corpus = f" --corpus {shlex.quote(str(here / 'corpus.jsonl'))}"
    done = invoke("sae", "info", here / "dictionary", cwd=here)
    (command,) = suggested(done.stdout)
    assert shlex.split(command) == ["sae", "eval", str(here / "dictionary")]
    assert follow(shlex.split(command + corpus + " --tokens 500"), here, 1)


def test_after_convert(here: Path) -> None:
    commands = follow(["sae", "convert", "dictionary", "two words"], here, 1)
    assert commands == ["sae info 'two words'"]
    assert follow(shlex.split(commands[0]), here, 1)


def test_after_eval_of_two(here: Path) -> None:
    follow(["sae", "convert", "dictionary", "copy", "--format", "saelens"], here, 1)
    corpus = ["--corpus", str(here / "corpus.jsonl"), "--model", str(here / "model")]
    follow(["sae", "eval", "dictionary", "--tokens", "500", *corpus], here, 1)


def test_after_a_run(here: Path) -> None:
    corpus = str(here / "corpus.jsonl")
    out = str(here / "my run")
    command = ["autointerp", "run", "--dictionary", "dictionary", "--corpus", corpus, *SMALL, "--out", out]
    dry = follow([*command, "--dry-run"], here, 1)
    assert shlex.split(dry[0]) == command
    shown = follow(command, here, 2)
    assert shlex.split(shown[0]) == ["autointerp", "show", out]
    assert shlex.split(shown[1])[:3] == ["autointerp", "show", out]
    assert "/" in shlex.split(shown[1])[3]
    board = invoke("autointerp", "leaderboard", out, cwd=here)
    assert board.exit_code == 0


@pytest.mark.slow
def test_after_a_calibration(here: Path) -> None:
    done = invoke("autointerp", "calibrate", "--quick", "--out", "c d", cwd=here)
    (command,) = suggested(done.stdout)
    assert shlex.split(command)[:2] == ["autointerp", "run"]
    assert invoke(*shlex.split(command), "--help", cwd=here).exit_code == 0


def test_after_training(here: Path) -> None:
    recipe = "dictionaries=[{architecture: topk, k: 2, expansion: 2}]"
    settings = ("corpus.context=32", "batch=64", recipe, "corpus.held_out_tokens=500", "buffer=512")
    words = ["sae", "train", "--model", "model", "--hook", "hook_embed", "--corpus", str(here / "corpus.jsonl")]
    words += [word for setting in settings for word in ("--set", setting)]
    words += ["--steps", "2", "--out", "my training"]
    commands = follow(words, here, 2)
    assert shlex.split(commands[0])[:2] == ["sae", "eval"]
