"""Gemma Scope's params.npz: JumpReLU with nothing subtracted; model and hook point from the release's folders."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sae import formats
from sae.common.errors import UserError
from tests.sae.test_dictionary import D, M
from tests.sae.test_formats import X_BD


def arrays() -> dict[str, Any]:
    rng = np.random.default_rng(7)
    shapes = {"W_enc": (D, M), "b_enc": (M,), "W_dec": (M, D), "b_dec": (D,), "threshold": (M,)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def write(folder: Path, **changes: Any) -> Path:
    folder.mkdir(parents=True)
    np.savez(folder / "params.npz", **{k: v for k, v in (arrays() | changes).items() if v is not None})
    return folder


def test_by_its_formula(tmp_path: Path) -> None:
    loaded, a = formats.load(write(tmp_path / "d")), arrays()
    pre = X_BD.numpy() @ a["W_enc"] + a["b_enc"]
    features = (pre > a["threshold"]) * np.maximum(pre, 0)
    np.testing.assert_allclose(loaded.encode(X_BD).numpy(), features, atol=1e-5, rtol=1e-5)
    decoded = loaded.decode(torch.from_numpy(features)).numpy()
    np.testing.assert_allclose(decoded, features @ a["W_dec"] + a["b_dec"], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("subpath", "hook_point", "model"),
    [
        ("gemma-scope-2b-pt-res/layer_20/width_16k/l0", "blocks.20.hook_resid_post", "google/gemma-2-2b"),
        ("models--google--gemma-scope-9b-it-res/snapshots/0a/layer_9/width_16k/l0", "blocks.9.hook_resid_post",
         "google/gemma-2-9b-it"),
        ("gemma-scope-9b-pt-mlp/layer_0/width_16k/l0", "blocks.0.hook_mlp_out", "google/gemma-2-9b"),
        ("gemma-scope-2b-pt-att/layer_3/width_16k/l0", "blocks.3.attn.hook_z", "google/gemma-2-2b"),
        ("gemma-scope-2b-pt-res/embedding/width_4k/l0", None, "google/gemma-2-2b"),
        ("elsewhere/layer_20/width_16k/l0", None, None),
    ],
)  # fmt: skip
def test_the_path_tells_what_the_file_does_not(
    subpath: str, hook_point: str | None, model: str | None, tmp_path: Path
) -> None:
    header = formats.peek(write(tmp_path / subpath) / "params.npz")
    assert (header.name, header.d_in, header.n_features) == ("l0", D, M)
    assert (header.hook_point, header.model, header.prepend_bos) == (hook_point, model, True)
    assert ["taken for an autoencoder" in note for note in header.notes] == ([] if model else [True])


@pytest.mark.parametrize("name", arrays())
def test_every_array_is_checked(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"params\.npz lacks '{name}'"):
        formats.load(write(tmp_path / "missing", **{name: None}))
    with pytest.raises(UserError, match=r"params\.npz: \w+ has shape \[.*\], expected (\[|one dimension)"):
        formats.load(write(tmp_path / "shape", **{name: np.zeros((2, 1, 3))}))


@pytest.mark.parametrize("name", ["b_enc", "b_dec"])
def test_a_dictionary_without_a_feature_or_a_dimension_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"params\.npz: {name} has shape \[0\], expected one dimension"):
        formats.peek(write(tmp_path / "empty", **{name: np.zeros(0, np.float32)}))


def test_lower_case_names_are_read_and_scaling_is_refused(tmp_path: Path) -> None:
    a = arrays()
    lower = write(tmp_path / "lower", W_enc=None, W_dec=None, w_enc=a["W_enc"], w_dec=a["W_dec"])
    assert torch.equal(formats.load(lower).W_enc_DF, torch.from_numpy(a["W_enc"]))
    with pytest.raises(UserError, match="scaling_factor is not all ones"):
        formats.load(write(tmp_path / "scaled", scaling_factor=np.full(M, 2.0)))


def test_damaged_and_pickled_files_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "objects", b_enc=np.array([{}], dtype=object))
    with pytest.raises(UserError, match="cannot read"):
        formats.load(folder)
    whole = (write(tmp_path / "whole") / "params.npz").read_bytes()
    for content in (b"", b"torn", whole[: len(whole) // 2]):
        (folder / "params.npz").write_bytes(content)
        with pytest.raises(UserError, match="cannot read"):
            formats.load(folder)
