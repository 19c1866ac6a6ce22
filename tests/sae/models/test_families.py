"""At every hook point a dictionary is likely to read, each family's activations are those of plain transformers.

The most common doubt of users: TransformerLens folds layer norms and centres weights unless it is told not to.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from sae.models.subject import boot
from tests.sae.models.families import N_LAYERS, write_model
from tests.sae.models.families import reference as load_reference

FAST = ("gpt2", "gpt_neox", "llama", "gemma2")
SLOW = ("gpt_neox_sequential", "gemma3", "qwen2", "qwen3", "mistral")


class Layout(NamedTuple):
    """Names a family's modules: those of a layer, by their paths in it."""

    layers: str
    attention: str
    projection: str
    norm_before_mlp: str
    down: str
    added: tuple[str, str]
    """The modules whose outputs are added to the residual stream: of attention and of the MLP."""


LLAMA = Layout(
    "model.layers", "self_attn", "o_proj", "post_attention_layernorm", "mlp.down_proj", ("self_attn", "mlp")
)  # fmt: skip
NEOX = Layout(
    "gpt_neox.layers", "attention", "dense", "post_attention_layernorm", "mlp.dense_4h_to_h", ("attention", "mlp")
)  # fmt: skip
NORMED = LLAMA._replace(
    norm_before_mlp="pre_feedforward_layernorm", added=("post_attention_layernorm", "post_feedforward_layernorm")
)
LAYOUTS = {
    "gpt2": Layout("transformer.h", "attn", "c_proj", "ln_2", "mlp.c_proj", ("attn", "mlp")),
    "gpt_neox": NEOX, "gpt_neox_sequential": NEOX, "gemma2": NORMED, "gemma3": NORMED,
}  # fmt: skip


@pytest.mark.parametrize("family", [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_activations_and_logits_are_those_of_transformers(family: str, tmp_path: Path) -> None:
    write_model(family, tmp_path)
    model, subject = load_reference(tmp_path), boot(str(tmp_path), prepend_bos=True)
    ids_NC = torch.randint(2, 42, (2, 12), generator=torch.Generator().manual_seed(0))
    seen: dict[str, Tensor] = {}
    for name, module, is_input in hook_points(model, family):
        record(module, is_input, name, seen)
    with torch.no_grad():
        logits_NCV = model(torch.cat([torch.ones((2, 1), dtype=torch.long), ids_NC], 1)).logits[:, 1:]
    acts = subject.activations_at(ids_NC, list(seen))
    assert len(seen) == 1 + N_LAYERS * (7 if family == "gpt_neox" else 8)
    for name, value in seen.items():
        assert_equal(acts[name], value[:, 1:].flatten(2), name)
    assert_equal(subject.logits(ids_NC), logits_NCV, "logits")


def hook_points(model: Any, family: str) -> Iterator[tuple[str, nn.Module, bool]]:
    """Yield TransformerLens' name of each hook point, the module of transformers, and whether it is its input."""
    layout = LAYOUTS.get(family, LLAMA)
    yield "hook_embed", model.get_input_embeddings(), False
    for index, layer in enumerate(model.get_submodule(layout.layers)):
        attention = layer.get_submodule(layout.attention)
        at = f"blocks.{index}."
        yield f"{at}hook_resid_pre", layer, True
        yield f"{at}hook_resid_post", layer, False
        yield f"{at}attn.hook_z", attention.get_submodule(layout.projection), True
        yield f"{at}hook_attn_out", layer.get_submodule(layout.added[0]), False
        yield f"{at}mlp.hook_in", layer.mlp, True
        yield f"{at}mlp.hook_post", layer.get_submodule(layout.down), True
        yield f"{at}hook_mlp_out", layer.get_submodule(layout.added[1]), False
        if family != "gpt_neox":  # in parallel with attention: there is no stream between the two
            yield f"{at}hook_resid_mid", layer.get_submodule(layout.norm_before_mlp), True


def record(module: nn.Module, is_input: bool, name: str, seen: dict[str, Tensor]) -> None:
    """Keep what a module reads or writes in a forward pass."""
    if is_input:
        module.register_forward_pre_hook(
            lambda module, args, named: seen.update({name: (*args, *named.values())[0]}), with_kwargs=True
        )
    else:
        module.register_forward_hook(
            lambda module, args, output: seen.update({name: output[0] if isinstance(output, tuple) else output})
        )


def assert_equal(actual: Tensor, expected: Tensor, name: str) -> None:
    """Compare to 1e-5, of the largest number where that is above 1."""
    error = float((actual - expected).abs().max())
    assert error <= 1e-5 * max(1.0, float(expected.abs().max())), f"{name} differs by {error:.1e}"
