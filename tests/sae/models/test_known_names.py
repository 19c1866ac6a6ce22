"""Hook points that a model does not have are refused by its config alone, and all that it has are let through."""

import re
from pathlib import Path

import pytest
import torch

from sae.common.errors import UserError
from sae.models import toy
from sae.models.known_names import refuse_unknown_hook_points
from sae.models.subject import boot
from tests.sae.command_line import invoked
from tests.sae.models.families import write_model

SLOW = ("gpt_neox", "gpt_neox_sequential", "llama", "gemma2", "qwen2", "qwen3", "mistral")
MODULES = ["hf:model.layers.1.mlp", "hf:model.layers.0.self_attn:in"]


@pytest.mark.parametrize("family", ["gpt2", "gemma3", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_all_that_a_model_has_and_no_others(family: str, tmp_path: Path) -> None:
    write_model(family, tmp_path)
    every = boot(str(tmp_path)).hook_points
    for weights in tmp_path.glob("*.safetensors"):
        weights.unlink()
    state = torch.get_rng_state()
    refuse_unknown_hook_points(str(tmp_path), every)
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(UserError, match=r"no hook point 'blocks.2.hook_mlp_out'; did you mean blocks.1.hook_mlp_out"):
        refuse_unknown_hook_points(str(tmp_path), [every[0], "blocks.2.hook_mlp_out"])


def test_modules_of_a_model_that_transformer_lens_does_not_boot(tmp_path: Path) -> None:
    write_model("helium", tmp_path)
    refuse_unknown_hook_points(str(tmp_path), MODULES)
    with pytest.raises(UserError, match=r"no hook point 'hf:model.layers.1.mpl'; did you mean hf:model.layers.1.mlp"):
        refuse_unknown_hook_points(str(tmp_path), [*MODULES, "hf:model.layers.1.mpl"])


def test_a_misspelt_writes_stops_before_a_toy_is_trained_or_a_model_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toy, "train_toy", None)
    given = ["--hook", "blocks.0.mlp.hook_in", "--writes", "blocks.0.hook_mlp_otu", "--out", tmp_path / "out"]
    done = invoked("train", *given)
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1), done.stderr
    assert re.search(
        r"the toy has no hook point 'blocks.0.hook_mlp_otu'; did you mean .*blocks.0.hook_mlp_out", done.stderr
    )
    write_model("gpt2", tmp_path / "model")
    (tmp_path / "model/model.safetensors").unlink()
    done = invoked("train", "--model", tmp_path / "model", *given, "--set", "corpus.context=16")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "has no hook point 'blocks.0.hook_mlp_otu'; did you mean" in done.stderr
