"""Saving as SAELens does: read back exactly by our loader and by the library itself; what it lacks is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sae import formats
from sae.common.errors import UserError
from sae.dictionary import Dictionary, Gated, GroupMax, JumpReLU, MatchingPursuit, ReLU, TopK
from tests.sae.test_dictionary import D, M, random_dictionary
from tests.sae.test_formats import X_BD, library

NORMS_F = random_dictionary().W_dec_FD.norm(dim=1)
GATED = Gated(torch.linspace(-2, 2, M), torch.linspace(-1, 1, M), torch.linspace(2, -2, M))
UNIT_FD = random_dictionary().W_dec_FD / NORMS_F[:, None]
PURSUIT = MatchingPursuit(UNIT_FD, 4, 0.5, stop_on_repeat=False)
NO_BIAS = {"b_enc_F": torch.zeros(M)}
CASES: list[tuple[str, dict[str, Any]]] = [
    ("standard", {"activation": ReLU()}),
    ("standard", {"activation": ReLU(), "subtract_b_dec": False}),
    ("standard", {"activation": ReLU(), "normalisation": "layer_norm"}),
    ("standard", {"activation": ReLU(), "normalisation": "constant_norm_rescale", "subtract_b_dec": False}),
    ("topk", {"activation": TopK(5)}),
    ("topk", {"activation": TopK(5, NORMS_F)}),
    ("jumprelu", {"activation": JumpReLU(torch.linspace(-1, 3, M))}),
    ("gated", {"activation": GATED} | NO_BIAS),
    ("matching_pursuit", {"activation": PURSUIT, "W_dec_FD": UNIT_FD, "W_enc_DF": UNIT_FD.T.contiguous()} | NO_BIAS),
]
SHAPES = {"W_enc": (D, M), "W_dec": (M, D), "b_dec": (D,)}
VECTORS = {
    "standard": {"b_enc"},
    "topk": {"b_enc"},
    "jumprelu": {"b_enc", "threshold"},
    "gated": {"b_gate", "r_mag", "b_mag"},
    "matching_pursuit": set[str](),
}
"""Of version 6, by architecture: the tensors beside the matrices, each [m]."""


def made(**changes: Any) -> Dictionary:
    return random_dictionary(model="gpt2", **changes).at("blocks.1.hook_resid_post")


@pytest.mark.parametrize(("architecture", "changes"), CASES)
def test_it_round_trips_exactly(architecture: str, changes: dict[str, Any], tmp_path: Path) -> None:
    saved = made(metadata={"prepend_bos": False, "note": 1}, kind="ica", **changes)
    formats.save(saved, tmp_path / "d", format="saelens")
    loaded = formats.load(tmp_path / "d")
    assert torch.equal(loaded.encode(X_BD), saved.encode(X_BD))
    assert torch.equal(loaded.reconstruct(X_BD), saved.reconstruct(X_BD))
    for name in ("name", "kind", "reads", "writes", "model", "subtract_b_dec", "normalisation"):
        assert getattr(loaded, name) == getattr(saved, name)
    assert type(loaded.activation) is type(saved.activation)
    assert {name: loaded.metadata[name] for name in ("prepend_bos", "note")} == saved.metadata
    assert formats.peek(tmp_path / "d").prepend_bos is False


@pytest.mark.parametrize(("architecture", "changes"), CASES)
def test_the_layout_is_version_6s(architecture: str, changes: dict[str, Any], tmp_path: Path) -> None:
    formats.save(made(**changes), tmp_path / "d", format="saelens")
    tensors = load_file(tmp_path / "d" / "sae_weights.safetensors")
    expected = {name: shape for name, shape in SHAPES.items() if name != "W_enc" or VECTORS[architecture]}
    expected |= dict.fromkeys(VECTORS[architecture], (M,))
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == expected
    config = json.loads((tmp_path / "d" / "cfg.json").read_text())
    assert (config["architecture"], config["d_in"], config["d_sae"]) == (architecture, D, M)
    assert config["apply_b_dec_to_input"] is changes.get("subtract_b_dec", True)
    assert config["normalize_activations"] == changes.get("normalisation", "none")
    assert config["metadata"]["sae_lens_version"].startswith("6.")
    assert (config["metadata"]["hook_name"], config["metadata"]["model_name"]) == ("blocks.1.hook_resid_post", "gpt2")


def test_what_it_was_read_with_is_kept(tmp_path: Path) -> None:
    """A SAELens folder read and saved again keeps the library's metadata; the flat layout is brought up to date."""
    formats.save(made(), tmp_path / "first", format="saelens")
    about = tmp_path / "first" / "cfg.json"
    config = json.loads(about.read_text())
    config["metadata"] |= {
        "context_size": 128,
        "sae_lens_version": "6.0.0",
        "model_from_pretrained_kwargs": {"fold_ln": True},
    }
    about.write_text(json.dumps(config))
    formats.convert(tmp_path / "first", tmp_path / "second", format="saelens")
    again = json.loads((tmp_path / "second" / "cfg.json").read_text())["metadata"]
    assert again["context_size"] == 128
    assert again["sae_dictionary"]["converted_from"] == "first (saelens)"
    assert formats.peek(tmp_path / "second").processing["fold_ln"] is True


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"activation": GroupMax(5)}, "SAELens has no activation like groupmax"),
        ({"activation": GATED}, r"a gated autoencoder of SAELens has no b_enc"),
        ({"activation": PURSUIT}, "picks decoder rows and subtracts b_dec"),
        (CASES[-1][1] | {"subtract_b_dec": False}, "picks decoder rows and subtracts b_dec"),
        ({"activation": TopK(5, 2 * NORMS_F)}, "scales pre-activations by the decoder's norms only"),
    ],
)
def test_what_it_cannot_express_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message) as caught:
        formats.save(made(**changes), tmp_path / "d", format="saelens")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_is_kept(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    with pytest.raises(UserError, match="already there"):
        formats.save(made(), tmp_path / "d", format="saelens")
    assert list((tmp_path / "d").iterdir()) == []


@pytest.mark.parametrize(("architecture", "changes"), CASES)
def test_saved_as_the_library_itself(architecture: str, changes: dict[str, Any], tmp_path: Path) -> None:
    """Loaded by SAELens (extra `peers`): encode and decode agree to 1e-5, and it names the same hook point."""
    saes = library("sae_lens.saes", "sae-lens")
    ours = made(metadata={"prepend_bos": True}, **changes)
    formats.save(ours, tmp_path / "d", format="saelens")
    theirs = saes.SAE.load_from_disk(tmp_path / "d")
    assert theirs.cfg.architecture() == architecture
    metadata = theirs.cfg.metadata
    assert (metadata.hook_name, metadata.model_name, metadata.prepend_bos) == (ours.hook_point, ours.model, True)
    with torch.no_grad():
        features_BF = theirs.encode(X_BD)
        torch.testing.assert_close(ours.encode(X_BD), features_BF, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(ours.decode(features_BF, X_BD), theirs.decode(features_BF), atol=1e-5, rtol=1e-5)


def test_heads_are_flattened_by_the_library_itself(tmp_path: Path) -> None:
    saes = library("sae_lens.saes", "sae-lens")
    ours = random_dictionary(model="gpt2").at("blocks.1.attn.hook_z")
    formats.save(ours, tmp_path / "d", format="saelens")
    theirs = saes.SAE.load_from_disk(tmp_path / "d")
    with torch.no_grad():
        theirs_BF = theirs.encode(X_BD.unflatten(-1, (2, 3)))
    torch.testing.assert_close(ours.encode(X_BD), theirs_BF, atol=1e-5, rtol=1e-5)


def test_what_we_added_is_read_under_its_former_name_too(tmp_path: Path) -> None:
    formats.save(made(metadata={"note": 1}, kind="ica"), tmp_path / "d", format="saelens")
    path = tmp_path / "d" / "cfg.json"
    config = json.loads(path.read_text())
    config["metadata"]["a former name"] = config["metadata"].pop("sae_dictionary")
    path.write_text(json.dumps(config))
    loaded = formats.load(tmp_path / "d")
    assert (loaded.kind, loaded.metadata["note"]) == ("ica", 1)
    assert "a former name" not in loaded.metadata["saelens"]["metadata"]
    assert formats.peek(tmp_path / "d").processing is None


def test_scales_of_single_dimensions_are_folded_into_the_weights(tmp_path: Path) -> None:
    scales = torch.linspace(0.2, 3, D), torch.linspace(2, 0.5, D)
    ours = random_dictionary(read_scale_D=scales[0], write_scale_E=scales[1])
    formats.save(ours, tmp_path / "d", format="saelens")
    loaded = formats.load(tmp_path / "d")
    assert (loaded.read_scale_D, loaded.write_scale_E) == (None, None)
    torch.testing.assert_close(loaded.encode(X_BD), ours.encode(X_BD), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(loaded.reconstruct(X_BD), ours.reconstruct(X_BD), atol=1e-4, rtol=1e-5)
