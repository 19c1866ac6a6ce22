"""Checks dictionaries on disk: ours round-trips, formats are recognised, what does not fit is refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from sae import formats
from sae.cli import main
from sae.common.errors import UserError
from sae.dictionary import Dictionary, JumpReLU
from sae.formats.cross_layer import Layer, joined
from sae.formats.header import Header
from tests.sae.test_dictionary import ACTIVATIONS, D, M, random_dictionary
from tests.test_layers import loaded_by

G = torch.Generator().manual_seed(3)
X_BD = torch.randn(40, D, generator=G) * 2 + 0.5


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda a: a.name)
def test_our_format_round_trips(activation: object, tmp_path: Path) -> None:
    saved = random_dictionary(activation, normalisation="layer_norm", subtract_b_dec=False, model="m").at("h")
    formats.save(saved, tmp_path / "d")
    loaded = formats.load(tmp_path / "d")
    assert torch.equal(loaded.encode(X_BD), saved.encode(X_BD))
    assert torch.equal(loaded.reconstruct(X_BD), saved.reconstruct(X_BD))
    assert (loaded.name, loaded.kind, loaded.reads, loaded.writes, loaded.model) == ("d", "sae", ("h",), ("h",), "m")
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
    ("changes", "message"),
    [
        ({"format_version": 9}, "has format version 9; this code reads 1, 2, 3"),
        ({"kind": "sea"}, "kind is 'sea'; did you mean sae"),
        ({"normalisation": "layernorm"}, "normalisation is 'layernorm'; did you mean layer_norm"),
        ({"activation": {"name": "tanh"}}, "activation 'tanh' is not known"),
        ({"activation": {"name": "topk", "k": 0}}, "k is 0, expected 1 to 20"),
        ({"activation": {"name": "topk", "k": "four"}}, "k is 'four', expected 1 to 20"),
        ({"activation": {"name": "topk"}}, r"dictionary\.json lacks 'k'"),
        ({"n_features": M + 1}, r"W_enc has shape \[6, 20\], expected \[6, 21\]"),
    ],
)
def test_our_json_is_checked(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    formats.save(random_dictionary(), tmp_path / "d")
    about = tmp_path / "d" / "dictionary.json"
    about.write_text(json.dumps(json.loads(about.read_text()) | changes))
    with pytest.raises(UserError, match=message):
        formats.load(tmp_path / "d")


def test_metadata_of_ours_are_kept_and_peeked_at(tmp_path: Path) -> None:
    metadata = {"prepend_bos": True, "processing": {"fold_ln": True}, "note": ["free", {"form": None}]}
    formats.save(random_dictionary(metadata=metadata), tmp_path / "d")
    assert formats.load(tmp_path / "d").metadata == metadata
    header = formats.peek(tmp_path / "d")
    assert (header.prepend_bos, header.processing) == (True, {"fold_ln": True})


def test_conversion_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    source = tmp_path / "s"
    formats.save(random_dictionary(), source)
    (source / "dictionary.safetensors").write_bytes(b"torn")
    with pytest.raises(UserError, match="already there"):
        formats.convert(source, source)
    with pytest.raises(UserError, match="cannot save in the format 'onw'; did you mean own"):
        formats.convert(source, tmp_path / "e", format="onw")
    with pytest.raises(UserError, match="cannot read"):
        formats.convert(source, tmp_path / "e")


def library(module: str, package: str) -> Any:
    """A library to compare with; none is among the tests' own requirements."""
    again = f"to run this: .venv/bin/pip install {package}, then .venv/bin/pytest tests/sae -k itself"
    return pytest.importorskip(module, reason=f"compares with {package}, which is not installed; {again}")


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
        assert formats.recognise(given) == (tmp_path, formats.FORMATS.get(module), None)


def test_a_single_pytorch_file_is_openais(tmp_path: Path) -> None:
    (tmp_path / "6.pt").touch()
    assert formats.recognise(tmp_path / "6.pt") == (tmp_path / "6.pt", formats.FORMATS.get("openai"), None)
    with pytest.raises(
        UserError,
        match=r"not in a known format; known: own \(a folder with dictionary\.json.*openai \(a file LAYER\.pt\)",
    ):
        formats.recognise(tmp_path)


@pytest.mark.parametrize(
    ("name", "subpath", "module"),
    [
        ("learned_dicts.pt", "learned_dicts.pt", "sparse_coding"),
        ("learned_dicts.pt", "learned_dicts.pt#3", "sparse_coding"),
        ("learned_dicts.pt", "", "sparse_coding"),
        ("any.pt", "any.pt#0", "sparse_coding"),
        ("ae_1000.pt", "ae_1000.pt", "dictionary_learning"),
        ("any.pt#0", "any.pt#0", None),
        ("ae.pt", "ae.pt#0", "sparse_coding"),
    ],
)
def test_files_are_recognised_by_their_names(name: str, subpath: str, module: str | None, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    if module is None:
        with pytest.raises(UserError, match="not in a known format"):
            formats.recognise(tmp_path / subpath)
    else:
        location = formats.recognise(tmp_path / subpath)
        assert (location.path, location.format.name) == (tmp_path / name, module)


def test_a_file_of_another_library_is_refused(tmp_path: Path) -> None:
    torch.save({"encoder.weight": torch.zeros(M, D), "bias": torch.zeros(D)}, tmp_path / "another.pt")
    with pytest.raises(UserError, match="lacks 'pre_bias'; it may be incomplete or of another library"):
        formats.load(tmp_path / "another.pt")


def test_what_is_no_dictionary_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file or folder"):
        formats.peek(tmp_path / "absent")
    with pytest.raises(UserError, match="not in a known format"):
        formats.peek(tmp_path)
    (tmp_path / "cfg.json").write_text("{}")
    with pytest.raises(UserError, match=r"no sae_weights\.safetensors"):
        formats.peek(tmp_path)
    formats.save(random_dictionary(), tmp_path / "d")
    (tmp_path / "d" / "dictionary.safetensors").write_bytes(b"torn")
    with pytest.raises(UserError, match="cannot read"):
        formats.load(tmp_path / "d")


def test_a_file_without_entries_has_none(tmp_path: Path) -> None:
    formats.save(random_dictionary(), tmp_path / "d")
    with pytest.raises(UserError, match=r"dictionary\.json has no numbered entries; leave out #3"):
        formats.load(f"{tmp_path}/d/dictionary.json#3")


def test_what_is_only_read_cannot_be_written(tmp_path: Path) -> None:
    assert formats.writable() == ("own", "saelens")
    with pytest.raises(UserError, match="cannot save in the format 'openai'; known: own, saelens"):
        formats.save(random_dictionary(), tmp_path / "d", "openai")


def test_a_foreign_format_is_recognised_after_ours_and_before_openais(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def peek(path: Path) -> formats.Header:
        return formats.peek(path.parent / "ours")

    def load(path: Path) -> Dictionary:
        return formats.load(path.parent / "ours")

    foreign = formats.Format("foreign", "a file N.foreign.pt", peek, load, file_names=r"\d+\.foreign\.pt")
    monkeypatch.setitem(formats.FORMATS._parts, "foreign", foreign)
    formats.save(random_dictionary(), tmp_path / "ours")
    for name in ("1.foreign.pt", "learned_dicts_1.foreign.pt", "a.foreign.pt"):
        (tmp_path / name).touch()
    assert formats.recognise(tmp_path / "1.foreign.pt") == (tmp_path / "1.foreign.pt", foreign, None)
    assert formats.recognise(tmp_path / "learned_dicts_1.foreign.pt").format.name == "sparse_coding"
    assert formats.recognise(tmp_path / "a.foreign.pt").format.name == "openai"
    formats.convert(tmp_path / "1.foreign.pt", tmp_path / "converted")
    assert formats.load(tmp_path / "converted").metadata["converted_from"] == "1.foreign.pt (foreign)"
    with pytest.raises(UserError, match=r"foreign \(a file N\.foreign\.pt\)"):
        formats.recognise(tmp_path)


def test_the_formats_are_known_without_torch() -> None:
    assert loaded_by("from sae.formats import FORMATS, writable\nFORMATS.all(), writable()", {"torch", "numpy"}) == "[]"


def test_the_help_of_convert_names_every_format() -> None:
    shown = CliRunner().invoke(main, ["convert", "--help"]).output
    for name, each in formats.FORMATS.all().items():
        described = f"{each.files}; read{' and written' if each.save else ''}"
        assert f"{name} {described}" in " ".join(shown.split())


def test_version_1_of_ours_names_one_hook_point(tmp_path: Path) -> None:
    formats.save(random_dictionary(), tmp_path / "d")
    path = tmp_path / "d" / "dictionary.json"
    about = json.loads(path.read_text())
    del about["reads"], about["writes"]
    for hook_point, expected in (("blocks.0.mlp.hook_post", ("blocks.0.mlp.hook_post",)), (None, ())):
        path.write_text(json.dumps(about | {"format_version": 1, "hook_point": hook_point}))
        for read in (formats.peek(tmp_path / "d"), formats.load(tmp_path / "d")):
            assert (read.reads, read.writes, read.hook_point) == (expected, expected, hook_point)


def test_several_hook_points_are_kept_and_have_one_label(tmp_path: Path) -> None:
    across = replace(random_dictionary(), reads=("a", "b"), writes=("c",))
    formats.save(across, tmp_path / "d")
    for read in (formats.peek(tmp_path / "d"), formats.load(tmp_path / "d")):
        assert (read.reads, read.writes, read.hook_point) == (("a", "b"), ("c",), "a+b")
    with pytest.raises(UserError, match="dictionaries read and write one hook point"):
        formats.save(across, tmp_path / "e", "saelens")
    shown = CliRunner().invoke(main, ["info", str(tmp_path / "d")]).output
    assert [line.split()[0] for line in shown.splitlines() if line.split()[1:] in (["a,", "b"], ["c"])] == [
        "reads",
        "writes",
    ]


def test_a_scaled_transcoder_makes_of_x_what_it_made_of_more_of_it() -> None:
    skip_DE = torch.randn(D, D, generator=torch.Generator().manual_seed(5))
    made = random_dictionary(subtract_b_dec=False, W_skip_DE=skip_DE, reads=("a",), writes=("b",))
    expected = made.reconstruct(X_BD * 3) / 0.5
    changed = formats.Changes(input_scale=3, output_scale=0.5).applied(made)
    torch.testing.assert_close(changed.reconstruct(X_BD), expected, atol=1e-4, rtol=1e-5)
    autoencoder = random_dictionary()
    changed = formats.Changes(input_scale=3).applied(autoencoder)
    torch.testing.assert_close(changed.reconstruct(X_BD), autoencoder.reconstruct(X_BD * 3) / 3, atol=1e-4, rtol=1e-5)


def test_layers_alone_add_up_to_all_of_them() -> None:
    """Layer i of three writes all of them, and its skip and bias its own output, as Gemma Scope 2's do."""
    generator = torch.Generator().manual_seed(6)

    def layer(own: int) -> Layer:
        W_enc_DF, W_dec_FE, W_skip_DD = (torch.randn(s, generator=generator) for s in ((2, 5), (5, 6), (2, 2)))
        b_enc_F, b_dec_D, threshold_F = (torch.rand(n, generator=generator) for n in (5, 2, 5))
        return Layer(W_enc_DF, b_enc_F, W_dec_FE, b_dec_D, own, threshold_F, W_skip_DD)

    names, layers = ("a", "b", "c"), [layer(own) for own in range(3)]
    whole = joined(layers, Header("all", 6, 15, names, names, None), "")
    x_BD = torch.randn(9, 6, generator=generator)
    parts = [one.alone(Header("one", 2, 5, names[i : i + 1], names, None)) for i, one in enumerate(layers)]
    written = [part.reconstruct(x_BD[:, 2 * i : 2 * i + 2]) for i, part in enumerate(parts)]
    torch.testing.assert_close(whole.reconstruct(x_BD), torch.stack(written).sum(0), atol=1e-5, rtol=1e-5)
