"""The subject: activations equal the Hugging Face model's own, replacing works, mistakes are reported."""

import gc
import logging
import os
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from sae.common.errors import UserError
from sae.models.residual import share_basis
from sae.models.subject import Subject, boot, hub_name, one_name


@pytest.fixture(scope="module")
def subject(planted: Path) -> Subject:
    return boot(str(planted / "model"), prepend_bos=False)


@pytest.fixture(scope="module")
def ids_NC() -> torch.Tensor:
    return torch.randint(1, 20, (4, 32), generator=torch.Generator().manual_seed(0))


def test_activations_equal_hugging_faces(planted: Path, subject: Subject, ids_NC: torch.Tensor) -> None:
    model = AutoModelForCausalLM.from_pretrained(planted / "model").eval()
    seen: dict[str, torch.Tensor] = {}
    model.transformer.h[0].mlp.act.register_forward_hook(lambda _m, _i, out: seen.update(post=out))
    model.transformer.h[0].register_forward_hook(
        lambda _m, _i, out: seen.update(resid=out[0] if isinstance(out, tuple) else out)
    )
    with torch.no_grad():
        model(ids_NC)
    torch.testing.assert_close(
        subject.activations(ids_NC, "blocks.0.mlp.hook_post"), seen["post"], atol=1e-5, rtol=1e-4
    )
    torch.testing.assert_close(
        subject.activations(ids_NC, "blocks.0.hook_resid_post"), seen["resid"], atol=1e-5, rtol=1e-4
    )
    assert subject.activations(ids_NC, "blocks.0.attn.hook_z").shape == (4, 32, 16)


def test_activations_are_freed_with_the_last_reference_to_them(subject: Subject, ids_NC: torch.Tensor) -> None:
    """Not by the garbage collector: a pass over much text would hold many batches until it runs."""
    subject.activations(ids_NC, "blocks.0.mlp.hook_post")
    gc.disable()
    try:
        freed = weakref.ref(subject.activations(ids_NC, "blocks.0.mlp.hook_post"))
    finally:
        gc.enable()
    assert freed() is None


def test_losses_equal_hugging_faces_and_replacing_changes_them(
    planted: Path, subject: Subject, ids_NC: torch.Tensor
) -> None:
    model = AutoModelForCausalLM.from_pretrained(planted / "model").eval()
    with torch.no_grad():
        reference = float(model(ids_NC, labels=ids_NC).loss)
    assert float(subject.losses(ids_NC).mean()) == pytest.approx(reference, rel=1e-5)
    hook = "blocks.0.attn.hook_z"
    torch.testing.assert_close(subject.losses(ids_NC, {hook: lambda x: x}), subject.losses(ids_NC))
    assert not torch.allclose(subject.losses(ids_NC, {hook: lambda x: x + 1}), subject.losses(ids_NC))


def test_logits_of_directions_equal_products_of_hugging_faces_weights(planted: Path, subject: Subject) -> None:
    model = AutoModelForCausalLM.from_pretrained(planted / "model")
    block, W_U = model.transformer.h[0], model.lm_head.weight.detach().T
    directions = torch.randn((3, 16), generator=torch.Generator().manual_seed(1))
    wide = torch.randn((3, block.mlp.c_proj.weight.shape[0]), generator=torch.Generator().manual_seed(2))
    expected = {
        "blocks.0.hook_resid_post": directions @ W_U,
        "hook_embed": directions @ W_U,
        "blocks.0.attn.hook_z": directions @ block.attn.c_proj.weight.detach() @ W_U,
        "blocks.0.mlp.hook_post": wide @ block.mlp.c_proj.weight.detach() @ W_U,
    }
    for hook, logits in expected.items():
        result = subject.logits_of(hook, wide if "mlp" in hook else directions)
        torch.testing.assert_close(result, logits, atol=1e-4, rtol=1e-4)
    assert subject.logits_of("blocks.0.hook_in", directions) is None


def test_activations_do_not_depend_on_padding_or_batch(subject: Subject, ids_NC: torch.Tensor) -> None:
    whole = subject.activations(ids_NC, "blocks.0.mlp.hook_post")
    padded = ids_NC.clone()
    padded[:, 20:] = 0
    torch.testing.assert_close(subject.activations(padded, "blocks.0.mlp.hook_post")[:, :20], whole[:, :20])
    torch.testing.assert_close(subject.activations(ids_NC[2:3], "blocks.0.mlp.hook_post")[0], whole[2])


def test_unknown_hook_point_lists_the_near_ones(subject: Subject) -> None:
    with pytest.raises(UserError, match=r"did you mean .*blocks\.0\.mlp\.hook_post"):
        subject.width("blocks.0.mlp.hook_posts")
    assert subject.width("blocks.0.mlp.hook_post") == 64


def test_hook_points_without_a_vector_per_token_are_refused(subject: Subject) -> None:
    with pytest.raises(UserError, match="does not hold one vector per token"):
        subject.width("blocks.0.attn.hook_pattern")


def test_heads_are_no_tokens_when_a_bos_row_is_dropped() -> None:
    """Of eight heads seven are left, as many as the probe has tokens."""

    def run(ids_NC: torch.Tensor, fwd_hooks: list[Any]) -> None:
        for _, hook in fwd_hooks:
            hook(torch.zeros(1, 8, ids_NC.shape[1], ids_NC.shape[1]), None)

    bridge = SimpleNamespace(hook_dict={"pattern": None}, run_with_hooks=run)
    subject = Subject("m", bridge, SimpleNamespace(bos_token_id=0), True, "cpu")
    with pytest.raises(UserError, match="does not hold one vector per token"):
        subject.width("pattern")


def test_processing_centres_the_residual_stream(planted: Path, subject: Subject, ids_NC: torch.Tensor) -> None:
    """Under centred writing weights (older SAELens dictionaries) the stream loses its mean and no more."""
    flags = {"fold_ln": False, "center_writing_weights": True, "center_unembed": False, "fold_value_biases": False}
    centred = boot(str(planted / "model"), prepend_bos=False, processing=flags)
    raw = subject.activations(ids_NC, "blocks.0.hook_resid_post")
    expected = raw - raw.mean(-1, keepdim=True)
    assert float(raw.mean(-1).abs().max()) > 0.01
    torch.testing.assert_close(centred.activations(ids_NC, "blocks.0.hook_resid_post"), expected, atol=1e-5, rtol=1e-4)


def test_names_of_transformer_lens_are_translated_to_the_hubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SAELens' metadata says gpt2-small; the hub calls it otherwise. A directory of that name comes first."""
    assert hub_name("gpt2-small") in ("gpt2", "openai-community/gpt2")
    assert hub_name("EleutherAI/pythia-70m") == "EleutherAI/pythia-70m"
    assert hub_name("pythia-70m-deduped") == "EleutherAI/pythia-70m-deduped"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gpt2-small").mkdir()
    assert hub_name("gpt2-small") == "gpt2-small"


def test_one_model_has_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert one_name("gpt2") == one_name("gpt2-small") != one_name("gpt2-medium")
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    assert one_name("mine") == one_name(str(tmp_path / "mine")) == str(tmp_path / "mine")


def test_hook_points_that_share_a_basis() -> None:
    stream = ["hook_embed", "blocks.0.hook_resid_pre", "blocks.3.hook_resid_post", "blocks.2.hook_mlp_out"]
    assert all(share_basis(one, other) for one in stream for other in stream)
    post, z = "blocks.0.mlp.hook_post", "blocks.0.attn.hook_z"
    assert share_basis(post, post)
    assert not share_basis(post, "blocks.1.mlp.hook_post")
    assert not share_basis(z, "blocks.0.hook_resid_post")


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot load model") as caught:
        boot(str(tmp_path / "absent"))
    assert "\n" not in str(caught.value)


def test_bos_is_prepended_and_dropped_again(planted: Path, ids_NC: torch.Tensor) -> None:
    with pytest.raises(UserError, match=r"no BOS token, but it was asked for one; ask for none$"):
        boot(str(planted / "model"), prepend_bos=True)
    plain = boot(str(planted / "model"))
    assert not plain.prepend_bos
    with_bos = Subject(plain.name, plain.bridge, plain.tokenizer, True, "cpu")
    short = ids_NC[:, :31]
    assert plain.tokenizer.bos_token_id is not None  # TransformerLens gave it one when it booted
    bos = torch.full((4, 1), plain.tokenizer.bos_token_id)
    expected = plain.activations(torch.cat([bos, short], 1), "blocks.0.mlp.hook_post")[:, 1:]
    torch.testing.assert_close(with_bos.activations(short, "blocks.0.mlp.hook_post"), expected)
    assert with_bos.max_context == 31


def test_booting_leaves_the_process_as_it_was(planted: Path) -> None:
    """Environment, warnings and what the libraries print."""
    from huggingface_hub.utils import are_progress_bars_disabled
    from transformers.utils import logging as transformers_logging

    def state() -> tuple[object, ...]:
        library = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
        return dict(os.environ), logging.root.manager.disable, are_progress_bars_disabled(), library

    transformers_logging.set_verbosity_info()
    transformers_logging.enable_progress_bar()
    before = state()
    boot(str(planted / "model"), prepend_bos=False)
    assert state() == before
    transformers_logging.set_verbosity_warning()
