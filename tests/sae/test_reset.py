"""A subject whose weights are drawn anew: its architecture and tokenizer, other activations, the same for one seed."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from sae import formats
from sae.common.errors import UserError
from sae.common.progress import Silent
from sae.models.cache import ArtifactCache
from sae.models.reset import write_reset
from sae.models.subject import boot
from tests.sae.training.small import finish, of_planted, toy

HOOK = "blocks.0.mlp.hook_post"


def activations(model: Path) -> Tensor:
    ids_NC = torch.randint(1, 20, (2, 16), generator=torch.Generator().manual_seed(0))
    return boot(str(model)).activations(ids_NC, HOOK)


def test_weights_are_drawn_by_the_models_own_initialiser(planted: Path, tmp_path: Path) -> None:
    write_reset(str(planted / "model"), 0, tmp_path / "reset")
    before, after = (AutoModelForCausalLM.from_pretrained(path) for path in (planted / "model", tmp_path / "reset"))
    shapes = [{name: tuple(value.shape) for name, value in one.state_dict().items()} for one in (before, after)]
    assert shapes[0] == shapes[1]
    deviation = AutoConfig.from_pretrained(planted / "model").initializer_range
    assert float(after.transformer.wte.weight.detach().std()) == pytest.approx(deviation, rel=0.1)
    assert float(before.transformer.wte.weight.detach().max()) > 2  # of the planted words
    text = ["the words of a text", ""]
    assert boot(str(tmp_path / "reset")).token_ids(text) == boot(str(planted / "model")).token_ids(text)


def test_a_seed_gives_one_subject_and_the_cache_keeps_each(planted: Path, tmp_path: Path) -> None:
    model, state = str(planted / "model"), torch.get_rng_state()
    caches = [ArtifactCache(tmp_path / name, Silent, "cpu") for name in "ab"]
    first, again, other = caches[0].reset(model, 0), caches[1].reset(model, 0), caches[0].reset(model, 1)
    assert torch.equal(torch.get_rng_state(), state)
    assert first.name == again.name != other.name
    assert torch.equal(activations(first), activations(again))
    assert not torch.allclose(activations(first), activations(other))
    assert not torch.allclose(activations(first), activations(planted / "model"))
    written = (first / "model.safetensors").stat().st_mtime_ns
    assert caches[0].reset(model, 0) == first
    assert (first / "model.safetensors").stat().st_mtime_ns == written


def test_a_model_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot load model .*absent") as caught:
        write_reset(str(tmp_path / "absent"), 0, tmp_path / "reset")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "reset").exists()


@pytest.mark.slow
def test_dictionaries_trained_on_it_name_it(planted: Path, tmp_path: Path) -> None:
    """What measures them later boots the subject that they were trained on; the ordinary training is another."""
    finish(of_planted(planted, tmp_path / "plain"))
    finish(of_planted(planted, tmp_path / "reset", subject__reset_weights=True))
    plain, reset = (formats.load(tmp_path / name / "topk_4x_k4") for name in ("plain", "reset"))
    assert plain.model == str((planted / "model").resolve())
    assert reset.model == str((tmp_path / "reset" / "subject").resolve())
    write_reset(str(planted / "model"), 0, tmp_path / "expected")
    assert torch.equal(activations(Path(reset.model)), activations(tmp_path / "expected"))
    assert not torch.allclose(plain.W_dec_FD, reset.W_dec_FD)


@pytest.mark.slow
def test_the_toy_is_reset_too(tmp_path: Path) -> None:
    finish(toy(tmp_path / "plain", steps=2))
    finish(toy(tmp_path / "reset", steps=2, subject__reset_weights=True))
    plain, reset = (tmp_path / name / "subject" for name in ("plain", "reset"))
    assert not torch.allclose(activations(plain), activations(reset))
    assert (plain / "tokenizer.json").read_text() == (reset / "tokenizer.json").read_text()
    assert not (reset / "toy.json").exists()  # its losses are the trained toy's
