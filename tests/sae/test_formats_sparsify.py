"""sparsify's folders: topk and groupmax as that library computes, transcoders in test_release_files."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from sae import formats
from sae.common.errors import UserError
from tests.sae.test_dictionary import D, M
from tests.sae.test_formats import X_BD, library

K = 4
CONFIG = {
    "activation": "topk", "expansion_factor": 32, "normalize_decoder": True, "num_latents": M, "k": K,
    "multi_topk": False, "skip_connection": False, "transcode": False, "d_in": D,
}  # fmt: skip


def tensors(**changes: Tensor) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(8)
    shapes = {"encoder.weight": (M, D), "encoder.bias": (M,), "W_dec": (M, D), "b_dec": (D,)}
    return {name: torch.randn(shape, generator=g) for name, shape in shapes.items()} | changes


def write(folder: Path, state: dict[str, Tensor], **config: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / "cfg.json").write_text(json.dumps(CONFIG | config))
    save_file(state, folder / "sae.safetensors")
    return folder


def expected(activation: str, t: dict[str, Tensor]) -> Tensor:
    pre_BF = ((X_BD - t["b_dec"]) @ t["encoder.weight"].T + t["encoder.bias"]).relu()
    features_BF = torch.zeros_like(pre_BF)
    for row, pre in zip(features_BF, pre_BF, strict=True):
        size = M // K
        groups = [int(pre[g * size : (g + 1) * size].argmax()) + g * size for g in range(K)]
        kept = sorted(range(M), key=lambda f, pre=pre: -float(pre[f]))[:K] if activation == "topk" else groups  # type: ignore[misc]
        row[kept] = pre[kept]
    return features_BF


@pytest.mark.parametrize("activation", ["topk", "groupmax"])
def test_by_its_formula(activation: str, tmp_path: Path) -> None:
    t = tensors()
    loaded, features_BF = formats.load(write(tmp_path / "d", t, activation=activation)), expected(activation, t)
    torch.testing.assert_close(loaded.encode(X_BD), features_BF, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(loaded.decode(features_BF), features_BF @ t["W_dec"] + t["b_dec"], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("activation", ["topk", "groupmax"])
def test_k_is_respected(activation: str, tmp_path: Path) -> None:
    loud = tensors(**{"encoder.bias": torch.full((M,), 100.0)})
    loaded = formats.load(write(tmp_path / "d", loud, activation=activation))
    assert ((loaded.encode(X_BD) > 0).sum(1) == K).all()


@pytest.mark.parametrize("activation", ["topk", "groupmax"])
def test_the_library_itself(activation: str, tmp_path: Path) -> None:
    """Saved by sparsify with random weights, read here: encode and decode agree to 1e-5."""
    sparsify = library("sparsify.sparse_coder", "eai-sparsify")
    config = sparsify.SparseCoderConfig(activation=activation, num_latents=M, k=K)
    theirs = sparsify.SparseCoder(D, config)
    theirs.load_state_dict(tensors())
    theirs.save_to_disk(tmp_path / "layers.1")
    ours = formats.load(tmp_path / "layers.1")
    with torch.no_grad():
        values_BK, features_BK, _ = theirs.encode(X_BD)
        features_BF = torch.zeros(len(X_BD), M).scatter(-1, features_BK, values_BK)
        torch.testing.assert_close(ours.encode(X_BD), features_BF, atol=1e-5, rtol=1e-5)
        sae_out = theirs(X_BD).sae_out
        torch.testing.assert_close(ours.decode(features_BF), sae_out, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("module", "hook_point"),
    [
        ("layers.10", "blocks.10.hook_resid_post"),
        ("h.3", "blocks.3.hook_resid_post"),
        ("h.3.mlp.act", "blocks.3.mlp.hook_post"),
        ("layers.4.mlp", None),
        ("embed_tokens", None),
    ],
)
def test_the_folder_is_the_hook_point(module: str, hook_point: str | None, tmp_path: Path) -> None:
    folder = write(tmp_path / module, tensors(), num_latents=0, expansion_factor=4)
    header = formats.peek(folder)
    assert (header.name, header.d_in, header.n_features) == (module, D, 4 * D)
    assert (header.hook_point, header.model) == (hook_point, None)
    (tmp_path / "config.json").write_text(json.dumps({"model": "gpt2"}))
    assert formats.peek(folder).model == "gpt2"


@pytest.mark.parametrize("name", tensors())
def test_every_tensor_is_checked(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"sae\.safetensors lacks '{name}'"):
        formats.load(write(tmp_path / "missing", {k: v for k, v in tensors().items() if k != name}))
    shape = ", ".join(str(size) for size in tensors()[name].shape)
    with pytest.raises(UserError, match=rf"{name} has shape \[2, 1\], expected \[{shape}\]"):
        formats.load(write(tmp_path / "shape", tensors(**{name: torch.zeros(2, 1)})))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"signed": True}, "signed is on"),
        ({"activation": "jumprelu"}, r"'jumprelu' is not supported \(topk, groupmax are\)"),
        ({"activation": "groupmax", "k": 3}, "20 features are not a multiple of k = 3"),
        ({"k": 0}, "k is 0, expected 1 to 20"),
        ({"k": M + 1}, "k is 21, expected 1 to 20"),
    ],
)
def test_options_that_do_not_fit_are_refused(config: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        formats.load(write(tmp_path / "d", tensors(), **config))
