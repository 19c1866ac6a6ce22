"""Correlations against numpy and scipy on small data, against planted truths, and whatever the tiles and batches."""

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr
from torch import Tensor

from sae.measuring import correlation
from sae.measuring.active import Active
from sae.measuring.correlation import Correlation
from sae.measuring.nearest import Nearest, Similarity, joined
from tests.sae.measuring.similarities import assert_nearest, randn


def correlated(a_BF: Tensor, b_BG: Tensor, size: int = 100, chunk: int = 4) -> Similarity:
    """Streamed in batches of some size."""
    sums = Correlation(a_BF.shape[1], b_BG.shape[1])
    for part_BF, part_BG in zip(a_BF.split(size), b_BG.split(size), strict=True):
        sums.add(part_BF, part_BG)
    return sums.nearest(chunk)


@pytest.mark.parametrize("size", [1, 7, 500])
@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_universality_is_scipys_however_batched_and_chunked(size: int, chunk: int) -> None:
    a_BF, b_BG = randn(500, 11).relu(), (randn(500, 6) + randn(500, 6, seed=1)).relu()
    expected = np.array([[pearsonr(a, b).statistic for b in b_BG.T.numpy()] for a in a_BF.T.numpy()])
    result = correlated(a_BF, b_BG, size, chunk)
    assert_nearest(result.a_to_b, expected)
    assert_nearest(result.b_to_a, expected.T)


def test_a_permuted_and_rescaled_copy_is_the_same() -> None:
    acts_BF, order = randn(300, 9).relu(), torch.randperm(9, generator=torch.Generator().manual_seed(2))
    result = correlated(acts_BF, 5 * acts_BF[:, order] + 7)
    assert (result.a_to_b.mean, result.b_to_a.mean) == (pytest.approx(1), pytest.approx(1))
    assert result.b_to_a.match_F.tolist() == order.tolist()


def test_batches_longer_than_the_rows_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    a_BF, b_BG = randn(50, 3), randn(50, 4, seed=1)
    whole = correlated(a_BF, b_BG)
    monkeypatch.setattr(correlation, "ROWS", 8)
    torch.testing.assert_close(correlated(a_BF, b_BG).a_to_b.similarity_F, whole.a_to_b.similarity_F)


@pytest.mark.parametrize("size", [3, 100])
def test_constant_features_have_no_correlation(size: int) -> None:
    """Nor are they anyone's nearest, though every other correlation is negative."""
    a_B1 = randn(100, 1).float()
    constant_B1 = torch.full((100, 1), 0.1)
    result = correlated(torch.cat([a_B1, constant_B1], 1), torch.cat([constant_B1, -a_B1, 0 * a_B1], 1), size)
    assert result.a_to_b.similarity_F[0] == pytest.approx(-1)
    assert result.a_to_b.similarity_F.isnan().tolist() == [False, True]
    assert result.a_to_b.match_F.tolist() == [1, -1]
    assert result.b_to_a.match_F.tolist() == [-1, 0, -1]
    assert (result.a_to_b.undefined, result.b_to_a.undefined) == (1, 2)


def test_a_mean_far_from_zero_costs_no_digits() -> None:
    a_BF, b_BG = randn(400, 3), randn(400, 4, seed=1)
    near, far = correlated(a_BF, b_BG), correlated(a_BF + 2.0**24, b_BG - 2.0**26)
    torch.testing.assert_close(far.a_to_b.similarity_F, near.a_to_b.similarity_F, rtol=0, atol=1e-7)


def test_a_feature_active_once_is_not_constant() -> None:
    """Wherever it is: also on the first token, from which differences are taken."""
    for at in (0, 57):
        a_BF = torch.zeros(10_000, 2)
        a_BF[at, 0] = 1e3
        result = correlated(a_BF, a_BF, size=999)
        assert result.a_to_b.similarity_F[0] == pytest.approx(1, abs=1e-9)
        assert result.a_to_b.undefined == 1


def test_a_slice_of_a_is_a_slice_of_the_result() -> None:
    a_BF, b_BG = randn(200, 8), randn(200, 5, seed=1)
    whole, part = correlated(a_BF, b_BG).a_to_b, correlated(a_BF[:, 2:5], b_BG).a_to_b
    torch.testing.assert_close(part.similarity_F, whole.similarity_F[2:5])
    assert torch.equal(part.match_F, whole.match_F[2:5])


@pytest.mark.parametrize("size", [1, 3, 8])
def test_slices_of_a_join_into_the_whole(size: int) -> None:
    a_BF, b_BG = randn(200, 8), randn(200, 5, seed=1)
    a_BF[:, 1], b_BG[:, 2] = 3, 0
    whole, result = correlated(a_BF, b_BG), joined([correlated(part, b_BG) for part in a_BF.split(size, 1)])
    for expected, got in ((whole.a_to_b, result.a_to_b), (whole.b_to_a, result.b_to_a)):
        torch.testing.assert_close(got.similarity_F, expected.similarity_F, equal_nan=True)
        assert torch.equal(got.match_F, expected.match_F)


def test_what_is_reported() -> None:
    result = Nearest(torch.tensor([0.0, torch.nan, 1.0]), torch.tensor([0, -1, 1])).to_json()
    assert (result["mean"], result["undefined"]) == (0.5, 1)
    assert result["quantiles"] == pytest.approx({"0.05": 0.05, "0.25": 0.25, "0.5": 0.5, "0.75": 0.75, "0.95": 0.95})
    none = Nearest(torch.tensor([torch.nan]), torch.tensor([-1])).to_json()
    assert none == {"mean": None, "quantiles": None, "undefined": 1}


def test_no_tokens_and_empty_batches() -> None:
    sums = Correlation(2, 3)
    sums.add(torch.zeros(0, 2), torch.zeros(0, 3))
    assert sums.nearest().a_to_b.mean is None
    a_BF = randn(20, 2)
    sums.add(a_BF, a_BF[:, [0, 1, 0]])
    assert sums.nearest().a_to_b.mean == pytest.approx(1)


def test_a_caller_may_reuse_its_buffers() -> None:
    a_BF, b_BG = randn(60, 3) + 5, randn(60, 4, seed=1)
    sums, buffer_BF = Correlation(3, 4), torch.empty(20, 3, dtype=torch.float64)
    for part_BF, part_BG in zip(a_BF.split(20), b_BG.split(20), strict=True):
        sums.add(buffer_BF.copy_(part_BF), part_BG)
    assert torch.equal(buffer_BF, a_BF[40:])
    torch.testing.assert_close(sums.nearest().a_to_b.similarity_F, correlated(a_BF, b_BG).a_to_b.similarity_F)


def test_parameters_leave_no_graph_behind() -> None:
    a_BF = randn(20, 2).requires_grad_()
    sums = Correlation(2, 2)
    sums.add(a_BF, a_BF)
    assert not any(value.requires_grad for value in vars(sums).values() if isinstance(value, Tensor))
    assert not sums.nearest().a_to_b.similarity_F.requires_grad


def test_activations_without_a_correlation_are_refused() -> None:
    with pytest.raises(ValueError, match="not aligned"):
        Correlation(2, 2).add(torch.ones(4, 2), torch.ones(5, 2))
    with pytest.raises(ValueError, match="activations of a are not all finite"):
        correlated(torch.tensor([[1.0], [torch.inf]]), torch.ones(2, 1))
    sums = Correlation(1, 1)
    sums.add(torch.ones(2, 1), torch.tensor([[1.0], [torch.nan]]))
    assert sums.finite == (True, False)


def sparse_codes(seed: int, n_features: int, share: float = 0.03) -> Tensor:
    """Features of 600 tokens that are mostly zero; two are never zero, of which one is constant, and one is always."""
    drawn_BF = randn(600, n_features, seed=seed).float()
    acts_BF = drawn_BF.abs() * (randn(600, n_features, seed=seed + 100) > 0).float()
    acts_BF = acts_BF * (torch.rand(600, n_features, generator=torch.Generator().manual_seed(seed)) < 2 * share)
    acts_BF[:, 3], acts_BF[:, 5], acts_BF[:, 7] = drawn_BF[:, 3] + 1000, 0.1, 0
    return acts_BF


@pytest.mark.parametrize("size", [600, 50, 7])
def test_products_of_active_pairs_are_those_of_dense_matrices(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    a_BF, b_BG = sparse_codes(0, 60), sparse_codes(1, 50)
    b_BG[:, 20] = a_BF[:, 9] * 3
    monkeypatch.setattr(correlation, "WAITING_PAIRS", 200)
    assert Active.of(a_BF) is not None
    result = correlated(a_BF, b_BG, size)
    monkeypatch.setattr(Active, "of", lambda acts_BF: None)
    expected = correlated(a_BF, b_BG, size)
    for got, dense in ((result.a_to_b, expected.a_to_b), (result.b_to_a, expected.b_to_a)):
        torch.testing.assert_close(got.similarity_F, dense.similarity_F, rtol=0, atol=1e-9, equal_nan=True)
        assert torch.equal(got.match_F, dense.match_F)
    assert (result.a_to_b.undefined, result.a_to_b.match_F[9], result.b_to_a.match_F[20]) == (2, 20, 9)
    with np.errstate(invalid="ignore"):
        matrix = np.corrcoef(a_BF.double().T.numpy(), b_BG.double().T.numpy())[:60, 60:]
    known = [feature for feature in range(60) if feature not in (5, 7)]
    largest = np.nanmax(np.delete(matrix, (5, 7), 1)[known], 1)
    assert result.a_to_b.similarity_F[known].numpy() == pytest.approx(largest, abs=1e-7)


@pytest.mark.parametrize("size", [600, 50, 7])
def test_lists_of_active_features_give_the_same_digits(size: int) -> None:
    """Which features are active on all of the first batch, and so have an origin, depends on its size."""
    a_BF, b_BG = sparse_codes(0, 60), sparse_codes(1, 50)
    sums = Correlation(60, 50)
    for parts in zip(a_BF.split(size), b_BG.split(size), strict=True):
        a, b = (Active.of(part) for part in parts)
        assert a is not None
        assert b is not None
        assert np.array_equal(a.columns(np.array([5, 9])), parts[0][:, [5, 9]].double().numpy())
        sums.add_active(a, b)
    result, expected = sums.nearest(), correlated(a_BF, b_BG, size)
    assert sums.tokens == 600
    for got, dense in ((result.a_to_b, expected.a_to_b), (result.b_to_a, expected.b_to_a)):
        assert np.array_equal(got.similarity_F.numpy(), dense.similarity_F.numpy(), equal_nan=True)
        assert torch.equal(got.match_F, dense.match_F)


def test_active_activations_are_all_that_are_not_zero() -> None:
    acts_BF = sparse_codes(2, 64)
    active = Active.of(acts_BF)
    assert active is not None
    assert np.array_equal(active.matrix().toarray(), acts_BF.double().numpy())
    assert active.sums().tolist() == (acts_BF != 0).sum(0).tolist()
    left = active.without(np.array([3, 5])).matrix().toarray()
    assert not left[:, [3, 5]].any()
    assert np.array_equal(np.delete(left, [3, 5], 1), np.delete(acts_BF.double().numpy(), [3, 5], 1))
    assert Active.of(randn(8, 8)) is None
    assert Active.of(torch.zeros(0, 4)) is None


def test_a_negative_correlation_is_nearer_than_none_in_another_slice() -> None:
    """All of the first slice's features are constant: they are nobody's nearest."""
    nothing, negative = (Nearest(torch.tensor([v]), torch.tensor([m])) for v, m in ((torch.nan, -1), (-0.5, 0)))
    result = joined([Similarity(nothing, nothing), Similarity(negative, negative)])
    assert (result.b_to_a.similarity_F.tolist(), result.b_to_a.match_F.tolist()) == ([-0.5], [1])
