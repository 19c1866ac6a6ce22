"""dictionary_learning's seven classes: each read as that library computes, what does not fit is refused by name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sae import formats
from sae.common.errors import UserError
from tests.sae.test_dictionary import D, M
from tests.sae.test_formats import X_BD, library

Tensors = dict[str, Tensor]
K = 4


def random_tensors(**shapes: tuple[int, ...]) -> Tensors:
    generator = torch.Generator().manual_seed(6)
    return {name.replace("__", "."): torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def linear(**others: tuple[int, ...]) -> Tensors:
    return random_tensors(encoder__weight=(M, D), encoder__bias=(M,), decoder__weight=(D, M), **others)


def plain() -> Tensors:
    return random_tensors(W_enc=(D, M), b_enc=(M,), W_dec=(M, D), b_dec=(D,))


def counts(threshold: float) -> Tensors:
    return {"k": torch.tensor(K, dtype=torch.int), "threshold": torch.tensor(threshold)}


GATED = random_tensors(
    decoder_bias=(D,), encoder__weight=(M, D), r_mag=(M,), gate_bias=(M,), mag_bias=(M,), decoder__weight=(D, M)
)
TENSORS: dict[str, Tensors] = {
    "AutoEncoder": linear(bias=(D,)),
    "AutoEncoderNew": linear(decoder__bias=(D,)),
    "GatedAutoEncoder": GATED,
    "AutoEncoderTopK": linear(b_dec=(D,)) | counts(0.1),
    "BatchTopKSAE": linear(b_dec=(D,)) | counts(1.5),
    "MatryoshkaBatchTopKSAE": plain() | counts(1.5) | {"group_sizes": torch.tensor([5, M - 5])},
    "JumpReluAutoEncoder": plain() | {"threshold": torch.linspace(-1, 3, M)},
}


def autoencoder(t: Tensors) -> Tensor:
    """The library makes decoder columns unit on loading; the features take their norms."""
    return ((X_BD - t["bias"]) @ t["encoder.weight"].T + t["encoder.bias"]).relu() * t["decoder.weight"].norm(dim=0)


def autoencoder_decoded(t: Tensors, f: Tensor) -> Tensor:
    return f @ (t["decoder.weight"] / t["decoder.weight"].norm(dim=0)).T + t["bias"]


def gated(t: Tensors) -> Tensor:
    u = (X_BD - t["decoder_bias"]) @ t["encoder.weight"].T
    return (u + t["gate_bias"] > 0).float() * (t["r_mag"].exp() * u + t["mag_bias"]).relu()


def centred(t: Tensors) -> Tensor:
    return ((X_BD - t["b_dec"]) @ t["encoder.weight"].T + t["encoder.bias"]).relu()


def topk(t: Tensors) -> Tensor:
    f = centred(t)
    kept = f.topk(K, dim=-1)
    return torch.zeros_like(f).scatter(-1, kept.indices, kept.values)


def batch_topk(t: Tensors) -> Tensor:
    f = centred(t)
    return f * (f > t["threshold"])


def matryoshka(t: Tensors) -> Tensor:
    f = ((X_BD - t["b_dec"]) @ t["W_enc"] + t["b_enc"]).relu()
    return f * (f > t["threshold"])


def jumprelu(t: Tensors) -> Tensor:
    pre = X_BD @ t["W_enc"] + t["b_enc"]
    return (pre * (pre > t["threshold"])).relu()


def decoded_by(weight: str, bias: str, transposed: bool) -> Callable[[Tensors, Tensor], Tensor]:
    return lambda t, f: f @ (t[weight].T if transposed else t[weight]) + t[bias]


FORWARD: dict[str, tuple[Callable[[Tensors], Tensor], Callable[[Tensors, Tensor], Tensor]]] = {
    "AutoEncoder": (autoencoder, autoencoder_decoded),
    "AutoEncoderNew": (
        lambda t: (X_BD @ t["encoder.weight"].T + t["encoder.bias"]).relu(),
        decoded_by("decoder.weight", "decoder.bias", True),
    ),
    "GatedAutoEncoder": (gated, decoded_by("decoder.weight", "decoder_bias", True)),
    "AutoEncoderTopK": (topk, decoded_by("decoder.weight", "b_dec", True)),
    "BatchTopKSAE": (batch_topk, decoded_by("decoder.weight", "b_dec", True)),
    "MatryoshkaBatchTopKSAE": (matryoshka, decoded_by("W_dec", "b_dec", False)),
    "JumpReluAutoEncoder": (jumprelu, decoded_by("W_dec", "b_dec", False)),
}


def write(folder: Path, name: str, tensors: dict[str, Any], **trainer: Any) -> Path:
    folder.mkdir()
    about = {"dict_class": name, "activation_dim": D, "dict_size": M, "k": K, "layer": 3, "lm_name": "EleutherAI/p"}
    about |= {"submodule_name": "resid_post_layer_3"} | trainer
    (folder / "config.json").write_text(json.dumps({"trainer": about, "buffer": {"io": "out", "ctx_len": 128}}))
    torch.save(tensors, folder / "ae.pt")
    return folder


@pytest.mark.parametrize("name", TENSORS)
def test_each_class_by_its_formula(name: str, tmp_path: Path) -> None:
    loaded = formats.load(write(tmp_path / "d", name, TENSORS[name]))
    encode, decode = FORWARD[name]
    expected_BF = encode(TENSORS[name])
    assert 0 < int((expected_BF > 0).sum()) < expected_BF.numel()
    torch.testing.assert_close(loaded.encode(X_BD), expected_BF, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(loaded.decode(expected_BF), decode(TENSORS[name], expected_BF), atol=1e-5, rtol=1e-5)
    selected_S = torch.tensor([7, 0, 12])
    torch.testing.assert_close(loaded.encoder(selected_S)(X_BD), expected_BF[:, selected_S], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", TENSORS)
def test_each_class_survives_our_format(name: str, tmp_path: Path) -> None:
    loaded = formats.load(write(tmp_path / "d", name, TENSORS[name]))
    formats.save(loaded, tmp_path / "ours")
    again = formats.load(tmp_path / "ours")
    # The tensors are the same bits; products of them are not on every processor, as one is read as a transposed view.
    for part in ("W_enc_DF", "W_dec_FD"):
        assert torch.equal(getattr(again, part), getattr(loaded, part))
    torch.testing.assert_close(again.reconstruct(X_BD), loaded.reconstruct(X_BD))
    assert again.metadata["dictionary_learning"]["dict_class"] == name


@pytest.mark.parametrize("name", TENSORS)
def test_the_library_itself(name: str, tmp_path: Path) -> None:
    """As the library's own `load_dictionary` reads the same folder: encode and decode agree to 1e-5."""
    utils = library("dictionary_learning.utils", "dictionary-learning")
    folder = write(tmp_path / "d", name, TENSORS[name])
    theirs, ours = utils.load_dictionary(str(folder), "cpu")[0], formats.load(folder)
    with torch.no_grad():
        features_BF = theirs.encode(X_BD)
        torch.testing.assert_close(ours.encode(X_BD), features_BF, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(ours.decode(features_BF), theirs.decode(features_BF), atol=1e-5, rtol=1e-5)


def test_header_is_read_from_the_config_alone(tmp_path: Path) -> None:
    folder = write(tmp_path / "trainer_0", "AutoEncoder", {})
    (folder / "ae.pt").write_bytes(b"torn")
    header = formats.peek(folder / "ae.pt")
    assert (header.name, header.d_in, header.n_features) == ("trainer_0", D, M)
    assert (header.hook_point, header.model) == ("blocks.3.hook_resid_post", "EleutherAI/p")
    other = write(tmp_path / "trainer_1", "AutoEncoder", {}, submodule_name=None, lm_name="")
    assert (formats.peek(other).hook_point, formats.peek(other).model) == (None, None)
    with pytest.raises(UserError, match=r"cannot read .*ae\.pt: not a file of PyTorch"):
        formats.load(folder)
    about = json.loads((folder / "config.json").read_text()) | {"buffer": {"io": "in"}}
    (folder / "config.json").write_text(json.dumps(about))  # what goes into the module is not the block's output
    assert formats.peek(folder).hook_point is None


def test_topk_keeps_k(tmp_path: Path) -> None:
    tensors = TENSORS["AutoEncoderTopK"] | {"encoder.bias": torch.full((M,), 100.0)}
    loaded = formats.load(write(tmp_path / "d", "AutoEncoderTopK", tensors))
    assert ((loaded.encode(X_BD) > 0).sum(1) == K).all()


def test_a_threshold_never_set_lets_every_positive_value_through(tmp_path: Path) -> None:
    tensors = TENSORS["BatchTopKSAE"] | {"threshold": torch.tensor(-1.0)}
    loaded = formats.load(write(tmp_path / "d", "BatchTopKSAE", tensors))
    torch.testing.assert_close(loaded.encode(X_BD), centred(tensors))


def test_a_unit_decoder_is_left_as_it_is_and_a_dead_row_stays_zero(tmp_path: Path) -> None:
    t = TENSORS["AutoEncoder"]
    unit = t["decoder.weight"] / t["decoder.weight"].norm(dim=0)
    loaded = formats.load(write(tmp_path / "unit", "AutoEncoder", t | {"decoder.weight": unit}))
    assert torch.equal(loaded.W_enc_DF, t["encoder.weight"].T)
    unit[:, 2] = 0
    loaded = formats.load(write(tmp_path / "dead", "AutoEncoder", t | {"decoder.weight": unit}))
    assert torch.isfinite(loaded.encode(X_BD)).all()


def test_an_interrupted_run_keeps_its_state_under_ae(tmp_path: Path) -> None:
    t = TENSORS["AutoEncoderTopK"]
    loaded = formats.load(write(tmp_path / "d", "AutoEncoderTopK", {"ae": t, "optimizer": {"state": {}}, "step": 7}))
    torch.testing.assert_close(loaded.encode(X_BD), topk(t), atol=1e-5, rtol=1e-5)


def test_a_checkpoint_is_read_by_its_file(tmp_path: Path) -> None:
    """`checkpoints/ae_STEP.pt` with the config of the folder above; the final weights are others."""
    folder = write(tmp_path / "trainer_0", "AutoEncoderTopK", TENSORS["AutoEncoderTopK"])
    path = folder / "checkpoints" / "ae_1000.pt"
    path.parent.mkdir()
    earlier = TENSORS["AutoEncoderTopK"] | {"encoder.weight": torch.randn(M, D)}
    torch.save(earlier, path)
    header, loaded = formats.peek(path), formats.load(path)
    assert header.name == loaded.name == "trainer_0-ae_1000"
    assert (header.d_in, header.n_features, loaded.hook_point) == (D, M, "blocks.3.hook_resid_post")
    torch.testing.assert_close(loaded.encode(X_BD), topk(earlier), atol=1e-5, rtol=1e-5)
    assert formats.recognise(path)[:2] == (path, formats.FORMATS.get("dictionary_learning"))
    torch.save(earlier | {"b_dec": torch.zeros(D + 1)}, path)
    with pytest.raises(UserError, match=r"ae_1000\.pt: b_dec has shape \[7\], expected \[6\]"):
        formats.load(path)


def test_a_checkpoint_without_its_config_is_refused(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    torch.save(TENSORS["AutoEncoder"], tmp_path / "checkpoints" / "ae_500.pt")
    with pytest.raises(UserError, match=r"ae_500\.pt: a checkpoint of dictionary_learning needs its config\.json"):
        formats.load(tmp_path / "checkpoints" / "ae_500.pt")


def test_half_precision_is_read_as_single(tmp_path: Path) -> None:
    halves = {name: tensor.bfloat16() for name, tensor in TENSORS["JumpReluAutoEncoder"].items()}
    loaded = formats.load(write(tmp_path / "d", "JumpReluAutoEncoder", halves))
    assert loaded.encode(X_BD).dtype == torch.float32


@pytest.mark.parametrize("name", TENSORS)
def test_every_tensor_is_checked(name: str, tmp_path: Path) -> None:
    """Each tensor the forward needs, missing or of another shape, is refused by its own name."""
    unneeded = {"group_sizes"} | ({"threshold"} if name == "AutoEncoderTopK" else set())
    unneeded |= {"k"} if name in ("BatchTopKSAE", "MatryoshkaBatchTopKSAE") else set()
    for wrong in TENSORS[name].keys() - unneeded:
        folder = write(tmp_path / f"missing_{wrong}", name, {k: v for k, v in TENSORS[name].items() if k != wrong})
        with pytest.raises(UserError, match=f"ae.pt lacks '{wrong}'"):
            formats.load(folder)
        folder = write(tmp_path / f"shape_{wrong}", name, TENSORS[name] | {wrong: torch.zeros(3, 1, 2)})
        shape = ", ".join(str(size) for size in TENSORS[name][wrong].shape)
        with pytest.raises(UserError, match=rf"ae.pt: {wrong} has shape \[3, 1, 2\], expected \[{shape}\]"):
            formats.load(folder)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"trainer": {"dict_class": "IdentityDict"}},
            "'IdentityDict' is not supported \\(AutoEncoder, AutoEncoderNew, ",
        ),
        ({"trainer": {"dict_class": ["AutoEncoder"]}}, "'dict_class' is a list, expected a text"),
        ({"trainer": {}}, "lacks 'dict_class'"),
        ({"trainer": "AutoEncoder"}, "'trainer' is 'AutoEncoder', expected a mapping"),
        ({}, "lacks 'trainer'"),
        ({"trainer": {"dict_class": "AutoEncoder", "dict_size": M}}, "lacks 'activation_dim'"),
        ({"trainer": {"dict_class": "AutoEncoder"}, "buffer": {"io": "in_and_out"}}, "transcoders of this library"),
    ],
)
def test_configs_that_do_not_fit_are_refused(config: dict[str, Any], message: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    torch.save(TENSORS["AutoEncoder"], tmp_path / "ae.pt")
    for read in (formats.peek, formats.load):
        with pytest.raises(UserError, match=message):
            read(tmp_path)


def test_k_must_agree_and_fit(tmp_path: Path) -> None:
    tensors = TENSORS["AutoEncoderTopK"]
    with pytest.raises(UserError, match=r"k is 4, but config\.json says 5"):
        formats.load(write(tmp_path / "other", "AutoEncoderTopK", tensors, k=5))
    tensors = tensors | {"k": torch.tensor(M + 1)}
    with pytest.raises(UserError, match=f"k is {M + 1}, expected 1 to {M}"):
        formats.load(write(tmp_path / "large", "AutoEncoderTopK", tensors, k=M + 1))


class Smuggled:
    """What only unpickling could bring back."""


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    folder = write(tmp_path / "d", "AutoEncoder", TENSORS["AutoEncoder"] | {"bias": Smuggled()})
    with pytest.raises(UserError, match="as plain tensors") as caught:
        formats.load(folder)
    assert "\n" not in str(caught.value)


def test_weights_without_a_config_are_refused(tmp_path: Path) -> None:
    torch.save(TENSORS["AutoEncoder"], tmp_path / "ae.pt")
    with pytest.raises(UserError, match=r"config\.json"):
        formats.peek(tmp_path)
