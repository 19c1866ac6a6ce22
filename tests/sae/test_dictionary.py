"""Dictionaries against the formulas written out per element."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import nnls

from sae import products
from sae.dictionary import Dictionary, Gated, GroupMax, JumpReLU, MatchingPursuit, NonNegative, ReLU, TopK
from tests.sae.temporal_files import temporal

D, M, B = 6, 20, 50


def random_dictionary(activation: object = None, **changes: object) -> Dictionary:
    g = torch.Generator().manual_seed(0)
    made = Dictionary(
        "d", "sae", torch.randn(D, M, generator=g), torch.randn(M, generator=g), torch.randn(M, D, generator=g),
        torch.randn(D, generator=g),
    )  # fmt: skip
    return replace(made, activation=activation or ReLU(), **changes)  # type: ignore[arg-type]


@pytest.fixture
def x_BD() -> torch.Tensor:
    return torch.randn(B, D, generator=torch.Generator().manual_seed(1)) * 3 + 1


def gram_of(width: int, features: int = M) -> torch.Tensor:
    """The inner products of some non-negative parts."""
    parts_FD = torch.rand(features, width, generator=torch.Generator().manual_seed(5)) ** 4
    return parts_FD @ parts_FD.T


ACTIVATIONS = [
    ReLU(),
    TopK(5),
    TopK(4, torch.rand(M, generator=torch.Generator().manual_seed(2)) + 0.5),
    JumpReLU(torch.linspace(-1, 3, M)),
    Gated(torch.linspace(-2, 2, M), torch.linspace(-1, 1, M), torch.linspace(2, -2, M)),
    GroupMax(5),
    NonNegative(gram_of(2 * M)),
    NonNegative(gram_of(2 * M), 3),
    MatchingPursuit(random_dictionary().W_dec_FD / 3, 4, 0.5, stop_on_repeat=True),
]


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda a: a.name)
@pytest.mark.parametrize("normalisation", ["none", "layer_norm", "constant_norm_rescale"])
def test_encoder_gives_the_columns_of_encode(activation: object, normalisation: str, x_BD: torch.Tensor) -> None:
    dictionary = random_dictionary(activation, normalisation=normalisation)
    features_S = torch.tensor([3, 0, 17, 8])
    whole_BF = dictionary.encode(x_BD)
    assert (whole_BF >= 0).all()
    torch.testing.assert_close(dictionary.encoder(features_S)(x_BD), whole_BF[:, features_S])


def test_selected_features_that_tie_are_kept_as_in_the_whole_code() -> None:
    pre_BF = torch.tensor([[1.0, 3.0, 1.0, 1.0, 0.5], [0.0, -1.0, 0.0, 0.0, -2.0]])
    features_S = torch.tensor([3, 0, 2])
    for activation in (TopK(2), TopK(3)):
        assert torch.equal(activation.selected(pre_BF, features_S), activation(pre_BF)[:, features_S])


def test_topk_keeps_exactly_the_largest(x_BD: torch.Tensor) -> None:
    dictionary = random_dictionary(TopK(5))
    features_BF = dictionary.encode(x_BD)
    pre_BF = (x_BD - dictionary.b_dec_D) @ dictionary.W_enc_DF + dictionary.b_enc_F
    for row, pre in zip(features_BF, pre_BF, strict=True):
        largest = set(sorted(range(M), key=lambda f, pre=pre: -float(pre[f]))[:5])  # type: ignore[misc]
        for feature in range(M):
            expected = max(0.0, float(pre[feature])) if feature in largest else 0.0
            assert float(row[feature]) == pytest.approx(expected, abs=1e-5)


def test_groupmax_keeps_the_largest_of_each_group(x_BD: torch.Tensor) -> None:
    dictionary = random_dictionary(GroupMax(5))
    features_BF = dictionary.encode(x_BD)
    pre_BF = (x_BD - dictionary.b_dec_D) @ dictionary.W_enc_DF + dictionary.b_enc_F
    for row, pre in zip(features_BF, pre_BF, strict=True):
        for first in range(0, M, M // 5):
            group = [float(value) for value in pre[first : first + M // 5]]
            for index, value in enumerate(group):
                expected = max(0.0, value) if value == max(group) else 0.0
                assert float(row[first + index]) == pytest.approx(expected, abs=1e-5)


def test_jumprelu_and_gated_per_element(x_BD: torch.Tensor) -> None:
    jump, gated = ACTIVATIONS[3], ACTIVATIONS[4]
    pre = torch.tensor([[-1.0, 0.5, 2.9, 3.1] * 5])
    out = jump(pre)[0]  # type: ignore[operator]
    for f in range(M):
        value, threshold = float(pre[0, f]), float(jump.threshold_F[f])  # type: ignore[attr-defined]
        assert float(out[f]) == pytest.approx(value if value > max(0.0, threshold) else 0.0)
    out = gated(pre)[0]  # type: ignore[operator]
    for f in range(M):
        u = float(pre[0, f])
        magnitude = max(0.0, u * float(gated.r_mag_F[f].exp()) + float(gated.b_mag_F[f]))  # type: ignore[attr-defined]
        open_gate = u + float(gated.b_gate_F[f]) > 0  # type: ignore[attr-defined]
        assert float(out[f]) == pytest.approx(magnitude if open_gate else 0.0, rel=1e-5)


@pytest.mark.parametrize("features", [1, 20, 70])  # one block of unknowns, and several
def test_non_negative_equals_scipys_least_squares(features: int) -> None:
    generator = torch.Generator().manual_seed(6)
    parts_FD = torch.rand(features, 2 * features, generator=generator) ** 2
    parts_FD[-1] *= features > 1  # a part of zeros explains nothing
    x_BD = torch.randn(30, 2 * features, generator=generator) + 0.5
    solved_BF = NonNegative(parts_FD @ parts_FD.T)(x_BD @ parts_FD.T)
    expected_BF = np.stack([nnls(parts_FD.double().numpy().T, x_D.double().numpy())[0] for x_D in x_BD])
    np.testing.assert_allclose(solved_BF, expected_BF, atol=1e-4 * max(1.0, expected_BF.max()))


def test_non_negative_solves_each_vector_by_itself() -> None:
    activation: NonNegative = ACTIVATIONS[6]  # type: ignore[assignment]
    pre_BF = torch.randn(40, M, generator=torch.Generator().manual_seed(7)) * 5
    together_BF = activation(pre_BF)
    alone_BF = torch.cat([activation(pre_1F) for pre_1F in pre_BF.split(1)])
    torch.testing.assert_close(together_BF, alone_BF, atol=1e-5, rtol=1e-5)
    assert torch.equal(together_BF, activation(pre_BF))
    assert activation(pre_BF[:0]).shape == (0, M)
    assert not activation(-pre_BF.abs()).any()


def test_non_negative_keeps_the_largest_weights_as_they_are() -> None:
    pre_BF = torch.randn(40, M, generator=torch.Generator().manual_seed(8)) * 5
    all_BF, kept_BF = (activation(pre_BF) for activation in ACTIVATIONS[6:8])  # type: ignore[operator]
    for every, kept in zip(all_BF.tolist(), kept_BF.tolist(), strict=True):
        third = sorted(every)[-3]
        assert kept == [value if value >= third else 0.0 for value in every]
    assert (all_BF > 0).sum(1).max() > 3


def test_a_dictionary_moves_with_its_activations_tensors() -> None:
    for activation in ACTIVATIONS:
        moved = random_dictionary(activation).to("meta")
        for owner in (moved, moved.activation):
            assert {item.device.type for item in vars(owner).values() if torch.is_tensor(item)} <= {"meta"}


def test_normalised_identity_reconstructs_its_input(x_BD: torch.Tensor) -> None:
    """+I and -I as encoder and decoder lose nothing, so undoing the normalisation must give the input back."""
    eye = torch.eye(D)
    both = Dictionary("i", "sae", torch.cat([eye, -eye], 1), torch.zeros(2 * D), torch.cat([eye, -eye]), torch.ones(D))
    for normalisation in ("none", "layer_norm", "constant_norm_rescale"):
        same = replace(both, normalisation=normalisation)
        torch.testing.assert_close(same.reconstruct(x_BD), x_BD, atol=1e-4, rtol=1e-4)


def test_a_unit_of_each_feature_writes_what_decoding_adds() -> None:
    made = random_dictionary(TopK(3, torch.rand(M) + 0.5))
    made = replace(made, write_scale_E=torch.rand(D) + 0.5)
    units_FD = made.decode(torch.eye(M)) - made.decode(torch.zeros(M, M))
    torch.testing.assert_close(made.unit_writes(), units_FD, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("normalisation", "added"), [("layer_norm", 1e-5), ("constant_norm_rescale", 0.0)])
def test_vectors_that_hardly_vary_are_divided_by_a_little_more(normalisation: str, added: float) -> None:
    """As SAELens and OpenAI do; what is decoded is multiplied by the scale itself."""
    x_BD = 1e-4 * torch.tensor([[1.0, -2, 3, 0, 1, 5]])
    zero_F, eye = torch.zeros(D), torch.eye(D)
    made = Dictionary("i", "sae", eye, zero_F + 9, eye, zero_F, normalisation=normalisation)  # type: ignore[arg-type]
    centre, scale = (x_BD.mean(), x_BD.std()) if added else (0.0, x_BD.norm() / D**0.5)
    expected_BD = (x_BD - centre) / (scale + added)
    torch.testing.assert_close(made.encode(x_BD) - 9, expected_BD, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(made.decode(expected_BD, x_BD), expected_BD * scale + centre, atol=1e-9, rtol=1e-5)


@pytest.mark.parametrize(("threshold", "n_active"), [(1.81, 1), (1.5, 2), (1.01, 2), (1.0, 3), (0.0, 3)])
def test_a_pursuit_ends_when_what_is_left_is_shorter_than_the_threshold(threshold: float, n_active: int) -> None:
    """Of (3, 1.5, 1) over the axes are left 1.80 after one step and 1 after two: exactly 1 is not shorter than 1."""
    pursuit = MatchingPursuit(torch.eye(3), 9, threshold, stop_on_repeat=True)
    expected = torch.tensor([[3.0, 1.5, 1.0]]) * (torch.arange(3) < n_active)
    torch.testing.assert_close(pursuit(torch.tensor([[3.0, 1.5, 1.0]])), expected)


def test_a_prediction_in_no_direction_is_zero_and_blocks_are_predicted_alike_in_pieces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made, x_NCD = temporal(D, 24), torch.randn(5, 4, D, generator=torch.Generator().manual_seed(3))
    assert made.context is not None
    whole = made.in_context(x_NCD)
    assert whole[..., D:].any()
    monkeypatch.setattr(products, "PIECE", 2 * 4 * 24)  # two blocks
    torch.testing.assert_close(made.in_context(x_NCD), whole)
    silent = replace(made.context.layers[0], b_o_F=torch.full((24,), -1e3))
    without = replace(made, context=replace(made.context, layers=(silent,)))
    assert torch.equal(without.in_context(x_NCD), torch.cat([x_NCD, torch.zeros_like(x_NCD)], -1))
