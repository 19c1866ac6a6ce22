"""Dictionaries on disk: ours round-trips, SAELens' is read as that library computes, what does not fit is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sae import formats
from sae.dictionary import JumpReLU
from sae.errors import UserError
from tests.sae.test_dictionary import ACTIVATIONS, D, M, random_dictionary

G = torch.Generator().manual_seed(3)
X_BD = torch.randn(40, D, generator=G) * 2 + 0.5


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda a: a.name)
def test_our_format_round_trips(activation: object, tmp_path: Path) -> None:
    saved = random_dictionary(activation, normalisation="layer_norm", subtract_b_dec=False, hook_point="h", model="m")
    formats.save(saved, tmp_path / "d")
    loaded = formats.load(tmp_path / "d")
    assert torch.equal(loaded.encode(X_BD), saved.encode(X_BD))
    assert torch.equal(loaded.reconstruct(X_BD), saved.reconstruct(X_BD))
    assert (loaded.name, loaded.kind, loaded.hook_point, loaded.model) == ("d", "sae", "h", "m")
    with pytest.raises(UserError, match="already there"):
        formats.save(saved, tmp_path / "d")


@pytest.mark.parametrize("name", ["W_enc", "b_enc", "W_dec", "b_dec", "threshold"])
def test_every_tensor_of_ours_is_checked(name: str, tmp_path: Path) -> None:
    formats.save(random_dictionary(JumpReLU(torch.zeros(M))), tmp_path / "d")
    path = tmp_path / "d" / "dictionary.safetensors"
    tensors = load_file(path)
    save_file({key: tensor.clone() for key, tensor in tensors.items() if key != name}, path)
    with pytest.raises(UserError, match=rf"dictionary\.safetensors lacks '{name}'"):
        formats.load(tmp_path / "d")
    save_file(tensors | {name: torch.zeros(2, 1)}, path)
    shape = ", ".join(str(size) for size in tensors[name].shape)
    with pytest.raises(UserError, match=rf"safetensors: {name} has shape \[2, 1\], expected \[{shape}\]"):
        formats.load(tmp_path / "d")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format_version": 9}, "has format version 9; this code reads 1"),
        ({"kind": "sea"}, "kind is 'sea'; did you mean sae"),
        ({"normalisation": "layernorm"}, "normalisation is 'layernorm'; did you mean layer_norm"),
        ({"activation": {"name": "tanh"}}, "activation 'tanh' is not known"),
        ({"activation": {"name": "topk", "k": 0}}, "k is 0, expected 1 to 20"),
        ({"activation": {"name": "topk", "k": "four"}}, "k is four, expected 1 to 20"),
        ({"activation": {"name": "topk"}}, r"dictionary\.json lacks 'k'"),
        ({"n_features": M + 1}, r"W_enc has shape \[6, 20\], expected \[6, 21\]"),
    ],
)
def test_our_json_is_checked(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    formats.save(random_dictionary(), tmp_path / "d")
    about = tmp_path / "d" / "dictionary.json"
    about.write_text(json.dumps(json.loads(about.read_text()) | changes))
    with pytest.raises(UserError, match=said):
        formats.load(tmp_path / "d")


def test_metadata_of_ours_are_kept_and_peeked_at(tmp_path: Path) -> None:
    metadata = {"prepend_bos": True, "processing": {"fold_ln": True}, "note": ["free", {"form": None}]}
    formats.save(random_dictionary(metadata=metadata), tmp_path / "d")
    assert formats.load(tmp_path / "d").metadata == metadata
    header = formats.peek(tmp_path / "d")
    assert (header.prepend_bos, header.processing) == (True, {"fold_ln": True})


def test_a_dictionary_is_converted_with_what_its_header_says(tmp_path: Path) -> None:
    config = {"architecture": "standard", "metadata": METADATA}
    source = write_saelens(tmp_path / "gpt2-res", config, saelens_tensors("b_enc"))
    converted = formats.convert(source, tmp_path / "d")
    again = formats.load(tmp_path / "d")
    assert torch.equal(again.encode(X_BD), formats.load(source).encode(X_BD))
    assert again.metadata == converted.metadata
    assert (again.name, again.metadata["converted_from"]) == ("gpt2-res", "gpt2-res (saelens)")
    before, after = formats.peek(source), formats.peek(tmp_path / "d")
    assert (after.prepend_bos, after.processing) == (before.prepend_bos, before.processing)
    assert (after.hook_point, after.model) == (before.hook_point, before.model)
    with pytest.raises(UserError, match="already there"):
        formats.convert(source, tmp_path / "d")
    with pytest.raises(UserError, match=r"cannot save as 'sealens'; did you mean saelens\?"):
        formats.convert(source, tmp_path / "e", format="sealens")
    assert not (tmp_path / "e").exists()


def saelens_tensors(*names: str) -> dict[str, torch.Tensor]:
    shapes = {"W_enc": (D, M), "W_dec": (M, D), "b_dec": (D,)}
    generator = torch.Generator().manual_seed(4)
    return {
        name: torch.randn(shapes.get(name, (M,)), generator=generator) for name in ("W_enc", "W_dec", "b_dec", *names)
    }


def write_saelens(folder: Path, config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Path:
    folder.mkdir()
    base = {"d_in": D, "d_sae": M, "dtype": "float32", "device": "cpu"}
    (folder / "cfg.json").write_text(json.dumps(base | config))
    save_file(tensors, folder / "sae_weights.safetensors")
    return folder


METADATA = {
    "model_name": "gpt2-small",
    "hook_name": "blocks.8.hook_resid_pre",
    "prepend_bos": True,
    "model_from_pretrained_kwargs": {"center_writing_weights": True},
}


def test_saelens_standard_by_its_formula(tmp_path: Path) -> None:
    t = saelens_tensors("b_enc")
    config = {"architecture": "standard", "apply_b_dec_to_input": True, "metadata": METADATA}
    loaded = formats.load(write_saelens(tmp_path / "s", config, t))
    expected = ((X_BD - t["b_dec"]) @ t["W_enc"] + t["b_enc"]).relu()
    torch.testing.assert_close(loaded.encode(X_BD), expected)
    torch.testing.assert_close(loaded.decode(expected), expected @ t["W_dec"] + t["b_dec"])
    header = formats.peek(tmp_path / "s" / "cfg.json")
    assert (header.hook_point, header.model, header.prepend_bos) == ("blocks.8.hook_resid_pre", "gpt2-small", True)
    assert header.processing["center_writing_weights"] is True
    assert header.processing["fold_ln"] is False


def test_saelens_before_version_6_is_flat(tmp_path: Path) -> None:
    t = saelens_tensors("b_enc") | {"scaling_factor": torch.ones(M)}
    config = {
        "hook_point": "blocks.3.hook_mlp_out",
        "model_name": "pythia",
        "activation_fn_str": "topk",
        "activation_fn_kwargs": {"k": 3},
        "normalize_activations": True,
    }
    loaded = formats.load(write_saelens(tmp_path / "s", config, t))
    assert int((loaded.encode(X_BD) > 0).sum(1).max()) == 3
    assert loaded.hook_point == "blocks.3.hook_mlp_out"


@pytest.mark.parametrize(
    ("config", "changes", "said"),
    [
        (
            {"architecture": "standard"},
            {"W_enc": torch.zeros(D + 1, M)},
            r"W_enc has shape \[7, 20\], expected \[6, 20\]",
        ),
        ({"architecture": "standard"}, {"scaling_factor": torch.full((M,), 2.0)}, "scaling_factor is not all ones"),
        ({"architecture": "skip_transcoder"}, {}, "'skip_transcoder' is not supported"),
        ({"architecture": "standard", "normalize_activations": "whiten"}, {}, "'whiten' is not supported"),
        ({"architecture": "jumprelu"}, {}, "lacks 'threshold'"),
        ({"architecture": "topk"}, {}, "lacks 'k'"),
    ],
)
def test_saelens_files_that_do_not_fit_are_refused(
    config: dict[str, Any], changes: dict[str, torch.Tensor], said: str, tmp_path: Path
) -> None:
    folder = write_saelens(tmp_path / "s", config | {"metadata": {}}, saelens_tensors("b_enc") | changes)
    with pytest.raises(UserError, match=said):
        formats.load(folder)


FILES = {
    "own": ["dictionary.json", "dictionary.safetensors"],
    "saelens": ["cfg.json", "sae_weights.safetensors"],
    "sparsify": ["cfg.json", "sae.safetensors"],
    "dictionary_learning": ["config.json", "ae.pt"],
    "gemma_scope": ["params.npz"],
}


@pytest.mark.parametrize("module", FILES)
def test_formats_are_not_confused(module: str, tmp_path: Path) -> None:
    """A folder is recognised by its own files, whichever of them is given."""
    for name in FILES[module]:
        (tmp_path / name).touch()
    for given in (tmp_path, *(tmp_path / name for name in FILES[module])):
        assert formats.recognise(given) == (tmp_path, module)


def test_a_single_pytorch_file_is_openais(tmp_path: Path) -> None:
    (tmp_path / "6.pt").touch()
    assert formats.recognise(tmp_path / "6.pt") == (tmp_path / "6.pt", "openai")
    with pytest.raises(UserError, match=r"a file LAYER\.pt"):
        formats.recognise(tmp_path)


@pytest.mark.parametrize(
    ("name", "place", "module"),
    [
        ("learned_dicts.pt", "learned_dicts.pt", "sparse_coding"),
        ("learned_dicts.pt", "learned_dicts.pt#3", "sparse_coding"),
        ("learned_dicts.pt", "", "sparse_coding"),
        ("any.pt", "any.pt#0", "sparse_coding"),
        ("ae_1000.pt", "ae_1000.pt", "dictionary_learning"),
        ("any.pt#0", "any.pt#0", None),
    ],
)
def test_files_are_recognised_by_their_names(name: str, place: str, module: str | None, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    if module is None:
        with pytest.raises(UserError, match="not a format known here"):
            formats.recognise(tmp_path / place)
    else:
        assert formats.recognise(tmp_path / place) == (tmp_path / name, module)


def test_a_file_of_another_library_is_refused(tmp_path: Path) -> None:
    torch.save({"encoder.weight": torch.zeros(M, D), "bias": torch.zeros(D)}, tmp_path / "another.pt")
    with pytest.raises(UserError, match="lacks 'pre_bias'; it may be incomplete or of another library"):
        formats.load(tmp_path / "another.pt")


def test_what_is_no_dictionary_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file or folder"):
        formats.peek(tmp_path / "absent")
    with pytest.raises(UserError, match="not a format known here"):
        formats.peek(tmp_path)
    (tmp_path / "cfg.json").write_text("{}")
    with pytest.raises(UserError, match=r"no sae_weights\.safetensors"):
        formats.peek(tmp_path)
    formats.save(random_dictionary(), tmp_path / "d")
    (tmp_path / "d" / "dictionary.safetensors").write_bytes(b"torn")
    with pytest.raises(UserError, match="cannot read"):
        formats.load(tmp_path / "d")


SAELENS_CONFIGS = [
    ("StandardSAE", {"normalize_activations": "layer_norm"}),
    ("StandardSAE", {"apply_b_dec_to_input": False, "normalize_activations": "constant_norm_rescale"}),
    ("TopKSAE", {"k": 4}),
    ("TopKSAE", {"k": 4, "rescale_acts_by_decoder_norm": True}),
    ("JumpReLUSAE", {}),
    ("GatedSAE", {}),
]


@pytest.mark.parametrize(("name", "options"), SAELENS_CONFIGS, ids=str)
def test_the_library_itself(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    """Saved by SAELens with random weights, read here: encode and decode agree to 1e-5 (extra `peers`)."""
    saes = pytest.importorskip("sae_lens.saes")
    config = getattr(saes, f"{name}Config")(d_in=D, d_sae=M, **options)
    theirs = getattr(saes, name)(config)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    theirs.save_model(tmp_path / "sae")
    ours = formats.load(tmp_path / "sae")
    with torch.no_grad():
        features_BF = theirs.encode(X_BD)
        torch.testing.assert_close(ours.encode(X_BD), features_BF, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(ours.decode(features_BF, X_BD), theirs.decode(features_BF), atol=1e-5, rtol=1e-5)
