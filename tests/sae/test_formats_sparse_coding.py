"""sparse_coding's learned_dicts.pt: read as its classes compute, opened only when asked to, nothing in it run."""

import io
import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from sae import formats
from sae.common.errors import UserError
from tests.sae.test_dictionary import D, M
from tests.sae.test_formats import X_BD

CLASSES = {
    "autoencoders.learned_dict": (
        "TiedSAE", "UntiedSAE", "RandomDict", "IdentityReLU", "IdentityPositive", "Identity", "Rotation", "ReverseSAE",
    ),
    "autoencoders.topk_encoder": ("TopKLearnedDict",),
    "autoencoders": (),
}  # fmt: skip
K = 4
ABOUT = {"l1_alpha": 0.001, "dict_size": M}
Make = Callable[..., Any]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Make:
    """Objects as the library's: modules of its names, whose classes have nothing but attributes."""
    made = {}
    for module_name, names in CLASSES.items():
        module = ModuleType(module_name)
        for name in names:
            made[name] = type(name, (), {"__module__": module_name})
            setattr(module, name, made[name])
        monkeypatch.setitem(sys.modules, module_name, module)

    def new(name: str, **attributes: Any) -> Any:
        thing = made[name]()
        vars(thing).update(attributes)
        return thing

    return new


def randn(*shape: int, seed: int = 11) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def rotation() -> Tensor:
    basis: Tensor = torch.linalg.qr(randn(D, D, seed=12))[0]
    return basis


def tied(**changes: Any) -> dict[str, Any]:
    centring = {"center_trans": randn(D), "center_rot": rotation(), "center_scale": randn(D, seed=13).abs() + 0.5}
    plain = {"encoder": randn(M, D), "encoder_bias": randn(M), "norm_encoder": True, "n_feats": M, "activation_size": D}
    return plain | centring | changes


def untied() -> dict[str, Any]:
    return {"encoder": randn(M, D), "decoder": randn(M, D, seed=14), "encoder_bias": randn(M), "n_feats": M}


def save(path: Path, *objects: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save([(thing, ABOUT | {"l1_alpha": 0.001 * (i + 1)}) for i, thing in enumerate(objects)], path)
    return path


def unit(rows: Tensor) -> Tensor:
    return rows / torch.clamp(torch.norm(rows, 2, dim=-1), 1e-8)[:, None]


def check(path: str | Path, features_BF: Tensor, decoded_BD: Tensor) -> None:
    loaded = formats.load(path, allow_pickle=True)
    assert 0 < int((features_BF > 0).sum()) < features_BF.numel()
    torch.testing.assert_close(loaded.encode(X_BD), features_BF, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(loaded.decode(features_BF, X_BD), decoded_BD, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("norm_encoder", [True, False])
def test_tied_with_centring_by_its_formula(norm_encoder: bool, make: Make, tmp_path: Path) -> None:
    t = tied(norm_encoder=norm_encoder)
    centred_BD = torch.einsum("cu,bu->bc", t["center_rot"], X_BD - t["center_trans"]) * t["center_scale"]
    encoder = unit(t["encoder"]) if norm_encoder else t["encoder"]
    features_BF = torch.clamp(torch.einsum("nd,bd->bn", encoder, centred_BD) + t["encoder_bias"], min=0.0)
    decoded_BD = torch.einsum("nd,bn->bd", unit(t["encoder"]), features_BF)
    uncentred_BD = torch.einsum("cu,bc->bu", t["center_rot"], decoded_BD / t["center_scale"]) + t["center_trans"]
    check(save(tmp_path / "learned_dicts.pt", make("TiedSAE", **t)), features_BF, uncentred_BD)


def test_tied_of_before_centring(make: Make, tmp_path: Path) -> None:
    """Older files lack the attributes; a row of zeros stays finite."""
    t = {name: value for name, value in tied().items() if not name.startswith("center_")}
    t["encoder"][3] = 0
    features_BF = torch.clamp(X_BD @ unit(t["encoder"]).T + t["encoder_bias"], min=0.0)
    check(save(tmp_path / "learned_dicts.pt", make("TiedSAE", **t)), features_BF, features_BF @ unit(t["encoder"]))


def test_untied_by_its_formula(make: Make, tmp_path: Path) -> None:
    t = untied()
    features_BF = torch.clamp(torch.einsum("nd,bd->bn", t["encoder"], X_BD) + t["encoder_bias"], min=0.0)
    check(save(tmp_path / "learned_dicts.pt", make("UntiedSAE", **t)), features_BF, features_BF @ unit(t["decoder"]))


def test_topk_by_its_formula(make: Make, tmp_path: Path) -> None:
    rows = unit(randn(M, D))
    scores = X_BD @ rows.T
    kept = scores.topk(K, dim=-1).indices
    features_BF = torch.zeros_like(scores).scatter(-1, kept, scores.gather(-1, kept)).relu()
    check(
        save(tmp_path / "learned_dicts.pt", make("TopKLearnedDict", dict=rows, sparsity=K)),
        features_BF,
        features_BF @ rows,
    )


def test_controls_by_their_formulas(make: Make, tmp_path: Path) -> None:
    random, bias, matrix = randn(M, D), randn(D), rotation()[:3]
    path = save(
        tmp_path / "learned_dicts.pt",
        make("RandomDict", encoder=random, encoder_bias=torch.zeros(M)),
        make("IdentityReLU", activation_size=D, bias=bias),
        make("IdentityPositive", activation_size=D),
        make("Identity", activation_size=D, device="cpu"),
        make("Rotation", matrix=matrix, device=torch.device("cpu")),
    )
    f_BF = (X_BD @ random.T).relu()
    check(f"{path}#0", f_BF, f_BF @ random)
    f_BF = (X_BD + bias).relu()
    check(f"{path}#1", f_BF, f_BF)
    f_BF = torch.cat([X_BD, -X_BD], dim=-1).relu()
    check(f"{path}#2", f_BF, X_BD)
    check(f"{path}#3", f_BF, X_BD)
    coordinates = X_BD @ matrix.T
    check(f"{path}#4", torch.cat([coordinates, -coordinates], dim=-1).relu(), coordinates @ matrix)
    assert [formats.load(f"{path}#{i}", True).kind for i in range(5)] == ["random", *["neurons"] * 3, "pca"]


def test_it_is_opened_only_when_asked_to(make: Make, tmp_path: Path) -> None:
    path = save(tmp_path / "learned_dicts.pt", make("TiedSAE", **tied()))
    for read in (formats.peek, formats.load):
        for given in (path, f"{path}#0", tmp_path):
            with pytest.raises(UserError, match=r"a pickle of sparse_coding's objects.*--allow-pickle") as caught:
                read(given)
            assert "\n" not in str(caught.value)
    for given, entry in ((tmp_path, None), (f"{path}#0", 0)):
        assert formats.recognise(given) == (path, formats.FORMATS.get("sparse_coding"), entry)


def test_one_of_many_is_chosen(make: Make, tmp_path: Path) -> None:
    things = [make("TiedSAE", **tied()), make("UntiedSAE", **untied()), make("TiedSAE", **tied(encoder=randn(9, D)))]
    path = save(tmp_path / "tied_residual_l2_r6" / "_63" / "learned_dicts.pt", *things)
    listed = r"#0 TiedSAE l1_alpha=0\.001 dict_size=20, #1 UntiedSAE l1_alpha=0\.002 dict_size=20, #2 TiedSAE"
    with pytest.raises(UserError, match=rf"holds 3 dictionaries; choose one as learned_dicts\.pt#N: {listed}"):
        formats.load(path, allow_pickle=True)
    with pytest.raises(UserError, match=r"learned_dicts\.pt#3: there is no such entry; the file holds 3: #0 TiedSAE"):
        formats.peek(f"{path}#3", allow_pickle=True)
    header = formats.peek(f"{path}#2", allow_pickle=True)
    assert (header.name, header.d_in, header.n_features) == ("tied_residual_l2_r6_63-2", D, 9)
    assert (header.hook_point, header.model) == ("blocks.2.hook_resid_post", None)
    loaded = formats.load(f"{path}#1", allow_pickle=True)
    assert loaded.metadata["sparse_coding"] == {"class": "UntiedSAE", "item": 1, "l1_alpha": 0.002, "dict_size": M}


@pytest.mark.parametrize(
    ("subpath", "hook_point"),
    [
        ("output_hoagy_dense_sweep_tied_resid_l2_r4/_9", "blocks.2.hook_resid_post"),
        ("tied_mlp_l1_r2/_3", "blocks.1.mlp.hook_post"),
        ("untied_mlpout_l5_r0", "blocks.5.hook_mlp_out"),
        ("tied_attn_l5_r0", None),
        ("elsewhere", None),
    ],
)
def test_the_path_tells_the_hook_point(subpath: str, hook_point: str | None, make: Make, tmp_path: Path) -> None:
    path = save(tmp_path / subpath / "learned_dicts.pt", make("TiedSAE", **tied()))
    assert formats.peek(path, allow_pickle=True).hook_point == hook_point


def test_an_object_saved_by_itself(make: Make, tmp_path: Path) -> None:
    torch.save(make("UntiedSAE", **untied()), tmp_path / "pythia_r4.pt")
    assert formats.load(f"{tmp_path}/pythia_r4.pt#0", allow_pickle=True).name == "pythia_r4-0"
    with pytest.raises(UserError, match=r"asks for autoencoders\.learned_dict\.UntiedSAE, which is refused"):
        formats.load(tmp_path / "pythia_r4.pt", allow_pickle=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder_bias": torch.zeros(M + 1)}, r"#0: encoder_bias has shape \[21\], expected \[20\]"),
        ({"encoder_bias": "zeros"}, r"#0: encoder_bias is a str, expected a tensor of shape \[20\]"),
        ({"encoder": torch.zeros(M)}, r"#0: encoder is of shape \[20\], expected a tensor of two dimensions"),
        ({"encoder": None}, r"#0: encoder is a NoneType, expected a tensor"),
        ({"center_trans": torch.zeros(D - 1)}, r"#0: center_trans has shape \[5\], expected \[6\]"),
        ({"center_rot": torch.zeros(D)}, r"#0: center_rot has shape \[6\], expected \[6, 6\]"),
        ({"center_scale": torch.zeros(M)}, r"#0: center_scale has shape \[20\], expected \[6\]"),
    ],
)
def test_attributes_that_do_not_fit_are_refused(
    changes: dict[str, Any], message: str, make: Make, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        formats.load(save(tmp_path / "learned_dicts.pt", make("TiedSAE", **tied(**changes))), allow_pickle=True)


def test_missing_attributes_and_other_shapes_of_other_classes(make: Make, tmp_path: Path) -> None:
    things = [
        make("TiedSAE", encoder_bias=torch.zeros(M)),
        make("UntiedSAE", **untied() | {"decoder": torch.zeros(D, M)}),
        make("TopKLearnedDict", dict=randn(M, D), sparsity=M + 1),
        make("IdentityReLU", bias=torch.zeros(D)),
        {"encoder": randn(M, D)},
    ]
    path = save(tmp_path / "learned_dicts.pt", *things[:4])
    for i, message in enumerate(
        ("lacks 'encoder'", r"decoder has shape \[6, 20\], expected \[20, 6\]", "k is 21", "lacks 'activation_size'")
    ):
        with pytest.raises(UserError, match=rf"learned_dicts\.pt#{i}.*{message}"):
            formats.load(f"{path}#{i}", allow_pickle=True)
    with pytest.raises(UserError, match=r"#0 is a dict, not a dictionary of sparse_coding"):
        formats.load(save(tmp_path / "learned_dicts.pt", things[4]), allow_pickle=True)


class Smuggled:
    """Would run a command when unpickled, were it let."""

    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call, self.arguments


@pytest.mark.parametrize("call", [os.system, eval, exec], ids=lambda call: call.__name__)
def test_commands_are_never_run(call: Callable[..., Any], make: Make, tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    code = f"touch {proof}" if call is os.system else f"open({str(proof)!r}, 'w')"
    for hidden in (Smuggled(call, code), make("TiedSAE", **tied(encoder=Smuggled(call, code)))):
        path = save(tmp_path / "learned_dicts.pt", hidden)
        for given, allow_pickle in ((path, True), (f"{path}#0", True), (path, False)):
            with pytest.raises(UserError) as caught:
                formats.load(given, allow_pickle=allow_pickle)
            assert "\n" not in str(caught.value)
            assert not allow_pickle or f".{call.__name__}, which is refused" in str(caught.value)
    assert not proof.exists()


def test_the_fixture_would_have_run_it(tmp_path: Path) -> None:
    """The pickles above do what they are made for where nothing restrains them."""
    torch.save(Smuggled(os.system, f"touch {tmp_path}/proof"), tmp_path / "learned_dicts.pt")
    torch.load(tmp_path / "learned_dicts.pt", weights_only=False)
    assert (tmp_path / "proof").exists()


def test_classes_whose_features_are_not_expressible_are_refused(make: Make, tmp_path: Path) -> None:
    path = save(tmp_path / "learned_dicts.pt", make("ReverseSAE", **untied()))
    with pytest.raises(UserError, match=r"asks for autoencoders\.learned_dict\.ReverseSAE, which is refused"):
        formats.peek(path, allow_pickle=True)


def test_damaged_and_old_files_are_refused(make: Make, tmp_path: Path) -> None:
    path = save(tmp_path / "learned_dicts.pt", make("TiedSAE", **tied()))
    whole = path.read_bytes()
    torch.save([(make("TiedSAE", **tied()), ABOUT)], path, _use_new_zipfile_serialization=False)
    for content in (path.read_bytes(), b"", b"torn", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"not a file of PyTorch 1\.6 or later"):
            formats.load(path, allow_pickle=True)


def with_pickle(archive: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """The same archive, its checksums right, with another pickle."""
    changed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(changed, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, change(content) if name.endswith("data.pkl") else content)
    return changed.getvalue()


def outcome(path: Path) -> str:
    try:
        return formats.load(path, allow_pickle=True).name
    except UserError as error:
        return str(error)


def test_a_pickle_hit_anywhere_loads_or_is_refused_in_one_line(make: Make, tmp_path: Path) -> None:
    whole = save(tmp_path / "learned_dicts.pt", make("UntiedSAE", **untied())).read_bytes()
    random = Random(0)

    def hit(content: bytes) -> bytes:
        index = random.randrange(2, len(content))  # past the protocol's number, of which PyTorch warns
        return content[:index] + bytes([random.randrange(256)]) + content[index + 1 :]

    for _ in range(300):
        (tmp_path / "learned_dicts.pt").write_bytes(with_pickle(whole, hit))
        assert "\n" not in outcome(tmp_path / "learned_dicts.pt")


def test_it_converts(make: Make, tmp_path: Path) -> None:
    path = save(tmp_path / "r" / "learned_dicts.pt", make("TiedSAE", **tied()), make("UntiedSAE", **untied()))
    with pytest.raises(UserError, match="--allow-pickle"):
        formats.convert(f"{path}#1", tmp_path / "own")
    formats.convert(f"{path}#1", tmp_path / "own", allow_pickle=True)
    again, direct = formats.load(tmp_path / "own"), formats.load(f"{path}#1", allow_pickle=True)
    assert torch.equal(again.encode(X_BD), direct.encode(X_BD))
    assert (again.name, again.metadata["converted_from"]) == ("r-1", "learned_dicts.pt#1 (sparse_coding)")
