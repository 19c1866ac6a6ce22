"""OpenAI's {layer}.pt: ReLU as it is, TopK on normalised vectors; hook point and model from the release's folders."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sae import formats
from sae.common.errors import UserError
from tests.sae.test_dictionary import D, M
from tests.sae.test_formats import X_BD

K = 4
TOPK = {"activation": "TopK", "activation_state_dict": OrderedDict(k=K, postact_fn="ReLU")}


def tensors() -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(9)
    shapes = {"pre_bias": (D,), "latent_bias": (M,), "encoder.weight": (M, D), "decoder.weight": (D, M)}
    return {name: torch.randn(shape, generator=g) for name, shape in shapes.items()}


def write(path: Path, **changes: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    counters = {"stats_last_nonzero": torch.zeros(M, dtype=torch.long)}
    state = tensors() | counters | {"activation": "ReLU", "activation_state_dict": OrderedDict()} | changes
    torch.save(OrderedDict((k, v) for k, v in state.items() if v is not None), path)
    return path


@pytest.mark.parametrize("changes", [{}, {"activation": None, "activation_state_dict": None}], ids=["v1", "unnamed"])
def test_relu_by_its_formula(changes: dict[str, Any], tmp_path: Path) -> None:
    loaded, t = formats.load(write(tmp_path / "6.pt", **changes)), tensors()
    features_BF = ((X_BD - t["pre_bias"]) @ t["encoder.weight"].T + t["latent_bias"]).relu()
    torch.testing.assert_close(loaded.encode(X_BD), features_BF, atol=1e-5, rtol=1e-5)
    decoded_BD = features_BF @ t["decoder.weight"].T + t["pre_bias"]
    torch.testing.assert_close(loaded.decode(features_BF), decoded_BD, atol=1e-5, rtol=1e-5)


def test_topk_by_its_formula(tmp_path: Path) -> None:
    loaded, t = formats.load(write(tmp_path / "6.pt", **TOPK)), tensors()
    mu_B1 = X_BD.mean(1, keepdim=True)
    std_B1 = (X_BD - mu_B1).std(1, keepdim=True)
    pre_BF = ((X_BD - mu_B1) / (std_B1 + 1e-5) - t["pre_bias"]) @ t["encoder.weight"].T + t["latent_bias"]
    kept = pre_BF.topk(K)
    features_BF = torch.zeros_like(pre_BF).scatter(1, kept.indices, kept.values.relu())
    assert int((features_BF > 0).sum(1).max()) == K
    torch.testing.assert_close(loaded.encode(X_BD), features_BF, atol=1e-5, rtol=1e-5)
    decoded_BD = (features_BF @ t["decoder.weight"].T + t["pre_bias"]) * std_B1 + mu_B1
    torch.testing.assert_close(loaded.decode(features_BF, X_BD), decoded_BD, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("subpath", "name", "hook_point"),
    [
        ("resid_post_mlp_v5_32k/autoencoders/6.pt", "resid_post_mlp_v5_32k-6", "blocks.6.hook_resid_post"),
        ("resid_post_attn_v5_128k/autoencoders/0.pt", "resid_post_attn_v5_128k-0", "blocks.0.hook_resid_mid"),
        ("resid_delta_attn_v5_32k/autoencoders/1.pt", "resid_delta_attn_v5_32k-1", "blocks.1.hook_attn_out"),
        ("resid_delta_mlp_v4/autoencoders/11.pt", "resid_delta_mlp_v4-11", "blocks.11.hook_mlp_out"),
        ("mlp_post_act/autoencoders/2.pt", "mlp_post_act-2", "blocks.2.mlp.hook_post"),
        ("elsewhere/6.pt", "6", None),
    ],
)
def test_the_path_tells_what_the_file_does_not(subpath: str, name: str, hook_point: str | None, tmp_path: Path) -> None:
    header = formats.peek(write(tmp_path / subpath))
    assert (header.name, header.d_in, header.n_features, header.hook_point) == (name, D, M, hook_point)
    assert header.model == ("gpt2" if hook_point else None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pre_bias": None}, "lacks 'pre_bias'"),
        ({"latent_bias": torch.zeros(0)}, r"latent_bias is of shape \[0\], expected a tensor of one dimension"),
        ({"latent_bias": None}, "lacks 'latent_bias'"),
        ({"encoder.weight": None}, r"lacks 'encoder\.weight'"),
        ({"decoder.weight": None}, r"lacks 'decoder\.weight'"),
        ({"decoder.weight": torch.zeros(M, D)}, r"decoder\.weight has shape \[20, 6\], expected \[6, 20\]"),
        ({"activation": "Tanh"}, r"'Tanh' is not supported \(ReLU, TopK are\)"),
        ({"activation": "TopK", "activation_state_dict": None}, "lacks 'activation_state_dict'"),
        ({"activation": "TopK", "activation_state_dict": {"k": K, "postact_fn": "Identity"}}, "postact_fn 'Identity'"),
        ({"activation": "TopK", "activation_state_dict": {"k": 50, "postact_fn": "ReLU"}}, "k is 50, expected 1 to 20"),
    ],
)
def test_files_that_do_not_fit_are_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        formats.load(write(tmp_path / "6.pt", **changes))


def test_what_is_no_state_dict_is_refused(tmp_path: Path) -> None:
    torch.save([1], tmp_path / "6.pt")
    with pytest.raises(UserError, match="does not hold a state dict"):
        formats.peek(tmp_path / "6.pt")
    whole = write(tmp_path / "7.pt").read_bytes()
    for content in (b"", b"torn", whole[: len(whole) // 2]):
        (tmp_path / "6.pt").write_bytes(content)
        with pytest.raises(UserError, match="not a file of PyTorch"):
            formats.peek(tmp_path / "6.pt")
