"""SAELens' folders: read as that library computes, versions 6 and before; what does not fit is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from sae import formats
from sae.common.errors import UserError
from sae.dictionary import Dictionary
from tests.sae.test_dictionary import D, M
from tests.sae.test_formats import X_BD, library


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
        "normalize_activations": False,
    }
    loaded = formats.load(write_saelens(tmp_path / "s", config, t))
    assert int((loaded.encode(X_BD) > 0).sum(1).max()) == 3
    assert loaded.hook_point == "blocks.3.hook_mlp_out"


@pytest.mark.parametrize("config", [{"hook_point": "blocks.3.attn.hook_z"}, {"metadata": {}}], ids=["flat", "nested"])
def test_saelens_of_one_head_is_refused(config: dict[str, Any], tmp_path: Path) -> None:
    (config.get("metadata", config))["hook_head_index"] = 2
    folder = write_saelens(tmp_path / "s", config, saelens_tensors("b_enc"))
    with pytest.raises(UserError, match="it reads head 2 of its hook point alone"):
        formats.peek(folder)


FLAT = {"hook_point": "blocks.3.hook_mlp_out", "model_name": "gpt2-small"}
AVERAGED = {"normalize_activations": "expected_average_only_in"}


@pytest.mark.parametrize(
    "config", [FLAT | {"normalize_activations": True}, FLAT | AVERAGED, {"metadata": {}} | AVERAGED], ids=str
)
def test_saelens_factors_that_are_not_folded_are_refused(config: dict[str, Any], tmp_path: Path) -> None:
    """SAELens folds the average's factor when a training ends and says "none" from then on; a file has it nowhere."""
    folder = write_saelens(tmp_path / "s", {"architecture": "standard"} | config, saelens_tensors("b_enc"))
    for read in (formats.peek, formats.load):
        with pytest.raises(UserError, match=r"factor is not in the weights.*fold_activation_norm_scaling_factor") as e:
            read(folder)
        assert "\n" not in str(e.value)


CENTRED = {"center_writing_weights": True}


@pytest.mark.parametrize(
    ("config", "processing", "noted"),
    [
        (FLAT, None, True),
        (FLAT | {"model_from_pretrained_kwargs": None}, None, True),
        (FLAT | {"model_from_pretrained_kwargs": {"center_writing_weights": False}}, {}, False),
        (FLAT | {"model_from_pretrained_kwargs": CENTRED}, CENTRED, False),
        ({"metadata": {}}, None, True),
        ({"metadata": {"model_from_pretrained_kwargs": {}}}, {}, False),
        ({"metadata": {"model_from_pretrained_kwargs": CENTRED}}, CENTRED, False),
    ],
    ids=str,
)
def test_saelens_says_the_processing_or_is_noted(
    config: dict[str, Any], processing: dict[str, bool] | None, noted: bool, tmp_path: Path
) -> None:
    """And so do its copies in both formats: what was not said is not said to be none."""
    source = write_saelens(tmp_path / "s", {"architecture": "standard"} | config, saelens_tensors("b_enc"))
    formats.convert(source, tmp_path / "own")
    formats.convert(source, tmp_path / "saelens", format="saelens")
    for header in (formats.peek(tmp_path / name) for name in ("s", "own", "saelens")):
        on_flags = header.processing and {name: value for name, value in header.processing.items() if value}
        assert on_flags == processing
    notes = formats.peek(source).notes
    assert [note for note in notes if "model_from_pretrained_kwargs" in note and "\n" not in note] == list(notes)
    assert len(notes) == len(formats.peek(tmp_path / "saelens").notes) == noted
    written = json.loads((tmp_path / "saelens" / "cfg.json").read_text())["metadata"]["model_from_pretrained_kwargs"]
    assert isinstance(written, dict)  # the library unpacks it


@pytest.mark.parametrize(
    ("config", "changes", "message"),
    [
        (
            {"architecture": "standard"},
            {"W_enc": torch.zeros(D + 1, M)},
            r"W_enc has shape \[7, 20\], expected \[6, 20\]",
        ),
        ({"architecture": "standard"}, {"scaling_factor": torch.full((M,), 2.0)}, "scaling_factor is not all ones"),
        ({"architecture": "temporal", "n_heads": 4, "bottleneck_factor": 5}, {}, r"lacks 'attn_layers\.0\.q_target"),
        ({"architecture": "matching_pursuit", "max_iterations": 0}, {}, "'max_iterations' is 0"),
        ({"architecture": "matching_pursuit", "residual_threshold": "0"}, {}, "residual_threshold is '0'"),
        ({"architecture": "matching_pursuit", "residual_threshold": 10**400}, {}, "residual_threshold is a int"),
        ({"architecture": "matching_pursuit", "stop_on_duplicate_support": 1}, {}, "'stop_on_duplicate_support' is 1"),
        ({"architecture": "standard", "normalize_activations": "whiten"}, {}, "'whiten' is not supported"),
        ({"architecture": "jumprelu"}, {}, "lacks 'threshold'"),
        ({"architecture": "topk"}, {}, "lacks 'k'"),
    ],
)
def test_saelens_files_that_do_not_fit_are_refused(
    config: dict[str, Any], changes: dict[str, torch.Tensor], message: str, tmp_path: Path
) -> None:
    folder = write_saelens(tmp_path / "s", config | {"metadata": {}}, saelens_tensors("b_enc") | changes)
    with pytest.raises(UserError, match=message):
        formats.load(folder)


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
    with pytest.raises(UserError, match=r"cannot save in the format 'sealens'; did you mean saelens\?"):
        formats.convert(source, tmp_path / "e", format="sealens")
    assert not (tmp_path / "e").exists()


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
    theirs = saelens_random(name, options)
    theirs.save_model(tmp_path / "sae")
    agree(formats.load(tmp_path / "sae"), theirs)


def test_a_factor_folded_by_the_library_itself(tmp_path: Path) -> None:
    """What the refusal says to do leads to a file that is read, and as the library computes."""
    theirs = saelens_random("StandardSAE", AVERAGED)
    theirs.save_model(tmp_path / "sae")
    with pytest.raises(UserError, match="factor is not in the weights"):
        formats.load(tmp_path / "sae")
    loaded = library("sae_lens.saes", "sae-lens").SAE.load_from_disk(tmp_path / "sae")
    loaded.fold_activation_norm_scaling_factor(0.25)
    loaded.save_model(tmp_path / "folded")
    ours = formats.load(tmp_path / "folded")
    agree(ours, loaded)
    with torch.no_grad():
        torch.testing.assert_close(ours.encode(X_BD), theirs.encode(0.25 * X_BD), atol=1e-5, rtol=1e-5)


def saelens_random(name: str, options: dict[str, Any]) -> Any:
    saes = library("sae_lens.saes", "sae-lens")
    config = getattr(saes, f"{name}Config")(d_in=D, d_sae=M, **options)
    theirs = getattr(saes, name)(config)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return theirs


def agree(ours: Dictionary, theirs: Any) -> None:
    with torch.no_grad():
        features_BF = theirs.encode(X_BD)
        torch.testing.assert_close(ours.encode(X_BD), features_BF, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(ours.decode(features_BF, X_BD), theirs.decode(features_BF), atol=1e-5, rtol=1e-5)
