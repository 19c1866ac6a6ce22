"""Which features are kept, against torch.topk; products with the few active ones, against dense matrices."""

import pytest
import torch
from torch import Tensor

from sae.largest import top_k
from sae.training.sparse import Product, Transposed, batch_top_k, by_index, by_row


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("n_features", [8, 37, 64, 100, 1024, 1030])
@pytest.mark.parametrize("k", [1, 2, 5, 8, 31, 36, 64])
def test_top_k(n_features: int, k: int) -> None:
    """Widths that are no multiple of a group's size too, and k up to all features."""
    k, pre_BF = min(k, n_features), random(33, n_features)
    values_BK, features_BK = top_k(pre_BF, k)
    expected = pre_BF.topk(k, dim=1)
    assert torch.equal(values_BK.sort(1, descending=True).values, expected.values)
    assert torch.equal(features_BK.sort(1).values, expected.indices.sort(1).values)
    assert torch.equal(pre_BF.gather(1, features_BK), values_BK)


def test_top_k_within_one_group() -> None:
    """All of the largest in one group of the first stage (features a stride apart), or side by side."""
    for positions in (range(0, 1024, 128), range(5, 13)):
        pre_BF = random(4, 1024)
        pre_BF[:, list(positions)] += 100
        assert sorted(top_k(pre_BF, 8)[1][2].tolist()) == list(positions)


@pytest.mark.parametrize("quantile", [0.0, 0.5, 0.9, 0.94, 0.9499, 0.9501, 0.96, 1.0, None])
def test_batch_top_k(quantile: float | None) -> None:
    """Whatever the floor: far below, below, just at, above the n-th largest, above all."""
    pre_BF = random(40, 50)
    n = 100  # of 2,000: 5%
    floor = torch.tensor(1e9).double() if quantile is None else pre_BF.quantile(quantile)
    values_N, indices_N = batch_top_k(pre_BF, n, floor)
    expected = pre_BF.flatten().topk(n)
    assert torch.equal(values_N.sort(descending=True).values, expected.values)
    assert torch.equal(indices_N, expected.indices.sort().values)
    assert torch.equal(pre_BF.flatten()[indices_N], values_N)


def test_batch_top_k_of_everything() -> None:
    pre_BF = random(3, 4)
    values_N, indices_N = batch_top_k(pre_BF, 12, torch.zeros(()))
    assert torch.equal(indices_N, torch.arange(12))
    assert torch.equal(values_N, pre_BF.flatten())


def listing() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(values, rows, features) in no order, and the same as a matrix [7, 9]; rows 0, 3, 6 and features 0, 8 empty."""
    indices_N = torch.tensor([(5, 2), (1, 7), (2, 1), (5, 1), (1, 1), (4, 3), (2, 7), (5, 6)])
    values_N, dense_RF = random(8).abs(), torch.zeros(7, 9, dtype=torch.float64)
    dense_RF[indices_N[:, 0], indices_N[:, 1]] = values_N
    return values_N, indices_N[:, 0], indices_N[:, 1], dense_RF


def test_by_index_sorts_by_row() -> None:
    values_N, rows_N, features_N, dense_RF = listing()
    entries = by_index(values_N, rows_N, features_N, 7)
    assert entries.rows_N.tolist() == sorted(rows_N.tolist())
    assert torch.equal(dense_RF[entries.rows_N, entries.features_N], entries.values_N)
    assert entries.offsets_R.tolist() == [int((rows_N < row).sum()) for row in range(7)]


def test_by_row() -> None:
    values_BK, features_BK = random(4, 3).abs(), torch.tensor([[3, 0, 8], [1, 2, 3], [8, 7, 6], [0, 1, 2]])
    dense_RF = torch.zeros(4, 9, dtype=torch.float64).scatter(1, features_BK, values_BK)
    entries = by_row(values_BK, features_BK)
    assert entries.offsets_R.tolist() == [0, 3, 6, 9]
    assert torch.equal(dense_RF[entries.rows_N, entries.features_N], entries.values_N)
    W_FD = random(9, 5, seed=1)
    torch.testing.assert_close(Product.of(entries, W_FD).made_RD, dense_RF @ W_FD)


def test_product_and_its_way_back() -> None:
    values_N, rows_N, features_N, dense_RF = listing()
    entries, W_FD, grad_RD = by_index(values_N, rows_N, features_N, 7), random(9, 5, seed=1), random(7, 5, seed=2)
    product = Product.of(entries, W_FD)
    assert not product.made_RD.requires_grad
    torch.testing.assert_close(product.made_RD, dense_RF @ W_FD)
    expected_RF = grad_RD @ W_FD.T
    torch.testing.assert_close(product.back(grad_RD), expected_RF[entries.rows_N, entries.features_N])


def test_transposed_product() -> None:
    """Features in no row get zeros."""
    values_N, rows_N, features_N, dense_RF = listing()
    entries, x_RD = by_index(values_N, rows_N, features_N, 7), random(7, 5, seed=3)
    made_FD = Transposed.of(entries, 9).times(entries.values_N, x_RD)
    torch.testing.assert_close(made_FD, dense_RF.T @ x_RD)
    assert not made_FD[[0, 8]].any()


def test_transposed_product_with_repeated_vectors() -> None:
    """A list with two groups of four rows, for four vectors: row r is vector r mod 4."""
    values_N, rows_N, features_N, dense_RF = listing()
    entries, x_BD = by_index(values_N, rows_N, features_N, 8), random(4, 5, seed=4)
    made_FD = Transposed.of(entries, 9).times(entries.values_N, x_BD)
    torch.testing.assert_close(made_FD, dense_RF.T @ torch.cat([x_BD, x_BD[:3]]))


def test_nothing_listed() -> None:
    none = torch.zeros(0, dtype=torch.long)
    entries = by_index(torch.zeros(0, dtype=torch.float64), none, none, 3)
    assert not Product.of(entries, random(9, 5)).made_RD.any()
    assert not Transposed.of(entries, 9).times(entries.values_N, random(3, 5)).any()
