"""Shared fixtures: no network, a cache of the test session's own, a planted model, one finished smoke run."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest
from filelock import FileLock

if TYPE_CHECKING:
    from autointerp import Run

os.environ["HF_HUB_OFFLINE"] = "1"
for library in ("OMP", "MKL", "OPENBLAS"):
    # Before torch and numpy are imported, and for every process the tests start: each worker of pytest-xdist has one
    # core, and two threads on it are several times slower than one.
    os.environ[f"{library}_NUM_THREADS"] = "1"


def pytest_configure(config: pytest.Config) -> None:
    """Let property tests try few examples where slow tests are left out; always the same ones.

    Hugging Face's libraries keep what they keep in a folder of this process: home may be read-only, and is the user's.
    """
    os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="autointerp-tests-")
    config.add_cleanup(lambda: shutil.rmtree(os.environ["HF_HOME"], ignore_errors=True))
    n_examples = 30 if "not slow" in config.getoption("markexpr") else 200
    profile = hypothesis.settings(database=None, deadline=None, derandomize=True, max_examples=n_examples)
    hypothesis.settings.register_profile("ours", profile)
    hypothesis.settings.load_profile("ours")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections leave this machine's loopback in no test."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "localhost", "::1"):
            raise AssertionError(f"a test tried to reach {address}")
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", guarded)


def make_once(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return a folder of this test session that `make` fills: one worker does, the others wait for it."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # the session's; a worker's own is below it
    folder, finished = root / name, root / f"{name}.finished"
    with FileLock(root / f"{name}.lock"):
        if not finished.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a worker that failed
            folder.mkdir()
            make(folder)
            finished.touch()
    return folder


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The cache folder of both programs, for this session and its subprocesses: a toy is trained once for all.

    How a terminal looks is taken out of the environment.
    """
    folder = make_once(tmp_path_factory, "cache", lambda folder: None)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AUTOINTERP_CACHE", "SAE_CACHE"):
            patch.setenv(name, str(folder))
        for name in ("FORCE_COLOR", "NO_COLOR", "COLUMNS", "LINES"):
            patch.delenv(name, raising=False)  # tables are those of a terminal of the usual width, without colours
        yield folder


def heed_interrupts() -> None:
    """For `preexec_fn`: whoever runs the tests in the background may have told them to ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def autointerp(
    *arguments: object, cwd: Path, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command line in another folder, in this process: it has imported torch already."""
    from click.testing import CliRunner

    from autointerp.cli import main

    words = [*map(str, arguments)]
    with contextlib.chdir(cwd):
        done = CliRunner().invoke(main, words, env=environment, catch_exceptions=False)
    return subprocess.CompletedProcess(words, done.exit_code, done.stdout, done.stderr)


def autointerp_process(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user would, in another folder."""
    command = [sys.executable, "-m", "autointerp", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=900, check=False)


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """A finished run of eval_configs/smoke.yaml, made by the command line."""

    def make(folder: Path) -> None:
        done = autointerp("run", "smoke", "--out", folder / "run", cwd=folder)
        assert done.returncode == 0, done.stderr

    return make_once(tmp_path_factory, "smoke", make) / "run"


WORDS = ("red", "blue", "green", "stone", "river", "cloud", "seven", "nine")
"""Planted model: feature i is active exactly on WORDS[i]."""
FILLER = ("the", "a", "of", "and", "to", "in", "on", "it", "was", "that", "some", "more", "then", "now", "here", "so")


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """model/: a Hugging Face GPT-2 whose embedding's first 8 dimensions are the indicators of 8 words.

    corpus.jsonl: 240 documents of these words among fillers. dictionary/: ours, those 8 dimensions as features.
    """
    return make_once(tmp_path_factory, "planted", _plant)


def _plant(root: Path) -> None:
    from dataclasses import replace

    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    from sae import formats
    from sae.dictionary import Dictionary

    vocabulary = {word: index for index, word in enumerate(("<unk>", *WORDS, *FILLER))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>").save_pretrained(root / "model")
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(vocabulary), n_positions=32, n_embd=16, n_layer=1, n_head=2)
    model = GPT2LMHeadModel(config)
    with torch.no_grad():
        model.transformer.wte.weight[:, :8] = 0
        for position, word in enumerate(WORDS):
            model.transformer.wte.weight[vocabulary[word], position] = 2.0 + position
    model.save_pretrained(root / "model")
    _write_corpus(root / "corpus.jsonl")
    eye = torch.eye(16)[:, :8].contiguous()
    dictionary = Dictionary("words", "sae", eye, torch.zeros(8), eye.T.contiguous(), torch.zeros(16))
    formats.save(replace(dictionary.at("hook_embed"), model=str(root / "model")), root / "dictionary")


def _write_corpus(path: Path) -> None:
    import random

    rng = random.Random(0)
    with path.open("w") as stream:
        for _ in range(240):
            words = [rng.choice(WORDS) if rng.random() < 0.15 else rng.choice(FILLER) for _ in range(96)]
            stream.write(json.dumps({"text": " ".join(words)}) + "\n")


PLANTED_SETTINGS = (
    "corpus.context=32", "sampling.fragment=16", "corpus.held_out=0.5", "subject.prepend_bos=false",
    "runtime.pictures=[]", "runtime.site=false",
)  # fmt: skip


OFFLINE = ["simulation", "detection", "fuzzing", "intruder", "logits"]
"""The scorers that need no language model."""


@pytest.fixture(scope="session")
def planted_run(planted: Path, tmp_path_factory: pytest.TempPathFactory) -> "Run":
    """A finished run of the planted dictionary with every scorer that works offline."""
    import autointerp

    folder = make_once(tmp_path_factory, "planted_run", lambda folder: run_planted(planted, folder / "run"))
    return autointerp.open_run(folder / "run")


def run_planted(planted: Path, out: Path) -> None:
    import autointerp
    from sae.common.progress import Silent

    settings = dict(setting.split("=") for setting in PLANTED_SETTINGS)
    changes = {name: json.loads(value) for name, value in settings.items()} | {
        "dictionaries.load": [str(planted / "dictionary")],
        "dictionaries.baselines": [],
        "corpus.source": str(planted / "corpus.jsonl"),
        "explainers": ["rules-1", "token-table"],
        "scorers": [*OFFLINE, "effect"],
        "sampling.effects": 3,
    }
    autointerp.run("dictionary", changes, out=out, report=Silent)
