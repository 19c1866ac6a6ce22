"""Files that hold other things than their format says: each is refused in one line, whatever the format."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sae import formats
from sae.common.errors import UserError
from tests.sae import test_formats_dictionary_learning as learning
from tests.sae import test_formats_gemma_scope as gemma_scope
from tests.sae import test_formats_openai as openai
from tests.sae import test_formats_saelens as saelens
from tests.sae import test_formats_sparsify as sparsify
from tests.sae.test_dictionary import D, M, random_dictionary
from tests.sae.test_formats_sparse_coding import Make, make, save, tied, untied
from tests.test_layers import loaded_by

__all__ = ["make"]  # a fixture, which pytest finds by its name

Write = Callable[[Path], Path]


def refused(read: Callable[..., Any], path: str | Path, message: str | None = None, **options: Any) -> None:
    with pytest.raises(UserError, match=message) as caught:
        read(path, **options)
    assert "\n" not in str(caught.value)


def astray() -> Tensor:
    """A sparse tensor of the right shape whose only entry is far outside of it."""
    indices = torch.tensor([[10**9], [10**9]])
    return torch.sparse_coo_tensor(indices, torch.ones(1), (M, D), check_invariants=False)


def quantized() -> Tensor:
    return torch.quantize_per_tensor(torch.ones(M, D), 0.1, 0, torch.qint8)


ODD: dict[str, Callable[[], Tensor]] = {
    "layout torch.sparse_coo": astray,
    "layout torch.sparse_csr": lambda: torch.ones(M, D).to_sparse_csr(),
    "a quantized tensor": quantized,
    "a complex tensor": lambda: torch.ones(M, D, dtype=torch.complex64),
    "a tensor on meta": lambda: torch.ones(M, D, device="meta"),
    "a nested tensor": lambda: torch.nested.nested_tensor([torch.ones(D)] * M),
}


@pytest.mark.filterwarnings("ignore:.*:UserWarning", "ignore:.*:DeprecationWarning")  # of making such tensors
@pytest.mark.parametrize("kind", ODD)
def test_only_dense_real_tensors_are_touched(kind: str, make: Make, tmp_path: Path) -> None:
    """PyTorch's restricted unpickler gives the others back unchecked; out-of-range indices would reach native code."""
    message = rf"encoder.*{kind}, expected a dense tensor of real numbers"
    path = openai.write(tmp_path / "6.pt", **{"encoder.weight": ODD[kind]()})
    refused(formats.peek, path, message)
    refused(formats.load, path, message)
    state = learning.TENSORS["AutoEncoder"] | {"encoder.weight": ODD[kind]()}
    refused(formats.load, learning.write(tmp_path / "d", "AutoEncoder", state), message)
    refused(formats.load, learning.write(tmp_path / "e", "AutoEncoder", {"ae": state}), message)
    path = save(tmp_path / "learned_dicts.pt", make("TiedSAE", **tied(encoder=ODD[kind]())))
    refused(formats.peek, path, message, allow_pickle=True)
    refused(formats.load, path, message, allow_pickle=True)
    torch.save([(make("TiedSAE", **tied()), {"encoder_lr": ODD[kind]()})], path)
    refused(formats.peek, path, message, allow_pickle=True)


def test_complex_numbers_are_no_weights_anywhere(tmp_path: Path) -> None:
    wrong = {"W_enc": torch.ones(D, M, dtype=torch.complex64)}
    folder = saelens.write_saelens(tmp_path / "s", {"metadata": {}}, saelens.saelens_tensors("b_enc") | wrong)
    refused(formats.load, folder, "'W_enc' is a complex tensor")
    folder = gemma_scope.write(tmp_path / "g", W_enc=np.ones((D, M), np.complex64))
    refused(formats.load, folder, "'W_enc' is a complex tensor")


def test_numbers_that_torch_stores_but_cannot_read_are_refused(tmp_path: Path) -> None:
    packed = torch.zeros(M, D, dtype=torch.uint8).view(torch.bits8)
    refused(formats.load, openai.write(tmp_path / "6.pt", **{"encoder.weight": packed}), "'encoder.weight' cannot be")


@pytest.mark.parametrize("size", [10**5, 10**30, -1, 0, True, 6.0, "6", None])
@pytest.mark.parametrize("name", ["Identity", "IdentityPositive", "IdentityReLU"])
def test_an_identity_is_not_made_as_large_as_a_file_says(name: str, size: object, make: Make, tmp_path: Path) -> None:
    path = save(tmp_path / "learned_dicts.pt", make(name, activation_size=size, bias=torch.zeros(D)))
    for read in (formats.peek, formats.load):
        refused(read, path, "activation_size", allow_pickle=True)


def own(**changes: Any) -> Write:
    def write(folder: Path) -> Path:
        formats.save(random_dictionary(), folder)
        about = folder / "dictionary.json"
        about.write_text(json.dumps(json.loads(about.read_text()) | changes))
        return folder

    return write


def lens(**changes: Any) -> Write:
    config = {"architecture": "standard", "metadata": {}} | changes
    config = {name: value for name, value in config.items() if value != "absent"}
    return lambda folder: saelens.write_saelens(folder, config, saelens.saelens_tensors("b_enc"))


def sparse(**changes: Any) -> Write:
    return lambda folder: sparsify.write(folder, sparsify.tensors(), **changes)


def learned(name: str = "AutoEncoder", **changes: Any) -> Write:
    return lambda folder: learning.write(folder, name, learning.TENSORS[name], **changes)


def gao(**changes: Any) -> Write:
    return lambda folder: openai.write(folder / "6.pt", **openai.TOPK | changes)


def scope(**changes: Any) -> Write:
    return lambda folder: gemma_scope.write(folder, **changes)


NO_DIGITS = {"k": "4\n4", "postact_fn": "ReLU"}
LEARNED_K = learning.TENSORS["AutoEncoderTopK"] | {"k": torch.tensor(float("nan"))}
WRONG: list[tuple[str, str, Write]] = [
    ("own", "'metadata' is None, expected a mapping", own(metadata=None)),
    ("own", "'activation' is 'relu', expected a mapping", own(activation="relu")),
    ("own", "'d_in' is '768', expected a whole number", own(d_in="768")),
    ("own", "'n_features' is True, expected a whole number", own(n_features=True)),
    ("own", "'name' is a list, expected a text", own(name=["d"])),
    ("own", "'hook_point' is 3, expected a text", own(format_version=1, hook_point=3)),
    ("own", "'reads' is 'h', expected a list of texts", own(reads="h")),
    ("own", "'writes' is a list, expected a list of texts", own(writes=["h", 3])),
    ("own", "'subtract_b_dec' is 'yes', expected true or false", own(subtract_b_dec="yes")),
    ("own", "'processing' is 'fold_ln', expected a mapping", own(metadata={"processing": "fold_ln"})),
    ("own", "'prepend_bos' is 'no', expected true or false", own(metadata={"prepend_bos": "no"})),
    ("own", "kind is a list", own(kind=["sae"])),
    ("own", "k is None, expected 1", own(activation={"name": "topk", "k": None})),
    ("own", "k is True, expected 1", own(activation={"name": "groupmax", "k": True})),
    ("own", "format version 'a", own(format_version="a\nb")),
    ("saelens", "'metadata' is None, expected a mapping", lens(metadata=None)),
    ("saelens", "'d_in' is '768', expected a whole number", lens(d_in="768")),
    ("saelens", "'d_sae' is 20.0, expected a whole number", lens(d_sae=20.0)),
    ("saelens", "'hook_name' is a dict, expected a text", lens(metadata={"hook_name": {}})),
    ("saelens", "'model_from_pretrained_kwargs' is 'a", lens(metadata={"model_from_pretrained_kwargs": "a\nb"})),
    ("saelens", "'sae_dictionary' is a list, expected a mapping", lens(metadata={"sae_dictionary": ["kind"]})),
    ("saelens", "kind is 'sea'; did you mean sae", lens(metadata={"sae_dictionary": {"kind": "sea"}})),
    ("saelens", "normalize_activations a list is not supported", lens(normalize_activations=["none"])),
    ("saelens", "architecture a list is not supported", lens(architecture=["topk"])),
    ("saelens", "k is a dict, expected 1", lens(architecture="topk", k={})),
    ("saelens", "'activation_fn_kwargs' is 3, expected", lens(metadata="absent", activation_fn_kwargs=3)),
    ("saelens", "activation function a list", lens(metadata="absent", activation_fn_str=["relu"])),
    ("sparsify", "'d_in' is '768', expected a whole number", sparse(d_in="768")),
    ("sparsify", "'num_latents' is '20', expected a whole number", sparse(num_latents="20")),
    ("sparsify", "'expansion_factor' is 1.5, expected a whole", sparse(num_latents=0, expansion_factor=1.5)),
    ("sparsify", "k is 'four', expected 1", sparse(k="four")),
    ("sparsify", "activation a list is not supported", sparse(activation=["topk"])),
    ("dictionary_learning", "'submodule_name' is a list, expected a text", learned(submodule_name=["resid_post"])),
    ("dictionary_learning", "'lm_name' is 4, expected a text", learned(lm_name=4)),
    ("dictionary_learning", "'activation_dim' is '768', expected", learned(activation_dim="768")),
    ("dictionary_learning", "'dict_size' is None, expected", learned(dict_size=None)),
    ("dictionary_learning", "k is a list, expected 1", learned("AutoEncoderTopK", k=[4])),
    ("dictionary_learning", "k is nan", lambda folder: learning.write(folder, "AutoEncoderTopK", LEARNED_K)),
    ("openai", "pre_bias is 'zeros', expected a tensor of one", gao(pre_bias="zeros")),
    ("openai", r"latent_bias is of shape \[2, 3\], expected a", gao(latent_bias=torch.zeros(2, 3))),
    ("openai", "'activation' is a Tensor, expected a text", gao(activation=torch.zeros(3))),
    ("openai", "'activation_state_dict' is 'k', expected a mapping", gao(activation_state_dict="k")),
    ("openai", "k is '4.*4', expected 1", gao(activation_state_dict=NO_DIGITS)),
    ("openai", "'postact_fn' is a Tensor", gao(activation_state_dict={"k": 4, "postact_fn": torch.zeros(3)})),
    ("openai", "decoder.weight is a list, expected a tensor", gao(**{"decoder.weight": [1.0]})),
    ("gemma_scope", r"b_dec has shape \[\], expected one dimension", scope(b_dec=np.float32(0))),
    ("gemma_scope", "cannot read", scope(W_enc=np.array([["a"]]))),
]  # fmt: skip


@pytest.mark.parametrize(
    ("module", "message", "write"), WRONG, ids=[f"{module}: {message}" for module, message, _ in WRONG]
)
def test_values_of_other_types_are_refused_by_name(module: str, message: str, write: Write, tmp_path: Path) -> None:
    path = write(tmp_path / "layers.1")
    assert formats.recognise(path).format.name == module
    refused(formats.load, path, message)


def test_an_activation_state_dict_of_none_is_refused(tmp_path: Path) -> None:
    state = openai.tensors() | {"activation": "TopK", "activation_state_dict": None}
    torch.save(state, tmp_path / "6.pt")
    refused(formats.load, tmp_path / "6.pt", "'activation_state_dict' is None, expected a mapping")


def test_attributes_of_other_types_are_refused(make: Make, tmp_path: Path) -> None:
    hidden = make("UntiedSAE", **untied() | {"shape": (M, D)})  # looks like a tensor
    for changes, message in (
        ({"encoder": hidden}, "encoder is a UntiedSAE, expected a tensor"),
        ({"encoder_bias": hidden}, "encoder_bias is a UntiedSAE, expected a tensor"),
        ({"norm_encoder": torch.ones(2)}, "'norm_encoder' is a Tensor, expected true or false"),
    ):
        refused(formats.load, save(tmp_path / "learned_dicts.pt", make("TiedSAE", **tied(**changes))), message,
                allow_pickle=True)  # fmt: skip
    path = save(tmp_path / "learned_dicts.pt", make("TopKLearnedDict", dict=torch.ones(M, D), sparsity="4\n4"))
    refused(formats.load, path, "k is '4.*4', expected 1", allow_pickle=True)


@pytest.mark.parametrize(
    "text", ["[" * 10**5, f'{{"d_in": {"9" * 5000}}}', "{\n'a'", "[]", "null", "\udcff", '{"a": "\\ud800"}']
)
def test_json_that_is_none_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "dictionary.json").write_text(text, "utf-8", "surrogateescape")
    refused(formats.peek, tmp_path)


def outcome(read: Callable[..., Any], path: Path) -> str:
    try:
        return str(read(path).name)
    except UserError as error:
        return str(error)


def deflated(folder: Path, **changes: Any) -> Path:
    folder.mkdir()
    np.savez_compressed(folder / "params.npz", **gemma_scope.arrays() | changes)
    return folder / "params.npz"


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    """Wherever its bytes are wrong: names, lengths, the deflated streams."""
    path = deflated(tmp_path / "g")
    whole = path.read_bytes()
    for index in range(0, len(whole), 7):
        path.write_bytes(whole[:index] + bytes([whole[index] ^ 0xFF]) + whole[index + 1 :])
        for read in (formats.peek, formats.load):
            assert "\n" not in outcome(read, path)


def test_a_damaged_stream_is_refused(tmp_path: Path) -> None:
    path = deflated(tmp_path / "g")
    with zipfile.ZipFile(path) as archive:
        begins = archive.getinfo("W_enc.npy").header_offset + 30 + len("W_enc.npy")
    path.write_bytes(path.read_bytes()[:begins] + b"\xff" * 60 + path.read_bytes()[begins + 60 :])
    refused(formats.load, path, "cannot read")


def test_a_peek_leaves_the_weights_in_the_file(make: Make, tmp_path: Path) -> None:
    """Their bytes may be damaged, as the archives' checksums tell whoever reads them."""
    wide = 40_000
    state = {"encoder.weight": torch.zeros(wide, D), "latent_bias": torch.full((wide,), 0.123)}
    path = spoilt(openai.write(tmp_path / "6.pt", **state), state["latent_bias"].numpy().tobytes())
    assert (formats.peek(path).d_in, formats.peek(path).n_features) == (D, wide)
    refused(formats.load, path)
    b_enc = np.random.default_rng(0).normal(size=wide).astype(np.float32)
    path = spoilt(gemma_scope.write(tmp_path / "g", b_enc=b_enc) / "params.npz", b_enc.tobytes())
    assert (formats.peek(path).d_in, formats.peek(path).n_features) == (D, wide)
    refused(formats.load, path, "cannot read")


def test_a_peek_of_a_folder_needs_no_torch(tmp_path: Path) -> None:
    """So that a command line's mistakes are reported at once."""
    folders = [str(write(tmp_path / str(i))) for i, write in enumerate((own(), lens(), sparse(), learned(), scope()))]
    assert loaded_by(f"from sae.formats import peek\nfor path in {folders}: peek(path)", {"torch"}) == "[]"


def spoilt(path: Path, content: bytes) -> Path:
    """The same file with the end of that content overwritten."""
    whole = path.read_bytes()
    end = whole.index(content) + len(content)
    path.write_bytes(whole[: end - 64] + bytes(64) + whole[end:])
    return path


def test_a_refused_pickle_names_the_command_that_reads_it(make: Make, tmp_path: Path) -> None:
    """`autointerp run` has no flag for it, so the refusal names `sae convert`."""
    path = save(tmp_path / "learned_dicts.pt", make("TiedSAE", **tied()))
    refused(formats.peek, path, rf"sae convert {path}#N OUT --allow-pickle")
    refused(formats.load, f"{path}#2", rf"sae convert {path}#2 OUT --allow-pickle")
