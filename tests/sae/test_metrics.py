"""Metrics against values that can be worked out by hand."""

import numpy as np
import pytest
import torch

from sae import baselines, metrics
from sae.dictionary import Dictionary


def test_reconstruction_by_hand() -> None:
    """Neurons lose the negative parts: FVU is their energy over the variance."""
    x_BD = torch.randn(2000, 5, generator=torch.Generator().manual_seed(0)) + 0.3
    found = metrics.reconstruction(baselines.neurons(x_BD), x_BD, rows=300)
    lost = x_BD.clamp_max(0).square().sum() / (x_BD - x_BD.mean(0)).square().sum()
    assert found.fvu == pytest.approx(float(lost), rel=1e-5)
    assert found.l0 == pytest.approx(float((x_BD > 0).sum(1).float().mean()))


def test_dead_share_and_density() -> None:
    x_BD = torch.tensor([[1.0, -1.0, 2.0], [3.0, -2.0, -1.0]])
    dictionary = baselines.neurons(x_BD)
    assert metrics.reconstruction(dictionary, x_BD).dead == pytest.approx(1 / 3)
    assert metrics.density(dictionary, x_BD).tolist() == [1.0, 0.0, 0.5]


def test_recovered_is_one_for_a_perfect_and_zero_for_a_zero_dictionary(planted: object) -> None:
    from pathlib import Path

    from sae.subject import boot

    subject = boot(str(Path(str(planted)) / "model"), prepend_bos=False)
    ids_NC = torch.arange(1, 9)[:, None].expand(8, 32)  # an untrained model that shares its embeddings says it again
    hook = "blocks.0.hook_resid_post"
    x_BD = subject.activations(ids_NC, hook).flatten(0, 1)
    against = metrics.baseline(subject, hook, ids_NC)
    assert metrics.cross_entropy(baselines.pca(x_BD), against).recovered == pytest.approx(1.0, abs=1e-3)
    d = x_BD.shape[1]
    nothing = Dictionary("zero", "sae", torch.zeros(d, 4), torch.zeros(4), torch.zeros(4, d), torch.zeros(d))
    assert metrics.cross_entropy(nothing, against).recovered == pytest.approx(0.0, abs=1e-6)


def test_recovered_from_mean(planted: object) -> None:
    """1 for a perfect dictionary, 0 for one that says the mean; not measured unless a mean is given."""
    from pathlib import Path

    from sae.subject import boot

    subject = boot(str(Path(str(planted)) / "model"), prepend_bos=False)
    ids_NC = torch.arange(1, 9).repeat(5)[:, None].expand(40, 32)  # see above; and more than a batch
    hook = "blocks.0.hook_resid_post"
    x_BD = subject.activations(ids_NC, hook).flatten(0, 1)
    mean_D = metrics.mean_activation(subject, hook, ids_NC)
    torch.testing.assert_close(mean_D, x_BD.double().mean(0))
    against = metrics.baseline(subject, hook, ids_NC, mean_D)
    assert metrics.cross_entropy(baselines.pca(x_BD), against).recovered_from_mean == pytest.approx(1.0, abs=1e-3)
    d = x_BD.shape[1]
    constant = Dictionary("mean", "sae", torch.zeros(d, 4), torch.zeros(4), torch.zeros(4, d), mean_D.float())
    said = metrics.cross_entropy(constant, against)
    assert said.recovered_from_mean == pytest.approx(0.0, abs=1e-5)
    assert said.recovered != pytest.approx(0.0, abs=1e-3)
    assert metrics.CrossEntropy(clean=1.0, reconstructed=1.0, zeroed=2.0).recovered_from_mean is None
    assert metrics.CrossEntropy(1.0, 1.0, zeroed=2.0, averaged=1.0).recovered_from_mean is None
    assert metrics.CrossEntropy(1.0, 1.5, zeroed=0.5).recovered is None  # an ablation that helps has no harm to avoid


def counted(acts_BF: torch.Tensor, size: int) -> metrics.Density:
    firing = metrics.Firing(acts_BF.shape[1])
    for part_BF in acts_BF.split(size):
        firing.add(part_BF)
    return firing.density()


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_streamed_density_is_the_whole_one(size: int) -> None:
    x_BD = torch.randn(1000, 6, generator=torch.Generator().manual_seed(0)) - torch.arange(6)
    dictionary = baselines.neurons(x_BD)
    found = counted(dictionary.encode(x_BD), size)
    assert torch.equal(found.density_F, metrics.density(dictionary, x_BD))
    assert found.dead == metrics.reconstruction(dictionary, x_BD).dead
    assert found.tokens == 1000


def spread_of(x_BD: torch.Tensor, size: int) -> metrics.Spread:
    spread = metrics.Spread()
    for part_BD in x_BD.split(size):
        spread.add(part_BD)
    return spread


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_streamed_spread_is_numpys(size: int) -> None:
    x_BD = torch.randn(1000, 6, generator=torch.Generator().manual_seed(0)) + torch.arange(6)
    found, x = spread_of(x_BD, size), x_BD.double().numpy()
    assert found.variation == pytest.approx(1000 * x.var(0).sum(), rel=1e-13)
    assert found.mean_D.numpy() == pytest.approx(x.mean(0), rel=1e-13)
    assert found.mean_square == pytest.approx((x**2).sum(1).mean(), rel=1e-13)
    assert found.tokens == 1000


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_neither_a_far_mean_nor_a_huge_first_vector_costs_digits(size: int) -> None:
    x_BD = torch.randn(1000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = 1000 * x_BD.numpy().var(0).sum()
    assert spread_of(x_BD + 2.0**26, size).variation == pytest.approx(expected, rel=1e-7)
    x_BD[0] = 1e6
    assert spread_of(x_BD, size).variation == pytest.approx(1000 * x_BD.numpy().var(0).sum(), rel=1e-13)


@pytest.mark.parametrize("size", [1, 3])
def test_activations_that_are_all_equal_have_no_fvu(size: int) -> None:
    x_BD = torch.full((10, 2), 0.1)
    assert spread_of(x_BD, size).variation == 0
    assert metrics.reconstruction(baselines.neurons(x_BD), x_BD, rows=size).fvu is None


def test_rows_at_once_are_bounded() -> None:
    assert metrics.rows_at_once(8) == 4096
    assert metrics.rows_at_once(2**20) * 2**20 == metrics.ELEMENTS
    assert metrics.rows_at_once(2**40) == 1


def test_histogram_by_hand_and_against_numpy() -> None:
    density_F = torch.tensor([0.0, 1.0, 0.5, 0.1, 0.02, 0.001], dtype=torch.float64)
    coarse = metrics.Density(density_F, 1000).histogram(per_decade=1)
    assert coarse == metrics.Histogram([-3.0, -2.0, -1.0, 0.0], [1, 1, 3])
    random_F = torch.rand(500, generator=torch.Generator().manual_seed(0), dtype=torch.float64) ** 4
    fine = metrics.Density(random_F, 10**7).histogram(per_decade=5)
    expected, _ = np.histogram(np.log10(random_F.numpy()).clip(-7), np.linspace(-7, 0, 36))
    assert fine.counts == expected.tolist()
    assert sum(fine.counts) == 500


def test_every_living_feature_is_in_a_bin() -> None:
    for tokens in (1, 3, 10, 999, 1000, 1001, 2**40):
        density_F = torch.tensor([0, 1, tokens], dtype=torch.float64) / tokens
        assert sum(metrics.Density(density_F, tokens).histogram().counts) == 2


def test_ultralow_is_apart_from_dead_and_undefined_on_few_tokens() -> None:
    density_F = torch.tensor([0.0, 5e-7, 1e-6, 0.1], dtype=torch.float64)
    found = metrics.Density(density_F, 2_000_000)
    assert (found.dead, found.ultralow) == (0.25, 0.25)
    assert metrics.Density(density_F, 1_000_000).ultralow is None
    with pytest.raises(ValueError, match="no tokens"):
        metrics.Firing(3).density()
