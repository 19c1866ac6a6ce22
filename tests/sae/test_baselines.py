"""Baselines against scikit-learn and against what they promise."""

import warnings
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.decomposition import NMF, PCA, FastICA
from sklearn.exceptions import ConvergenceWarning

from sae import formats
from sae.baselines import ica, neurons, nmf, pca, random, random_matched, registry, top_k
from sae.baselines.registry import BASELINES, Baseline
from sae.common.errors import UserError
from sae.common.seeds import derive_seed
from sae.dictionary import Dictionary
from sae.measuring import metrics
from tests.test_layers import loaded_by


@pytest.fixture(scope="module")
def x_BD() -> torch.Tensor:
    rng = np.random.default_rng(0)
    sources = rng.laplace(size=(3000, 12)) ** 3
    return torch.from_numpy(sources @ rng.normal(size=(12, 12)) + rng.normal(size=12)).float()


def halves(codes: np.ndarray) -> torch.Tensor:
    """Signed coordinates as two rectified halves."""
    return torch.from_numpy(np.concatenate([codes, -codes], 1).clip(0)).float()


def fvu(dictionary: Dictionary, x_BD: torch.Tensor) -> float:
    value = metrics.reconstruction(dictionary, x_BD).fvu
    assert value is not None
    return value


def test_pca_equals_scikit_learn(x_BD: torch.Tensor) -> None:
    reference = PCA(svd_solver="covariance_eigh").fit_transform(x_BD.double().numpy())
    torch.testing.assert_close(pca.pca(x_BD).encode(x_BD), halves(reference), atol=2e-3, rtol=1e-4)


def test_ica_equals_scikit_learn(x_BD: torch.Tensor) -> None:
    model = FastICA(
        whiten="unit-variance",
        whiten_solver="eigh",
        max_iter=ica.ICA_ITERATIONS,
        tol=1e-3,
        random_state=derive_seed(5, "ica", bits=32),
    )
    reference = model.fit_transform(x_BD.double().numpy())
    torch.testing.assert_close(ica.ica(x_BD, 5).encode(x_BD), halves(reference), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("make", [pca.pca, lambda x: ica.ica(x, 0)], ids=["pca", "ica"])
def test_complete_bases_reconstruct(make: object, x_BD: torch.Tensor) -> None:
    dictionary: Dictionary = make(x_BD)  # type: ignore[operator]
    assert fvu(dictionary, x_BD) < 1e-5


def test_ica_leaves_out_dead_neurons(x_BD: torch.Tensor) -> None:
    dead_BD = torch.cat([x_BD, torch.zeros(len(x_BD), 3)], 1)
    assert ica.ica(dead_BD, 0).n_features == 2 * x_BD.shape[1]


def test_ica_says_whether_it_converged(x_BD: torch.Tensor) -> None:
    noise_BD = torch.randn(400, 40, generator=torch.Generator().manual_seed(0))
    stopped, ended = ica.ica(noise_BD, 0).metadata, ica.ica(x_BD, 0).metadata
    assert (stopped["converged"], stopped["iterations"]) == (False, ica.ICA_ITERATIONS)
    assert ended["converged"]
    assert ended["iterations"] < ica.ICA_ITERATIONS


PARTS_KD = np.kron(np.eye(6), np.ones((1, 3))) * np.random.default_rng(1).uniform(0.5, 1.5, (6, 18))
"""Planted parts: six, of three dimensions each."""


@pytest.fixture(scope="module")
def made_of_parts_BD() -> torch.Tensor:
    """Sums of few parts, moved below zero by another amount in each dimension but the first ones."""
    rng = np.random.default_rng(2)
    weights = rng.exponential(size=(2000, 6)) * (rng.random((2000, 6)) < 0.4)
    return torch.from_numpy(weights @ PARTS_KD - np.linspace(0, 2, 18).clip(0.3) + 0.3).float()


def test_nmf_equals_scikit_learn(made_of_parts_BD: torch.Tensor) -> None:
    x_BD = made_of_parts_BD + torch.rand(2000, 18, generator=torch.Generator().manual_seed(0))
    fitted = nmf.nmf(x_BD, 3, components=8)
    shift_D = x_BD.numpy().min(0).clip(max=0)
    model = NMF(8, init="nndsvd", max_iter=nmf.NMF_ITERATIONS, random_state=derive_seed(3, "nmf", bits=32))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x_BD.numpy() - shift_D)
        lengths = np.linalg.norm(model.components_, axis=1)
        model.components_ = model.components_.astype(float)
        model.set_params(tol=1e-12, max_iter=5000)
        reference = model.transform(x_BD.double().numpy() - shift_D) * lengths
    torch.testing.assert_close(fitted.encode(x_BD), torch.from_numpy(reference).float(), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(fitted.W_dec_FD.norm(dim=1), torch.ones(8))


def test_nmf_finds_planted_parts_again(made_of_parts_BD: torch.Tensor) -> None:
    fitted = nmf.nmf(made_of_parts_BD, 0, components=6)
    likeness = fitted.W_dec_FD.numpy() @ (PARTS_KD / np.linalg.norm(PARTS_KD, axis=1, keepdims=True)).T
    assert likeness.max(0).min() > 0.99
    assert fvu(fitted, made_of_parts_BD) < 0.01
    torch.testing.assert_close(fitted.b_dec_D, made_of_parts_BD.amin(0).clamp(max=0))
    assert (fitted.encode(made_of_parts_BD - 5) >= 0).all()


def test_nmf_has_half_the_directions_and_says_whether_it_converged(made_of_parts_BD: torch.Tensor) -> None:
    dead_BD = torch.cat([made_of_parts_BD, torch.zeros(len(made_of_parts_BD), 3)], 1)
    fitted = nmf.nmf(dead_BD, 0)
    assert fitted.n_features == 3  # of the six directions that carry variance
    noise_BD = torch.rand(300, 40, generator=torch.Generator().manual_seed(0))
    stopped = nmf.nmf(noise_BD, 0).metadata
    assert (stopped["converged"], stopped["iterations"]) == (False, nmf.NMF_ITERATIONS)
    assert nmf.nmf(made_of_parts_BD, 0, components=6).metadata["converged"]


WITH_TOP_K = ["neurons", "pca", "ica", "nmf", "random"]


@pytest.mark.parametrize("name", WITH_TOP_K)
def test_top_k_keeps_the_largest_features(name: str, x_BD: torch.Tensor) -> None:
    base = BASELINES.get(name).fit(x_BD, 0)
    kept = top_k.top_k(base, 3)
    assert (kept.name, kept.kind, kept.metadata) == (f"{name}-top3", base.kind, base.metadata)
    every_BF, kept_BF = base.encode(x_BD[:300]), kept.encode(x_BD[:300])
    assert (every_BF > 0).sum(1).max() > 3
    for every, row in zip(every_BF.tolist(), kept_BF.tolist(), strict=True):
        third = sorted(every)[-3]
        assert row == pytest.approx([value if value >= third else 0.0 for value in every], abs=1e-6, rel=1e-6)


def test_top_k_of_pca_is_the_largest_coordinates_by_magnitude(x_BD: torch.Tensor) -> None:
    codes = PCA(svd_solver="covariance_eigh").fit(x_BD.double().numpy()).transform(x_BD.double().numpy())
    smallest_first = np.argsort(np.abs(codes), axis=1)
    np.put_along_axis(codes, smallest_first[:, :-2], 0.0, axis=1)
    torch.testing.assert_close(top_k.top_k(pca.pca(x_BD), 2).encode(x_BD), halves(codes), atol=2e-3, rtol=1e-4)


def test_top_k_refuses_what_it_cannot_keep(x_BD: torch.Tensor) -> None:
    with pytest.raises(UserError, match="neurons-top13: neurons has only 12 features"):
        top_k.top_k(neurons.neurons(x_BD), 13)
    with pytest.raises(ValueError, match="topk has no top-k version"):
        top_k.top_k(top_k.top_k(neurons.neurons(x_BD), 3), 2)


def test_neurons_equal_the_raw_activations(x_BD: torch.Tensor) -> None:
    assert torch.equal(neurons.neurons(x_BD).encode(x_BD), x_BD.relu())


def test_random_directions_are_unit_and_seeded(x_BD: torch.Tensor) -> None:
    one, same, other = (random.random_directions(x_BD, seed) for seed in (1, 1, 2))
    torch.testing.assert_close(one.W_enc_DF.norm(dim=0), torch.ones(24))
    assert torch.equal(one.W_enc_DF, same.W_enc_DF)
    assert not torch.equal(one.W_enc_DF, other.W_enc_DF)


def test_random_matched_has_the_targets_densities(x_BD: torch.Tensor) -> None:
    target = neurons.neurons(x_BD)
    density_of_target_F = torch.full((12,), 0.03)
    density_of_target_F[:6] = 0.2
    density_of_target_F[0] = 0.0  # dead: never drawn
    matched = random_matched.random_matched(x_BD, 0, target, density_of_target_F)
    density_F = metrics.density(matched, x_BD)
    near = [min(abs(float(d) - 0.03), abs(float(d) - 0.2)) for d in density_F]
    assert max(near) <= 1.5 / len(x_BD)
    assert {round(float(d), 2) for d in density_F} == {0.03, 0.2}


def test_the_registry_says_what_each_baseline_needs() -> None:
    every = BASELINES.all()
    assert tuple(every) == ("neurons", "pca", "ica", "nmf", "random", "random_matched")
    assert [name for name, each in every.items() if each.has_top_k] == WITH_TOP_K
    assert [name for name, each in every.items() if each.matched] == ["random_matched"]
    assert [name for name, each in every.items() if each.reports_convergence] == ["ica", "nmf"]
    assert all(each.name == name for name, each in every.items())
    assert registry.kinds() == ("sae", *every)
    assert len({registry.colour_of(kind) for kind in (*registry.kinds(), "of a plugin that is not here")}) == 8


SEEN = {
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritanopia": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}
"""Machado, Oliveira and Fernandes 2009, severity 1: linear RGB as dichromats see it."""


def lab(colour: str, seen: list[list[float]]) -> np.ndarray[Any, Any]:
    """CIE L*a*b* (D65) of #rrggbb as it is seen."""
    rgb = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4125, 0.3576, 0.1804], [0.2127, 0.7152, 0.0722], [0.0193, 0.1192, 0.9503]])
    x, y, z = np.cbrt(np.maximum(to_xyz @ np.clip(np.array(seen) @ linear, 0, 1) / [0.9505, 1, 1.0888], 0.001))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("sight", SEEN)
def test_colour_blind_readers_tell_the_kinds_apart(sight: str) -> None:
    """A difference of 2.3 is just noticeable; the colours before these came as near as 6.8."""
    colours = [lab(registry.colour_of(kind), SEEN[sight]) for kind in (*registry.kinds(), "foreign")]
    assert min(np.linalg.norm(one - other) for one, other in combinations(colours, 2)) > 15


def test_names_in_words() -> None:
    assert registry.in_words("pca-top32", "pca") == "PCA, top 32"
    assert registry.in_words("random_matched[topk_2x]", "random_matched") == "random, density-matched (topk 2x)"
    assert registry.in_words("topk_4x", "sae") == "topk 4x"
    assert registry.in_words("of_a_plugin", "not_here") == "of a plugin"


def test_what_each_baseline_reports_is_what_it_registers(x_BD: torch.Tensor) -> None:
    for name in WITH_TOP_K:
        fitted = BASELINES.get(name).fit(x_BD[:500], 0)
        assert (fitted.name, fitted.kind) == (name, name)
        assert ("converged" in fitted.metadata) == BASELINES.get(name).reports_convergence


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("neuron", "unknown baseline 'neuron'; did you mean neurons"),
        ("pca-top0", "did you mean pca-top32"),
        ("random_matched-top3", "random_matched has no top-k version"),
        ("sae", "unknown baseline 'sae'"),
    ],
)
def test_unknown_baselines_are_refused(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        registry.check_name(name)


def test_names_are_split_into_base_and_k() -> None:
    assert registry.base_and_k("pca-top32") == ("pca", 32)
    assert registry.base_and_k("random_matched") == ("random_matched", None)
    assert registry.check_name("nmf-top4") == "nmf-top4"


def test_a_foreign_baseline_is_like_ours(x_BD: torch.Tensor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def halved(x_BD: torch.Tensor, seed: int) -> Dictionary:
        return replace(neurons.neurons(x_BD * 0.5), name="halved", kind="halved")

    monkeypatch.setitem(BASELINES._parts, "halved", Baseline("halved", "#123456", halved))
    assert registry.check_name("halved-top2") == "halved-top2"
    assert registry.colour_of("halved") == "#123456"
    formats.save(BASELINES.get("halved").fit(x_BD, 0), tmp_path / "d")
    assert formats.load(tmp_path / "d").kind == "halved"


def test_a_matched_baseline_has_no_top_k_version() -> None:
    with pytest.raises(ValueError, match="set has_top_k=False"):
        Baseline("m", "#000000", random_matched.random_matched, matched=True)


def test_names_colours_and_needs_are_read_without_torch() -> None:
    code = "from sae.baselines.registry import BASELINES, colour_of\nBASELINES.all(), colour_of('pca')"
    assert loaded_by(code, {"torch", "numpy", "sklearn"}) == "[]"
