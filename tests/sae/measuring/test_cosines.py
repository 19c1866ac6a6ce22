"""Cosines against scipy on small data, against planted truths, and whatever the tiles."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist, cosine
from torch import Tensor

from sae.common.progress import Silent
from sae.measuring import cosines
from sae.measuring.cosines import max_cosine, max_cosine_within, paired_cosine
from tests.sae.measuring.similarities import assert_nearest, randn

COSINE = 1e-6
"""Digits of a cosine: products are in single precision."""


@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_max_cosine_is_scipys(chunk: int) -> None:
    a_FD, b_GD = randn(11, 5), randn(7, 5, seed=1)
    expected = 1 - cdist(a_FD.numpy(), b_GD.numpy(), "cosine")
    result = max_cosine(a_FD, b_GD, chunk)
    assert_nearest(result.a_to_b, expected, COSINE)
    assert_nearest(result.b_to_a, expected.T, COSINE)
    assert result.a_to_b.mean == pytest.approx(expected.max(1).mean(), abs=COSINE)
    assert result.b_to_a.mean == pytest.approx(expected.max(0).mean(), abs=COSINE)


@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_max_cosine_within_is_scipys_without_the_diagonal(chunk: int) -> None:
    w_FD = randn(11, 5)
    expected = 1 - cdist(w_FD.numpy(), w_FD.numpy(), "cosine")
    np.fill_diagonal(expected, -np.inf)
    result = max_cosine_within(w_FD, chunk)
    assert_nearest(result, expected, COSINE)
    quantiles, required = result.quantiles((0.1, 0.5)), np.quantile(expected.max(1), (0.1, 0.5))
    assert quantiles == pytest.approx(dict(zip((0.1, 0.5), required, strict=True)), abs=COSINE)


def test_a_permuted_and_rescaled_copy_is_the_same() -> None:
    w_FD, order = randn(9, 6).float(), torch.randperm(9, generator=torch.Generator().manual_seed(2))
    result = max_cosine(w_FD, 3 * w_FD[order], chunk=4)
    assert (result.a_to_b.mean, result.b_to_a.mean) == (pytest.approx(1), pytest.approx(1))
    assert result.b_to_a.match_F.tolist() == order.tolist()


def test_paired_cosine_is_scipys() -> None:
    a_FD, b_FD = randn(7, 5), randn(7, 5, seed=1)
    b_FD[3], others = 0, [0, 1, 2, 4, 5, 6]
    result = paired_cosine(a_FD, b_FD)
    expected = [1 - cosine(a, b) for a, b in zip(a_FD[others], b_FD[others], strict=True)]
    assert result.similarity_F[others].tolist() == pytest.approx(expected)
    assert (result.undefined, result.match_F.tolist()) == (1, [0, 1, 2, -1, 4, 5, 6])
    with pytest.raises(ValueError, match="no pairs"):
        paired_cosine(a_FD, b_FD[1:])


@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_every_pair_of_tiles_is_compared_once(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    """Of one dictionary with itself only the upper triangle, and always in single precision."""
    made: list[tuple[int, int]] = []
    product = cosines._product

    def counting(a_FD: Tensor, b_GD: Tensor) -> Tensor:
        assert a_FD.dtype == b_GD.dtype == torch.float32
        made.append((len(a_FD), len(b_GD)))
        return product(a_FD, b_GD)

    monkeypatch.setattr(cosines, "_product", counting)
    max_cosine(randn(11, 5), randn(7, 5), chunk)
    assert sum(a * b for a, b in made) == 77
    made.clear()
    max_cosine_within(randn(11, 5), chunk)
    tiles = -(-11 // chunk)
    assert len(made) == tiles * (tiles + 1) // 2


def test_long_and_short_directions_are_normalised_in_double() -> None:
    """Squares of 1e-30 and 1e30 are not numbers in single precision."""
    w_FD = randn(5, 4).float()
    scale_F1 = torch.tensor([1e-30, 1e30, 1.0, 1e-25, 1e25])[:, None]
    scaled, plain = max_cosine_within(w_FD * scale_F1), max_cosine_within(w_FD)
    torch.testing.assert_close(scaled.similarity_F, plain.similarity_F, atol=COSINE, rtol=0)


def test_the_cosines_progress_ends_at_its_total() -> None:
    reported: list[tuple[int, int]] = []

    class Told(Silent):
        def update(self, done: int, total: int, note: str | None = None) -> None:
            reported.append((done, total))

    max_cosine_within(randn(7, 3), chunk=3, report=Told)
    max_cosine(randn(7, 3), randn(4, 3), chunk=3, report=Told)
    assert reported == [(33, 49), (48, 49), (49, 49), (3, 7), (6, 7), (7, 7)]


def test_paired_cosines_are_computed_a_few_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    a_FD, b_FD = randn(10, 4), randn(10, 4, seed=1)
    sizes: list[int] = []
    unit = cosines._unit_double

    def counting(w_FD: Tensor) -> Tensor:
        sizes.append(len(w_FD))
        return unit(w_FD)

    monkeypatch.setattr(cosines, "_unit_double", counting)
    monkeypatch.setattr(cosines, "CHUNK", 4)
    result = paired_cosine(a_FD, b_FD)
    assert sizes == [4, 4, 4, 4, 2, 2]
    expected = [1 - cosine(a, b) for a, b in zip(a_FD, b_FD, strict=True)]
    assert result.similarity_F.tolist() == pytest.approx(expected)


def test_negated_directions_do_not_match() -> None:
    eye_FD = torch.eye(5)
    assert max_cosine(eye_FD, -eye_FD).a_to_b.mean == 0
    assert max_cosine(eye_FD[:1], -eye_FD[:1]).a_to_b.mean == -1
    assert max_cosine(eye_FD, torch.cat([eye_FD, -eye_FD])).a_to_b.mean == 1


def test_mmcs_depends_on_its_direction() -> None:
    eye_FD = torch.eye(4)
    result = max_cosine(eye_FD[:2], eye_FD)
    assert (result.a_to_b.mean, result.b_to_a.mean) == (1.0, 0.5)


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_duplicated_features_are_each_others_nearest(chunk: int) -> None:
    w_FD = torch.cat([torch.eye(4), torch.eye(4)[:2]])
    result = max_cosine_within(w_FD, chunk)
    assert result.similarity_F.tolist() == [1, 1, 0, 0, 1, 1]
    assert [result.match_F[index] for index in (0, 1, 4, 5)] == [4, 5, 0, 1]


def test_zero_directions_have_no_cosine() -> None:
    w_FD = torch.eye(3)
    w_FD[1] = 0
    result = max_cosine(w_FD, torch.eye(3), chunk=2)
    assert result.a_to_b.similarity_F.isnan().tolist() == [False, True, False]
    assert result.a_to_b.match_F.tolist() == [0, -1, 2]
    assert (result.a_to_b.mean, result.a_to_b.undefined) == (1.0, 1)
    assert result.b_to_a.similarity_F.tolist() == [1, 0, 1]
    alone = max_cosine_within(torch.ones(1, 3))
    assert (alone.mean, alone.quantiles(), alone.undefined) == (None, {}, 1)


def test_directions_without_a_cosine_are_refused() -> None:
    with pytest.raises(ValueError, match="width 3 and 4"):
        max_cosine(torch.ones(2, 3), torch.ones(2, 4))
    with pytest.raises(ValueError, match="directions of b are not all finite"):
        max_cosine(torch.ones(2, 3), torch.full((2, 3), torch.nan))
    with pytest.raises(ValueError, match="nothing to compare"):
        max_cosine(torch.ones(2, 3), torch.ones(0, 3))


def test_cosines_of_parameters_leave_no_graph_behind() -> None:
    assert not max_cosine_within(randn(20, 2).requires_grad_()).similarity_F.requires_grad
