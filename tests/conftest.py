"""Shared fixtures: no network, a cache of the test session's own, a planted model, one finished smoke run."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections leave this machine's loopback in no test."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "localhost", "::1"):
            raise AssertionError(f"a test tried to reach {address}")
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The cache folder of both programs, for this session and its subprocesses."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AUTOINTERP_CACHE", "SAE_CACHE"):
            patch.setenv(name, str(folder))
        yield folder


def heed_interrupts() -> None:
    """For `preexec_fn`: whoever runs the tests in the background may have told them to ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def autointerp(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user would, in another folder."""
    command = [sys.executable, "-m", "autointerp", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of eval_configs/smoke.yaml, made by the command line."""
    folder = tmp_path_factory.mktemp("smoke")
    done = autointerp("run", "smoke", "--out", folder / "run", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "run"


WORDS = ("red", "blue", "green", "stone", "river", "cloud", "seven", "nine")
"""Planted model: feature i is active exactly on WORDS[i]."""
FILLER = ("the", "a", "of", "and", "to", "in", "on", "it", "was", "that", "some", "more", "then", "now", "here", "so")


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """model/: a Hugging Face GPT-2 whose embedding's first 8 dimensions are the indicators of 8 words.

    corpus.jsonl: 240 documents of these words among fillers. dictionary/: ours, those 8 dimensions as features.
    """
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    from sae import formats
    from sae.dictionary import Dictionary

    root = tmp_path_factory.mktemp("planted")
    vocabulary = {word: index for index, word in enumerate(("<unk>", *WORDS, *FILLER))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>").save_pretrained(root / "model")
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(vocabulary), n_positions=32, n_embd=16, n_layer=1, n_head=2)
    model = GPT2LMHeadModel(config)
    with torch.no_grad():
        model.transformer.wte.weight[:, :8] = 0
        for place, word in enumerate(WORDS):
            model.transformer.wte.weight[vocabulary[word], place] = 2.0 + place
    model.save_pretrained(root / "model")
    _write_corpus(root / "corpus.jsonl")
    eye = torch.eye(16)[:, :8].contiguous()
    dictionary = Dictionary("words", "sae", eye, torch.zeros(8), eye.T.contiguous(), torch.zeros(16))
    formats.save(
        Dictionary(**vars(dictionary) | {"hook_point": "hook_embed", "model": str(root / "model")}),
        root / "dictionary",
    )
    return root


def _write_corpus(path: Path) -> None:
    import json
    import random

    rng = random.Random(0)
    with path.open("w") as stream:
        for _ in range(240):
            words = [rng.choice(WORDS) if rng.random() < 0.15 else rng.choice(FILLER) for _ in range(96)]
            stream.write(json.dumps({"text": " ".join(words)}) + "\n")


PLANTED_SETTINGS = (
    "corpus.context=32", "sampling.fragment=16", "corpus.held_out=0.5", "subject.prepend_bos=false",
)  # fmt: skip
