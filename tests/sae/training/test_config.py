"""A training's config: sweeps become dictionaries with names of their own, mistakes become one line, presets load."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from sae.common.errors import UserError
from sae.common.resources import shipped_folder
from sae.training import config
from sae.training.architectures.base import Workspace
from sae.training.config import RUNTIME, TrainConfig
from sae.training.flat import Scratch
from sae.training.ranks import Ranks
from sae.training.session import Session
from sae.training.trainer import Trainer
from tests.sae.training.small import Silent, toy, written

PRESETS = sorted(path.stem for path in (shipped_folder("eval_configs") / "train").glob("*.yaml"))


def load(folder: Path, items: str, **changes: Any) -> TrainConfig:
    return config.load(str(written(folder, f"dictionaries:\n{items}")), changes)


def labels(folder: Path, items: str, **changes: Any) -> list[str]:
    return [recipe.label for recipe in load(folder, items, **changes).dictionaries]


def refused(folder: Path, items: str, **changes: Any) -> str:
    """The one line that a mistake ends with."""
    with pytest.raises(UserError) as caught:
        load(folder, items, **changes)
    (line,) = str(caught.value).splitlines()
    return line


def test_a_sweep_stands_for_every_combination(tmp_path: Path) -> None:
    swept = "- {architecture: topk, lr: 1.0e-3, sweep: {k: [4, 8], seed: [0, 1], expansion: [2, 0.5]}}"
    assert labels(tmp_path, swept) == [
        "topk_2x_k4", "topk_0.5x_k4", "topk_2x_k4_seed1", "topk_0.5x_k4_seed1",
        "topk_2x_k8", "topk_0.5x_k8", "topk_2x_k8_seed1", "topk_0.5x_k8_seed1",
    ]  # fmt: skip
    assert {recipe.lr for recipe in load(tmp_path, swept).dictionaries} == {1e-3}
    others = "- {architecture: relu, sweep: {l1: [0.003, 1]}}\n- {architecture: jumprelu, l0: 1.0e-5}\n"
    assert labels(tmp_path, others) == ["relu_8x_l1=0.003", "relu_8x_l1=1", "jumprelu_8x_l0=1e-05"]


def test_a_swept_name_says_which(tmp_path: Path) -> None:
    named = '- {architecture: topk, name: "a_{lr}_{k}", sweep: {lr: [0.1, 1.0e-4], k: [4]}}'
    assert labels(tmp_path, named) == ["a_0.1_4", "a_0.0001_4"]
    assert "only the swept settings in braces: {lr}" in refused(
        tmp_path, '- {architecture: topk, name: "{k}", sweep: {lr: [0.1]}}'
    )


def test_changes_are_of_the_dictionaries_after_the_sweep(tmp_path: Path) -> None:
    swept = "- {architecture: topk, sweep: {k: [4, 8]}}\n- {architecture: relu, l1: 0.1}"
    assert labels(tmp_path, swept, **{"dictionaries.1.k": 16}) == ["topk_8x_k4", "topk_8x_k16", "relu_8x_l1=0.1"]
    given = {"dictionaries": [{"architecture": "tied", "sweep": {"l1": [0.1, 0.2]}}]}
    assert labels(tmp_path, swept, **given) == ["tied_8x_l1=0.1", "tied_8x_l1=0.2"]
    assert "list of 3" in refused(tmp_path, swept, **{"dictionaries.3.k": 16})


def test_mistakes_are_one_line_with_the_near_name(tmp_path: Path) -> None:
    topk = "- {architecture: topk}"
    assert "unknown 'topq'; did you mean topk" in refused(tmp_path, "- {architecture: topq}")
    assert "architecture: field required" in refused(tmp_path, "- {k: 3}")
    assert "'dictionaries.0.expnsion'; did you mean expansion" in refused(
        tmp_path, "- {architecture: topk, expnsion: 2}"
    )
    assert "did you mean runtime.measure_every" in refused(tmp_path, topk, **{"runtime.mesure_every": 2})
    assert "dictionaries.0.l1" in refused(tmp_path, "- {architecture: relu}")
    assert "dictionaries.0.k" in refused(tmp_path, "- {architecture: topk, k: 0}")
    silent = "- {architecture: jumprelu, l0: 0.1, threshold: 0.4}"
    assert "raise encoder_start" in refused(tmp_path, silent)
    assert "dictionaries.0.encoder_start" in refused(tmp_path, "- {architecture: tied, l1: 0.1, encoder_start: 0.1}")
    assert "rise to 1" in refused(tmp_path, "- {architecture: matryoshka, prefixes: [0.5, 0.25, 1]}")
    assert "a list of values" in refused(tmp_path, "- {architecture: topk, sweep: {k: 4}}")
    assert "a list of values" in refused(tmp_path, "- {architecture: topk, sweep: [k]}")
    assert "dictionaries" in refused(tmp_path, "  {}")
    with pytest.raises(UserError, match="did you mean matryoshka"):
        config.load("matrioshka")


def test_names_are_each_others_own(tmp_path: Path) -> None:
    assert "two dictionaries are called 'topk_8x_k32'" in refused(
        tmp_path, "- {architecture: topk, sweep: {lr: [1, 2]}}"
    )
    twice = "- {architecture: topk, name: a}\n- {architecture: relu, l1: 1, name: a}"
    assert "two dictionaries are called 'a'" in refused(tmp_path, twice)
    taken = dict.fromkeys(("subject", "checkpoint", "metrics.jsonl"), "cannot be called")
    for name, reason in (taken | {".": "cannot name a folder", "..": "cannot name a folder"}).items():
        assert reason in refused(tmp_path, f"- {{architecture: topk, name: {name!r}}}")
    assert "dictionaries.0.name" in refused(tmp_path, "- {architecture: topk, name: a/b}")


def test_the_identity_is_all_but_what_only_changes_speed_and_place(tmp_path: Path) -> None:
    one = load(tmp_path, "- {architecture: topk}")
    fields = set(TrainConfig.model_fields)
    assert set(one.identity()) == fields - RUNTIME
    assert fields > RUNTIME
    other = load(tmp_path, "- {architecture: topk}", **{"runtime.out": "x", "runtime.forward_blocks": 3})
    assert one.identity() == other.identity()


def test_there_are_presets() -> None:
    assert {"toy", "towards_monosemanticity", "cunningham", "topk", "batch_topk"} <= set(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_loads_and_its_trainers_can_be_built(name: str) -> None:
    preset = config.load(name)
    assert preset.name == name
    assert preset.runtime.out is None
    device = "cpu"
    first_BD = torch.randn(32, 24)
    workspace = Workspace(24, device, torch.float32, Scratch(device), Ranks())
    for recipe in preset.dictionaries:
        smaller = recipe.model_copy(update={"k": 4, "expansion": 2} if hasattr(recipe, "k") else {"expansion": 2})
        trainer = Trainer(smaller, preset.steps, first_BD, workspace)
        trainer.step(first_BD)
        assert trainer.measure(first_BD).l0 >= 0


def test_a_batch_is_shared_evenly(tmp_path: Path) -> None:
    class Three(Ranks):
        parts = 3

    with pytest.raises(UserError, match="batch 256 cannot be shared evenly by 3 processes"):
        Session(toy(tmp_path / "out"), tmp_path / "out", Three(), Silent)


def test_loading_needs_no_torch() -> None:
    code = "import sys; from sae.training import config; config.load('toy'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
