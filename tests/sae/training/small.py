"""A training of seconds: a toy subject on the standard library, or the planted model; and ways to be cut short."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from sae.common.progress import Progress, Report, Silent
from sae.training import config
from sae.training.config import TrainConfig
from sae.training.session import Trained, run

TOY = """
corpus: {source: stdlib, max_tokens: 60_000, context: 32, held_out_tokens: 6_000}
subject: {toy: {vocabulary: 300, d_model: 16, d_mlp: 32, n_heads: 2, steps: 30, batch: 8}}
steps: 100
batch: 256
buffer: 2048
dictionaries:
  - {architecture: topk, expansion: 4, k: 4, lr: 3.0e-3, dead_after: 2_000}
  - {architecture: batch_topk, expansion: 4, k: 4, lr: 3.0e-3}
  - architecture: relu
    expansion: 4
    l1: 0.5
    lr: 3.0e-3
    resampling: {steps: [48, 70], silent_steps: 2, inputs: 1024}
runtime: {checkpoint_every: 16, measure_every: 10, device: cpu}
"""
NAMES = ("topk_4x_k4", "batch_topk_4x_k4", "relu_4x_l1=0.5")
PASSING = {"seconds_per_step"}
"""What a row of metrics has that no two trainings share."""


class KilledError(BaseException):
    """Ends a training at once, as SIGKILL does."""


def killed() -> None:
    raise KilledError


def struck_by_ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def written(folder: Path, text: str = TOY) -> Path:
    """A config file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "small.yaml").write_text(text)
    return folder / "small.yaml"


def toy(folder: Path, **changes: Any) -> TrainConfig:
    """TOY, trained into `folder`; `a__b=1` changes a.b."""
    dotted = {name.replace("__", "."): value for name, value in changes.items()}
    return config.load(str(written(folder.parent)), {"runtime.out": str(folder)} | dotted)


def of_planted(planted: Path, folder: Path, **changes: Any) -> TrainConfig:
    """The same on the planted model and its text."""
    given = {"subject__model": str(planted / "model"), "corpus__source": str(planted / "corpus.jsonl")}
    given["subject__hook_point"] = "blocks.0.mlp.hook_post"
    given |= {"corpus__held_out_tokens": 2000, "batch": 128}
    return toy(folder, **given | changes)


def cut_short(at: int, blow: Callable[[], None] = killed, work: str = "training topk") -> Report:
    """A report that strikes when so much of a piece of work is done."""

    def report(title: str) -> Progress:
        class Struck(Silent):
            def update(self, done: int, total: int, note: str | None = None) -> None:
                if title.startswith(work) and done == at:
                    blow()

        return Struck(title)

    return report


def finish(experiment: TrainConfig) -> Trained:
    """Train, or continue, to the end."""
    return run(experiment, Silent)


def rows(folder: Path) -> list[dict[str, Any]]:
    """The metrics, without what depends on the clock."""
    rows_read = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in PASSING} for row in rows_read]


def assert_same(folder: Path, reference: Path) -> None:
    """Bitwise the same dictionaries, the same metrics, and nothing left behind."""
    assert rows(folder) == rows(reference)
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in reference.iterdir())
    for weights in sorted(reference.glob("*/dictionary.safetensors")):
        ours, theirs = load_file(folder / weights.parent.name / weights.name), load_file(weights)
        assert ours.keys() == theirs.keys()
        for name, tensor in theirs.items():
            assert ours[name].equal(tensor), (weights.parent.name, name)
        assert _recorded(folder / weights.parent.name) == _recorded(weights.parent)


def _recorded(folder: Path) -> Any:
    return json.loads((folder / "dictionary.json").read_text())["metadata"]
