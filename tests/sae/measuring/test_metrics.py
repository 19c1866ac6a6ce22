"""Metrics against values that can be worked out by hand."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sae.baselines import neurons, pca
from sae.dictionary import Dictionary, Normalisation, ReLU, TopK
from sae.measuring import active, firing, metrics, reconstructed
from sae.models.subject import Subject, boot


def test_reconstruction_by_hand() -> None:
    """Neurons lose the negative parts: FVU is their energy over the variance."""
    x_BD = torch.randn(2000, 5, generator=torch.Generator().manual_seed(0)) + 0.3
    result = metrics.reconstruction(neurons.neurons(x_BD), x_BD, rows=300)
    lost = x_BD.clamp_max(0).square().sum() / (x_BD - x_BD.mean(0)).square().sum()
    assert result.fvu == pytest.approx(float(lost), rel=1e-5)
    assert result.l0 == pytest.approx(float((x_BD > 0).sum(1).float().mean()))


def test_dead_share_and_density() -> None:
    x_BD = torch.tensor([[1.0, -1.0, 2.0], [3.0, -2.0, -1.0]])
    dictionary = neurons.neurons(x_BD)
    assert metrics.reconstruction(dictionary, x_BD).dead == pytest.approx(1 / 3)
    assert metrics.density(dictionary, x_BD).tolist() == [1.0, 0.0, 0.5]


def test_recovered_is_one_for_a_perfect_and_zero_for_a_zero_dictionary(planted: Path) -> None:
    subject = boot(str(planted / "model"), prepend_bos=False)
    ids_NC = torch.arange(1, 9)[:, None].expand(8, 32)  # an untrained model that shares its embeddings says it again
    hook = "blocks.0.hook_resid_post"
    x_BD = subject.activations(ids_NC, hook).flatten(0, 1)
    against = metrics.ablations(subject, hook, ids_NC)
    assert metrics.cross_entropy(pca.pca(x_BD), against).recovered == pytest.approx(1.0, abs=1e-3)
    d = x_BD.shape[1]
    nothing = Dictionary("zero", "sae", torch.zeros(d, 4), torch.zeros(4), torch.zeros(4, d), torch.zeros(d))
    assert metrics.cross_entropy(nothing, against).recovered == pytest.approx(0.0, abs=1e-6)


def test_recovered_from_mean(planted: Path) -> None:
    """1 for a perfect dictionary, 0 for one that says the mean; not measured unless a mean is given."""
    subject = boot(str(planted / "model"), prepend_bos=False)
    ids_NC = torch.arange(1, 9).repeat(5)[:, None].expand(40, 32)  # see above; and more than a batch
    hook = "blocks.0.hook_resid_post"
    x_BD = subject.activations(ids_NC, hook).flatten(0, 1)
    mean_D = x_BD.double().mean(0)
    against = metrics.ablations(subject, hook, ids_NC, mean_D)
    assert metrics.cross_entropy(pca.pca(x_BD), against).recovered_from_mean == pytest.approx(1.0, abs=1e-3)
    d = x_BD.shape[1]
    constant = Dictionary("mean", "sae", torch.zeros(d, 4), torch.zeros(4), torch.zeros(4, d), mean_D.float())
    message = metrics.cross_entropy(constant, against)
    assert message.recovered_from_mean == pytest.approx(0.0, abs=1e-5)
    assert message.recovered != pytest.approx(0.0, abs=1e-3)
    assert metrics.CrossEntropy(clean=1.0, reconstructed=1.0, zeroed=2.0).recovered_from_mean is None
    assert metrics.CrossEntropy(1.0, 1.0, zeroed=2.0, averaged=1.0).recovered_from_mean is None
    assert metrics.CrossEntropy(1.0, 1.5, zeroed=0.5).recovered is None  # an ablation that helps has no harm to avoid


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_density_is_counted_whatever_the_batches(size: int) -> None:
    """Feature f is active on every f-th of 60 tokens, the 0-th on none: shares 0, 1, 1/2, 1/3, 1/4, 1/5."""
    acts_BF = torch.zeros(60, 6)
    for feature in range(1, 6):
        acts_BF[::feature, feature] = 0.1 * feature
    counts = firing.Firing(6)
    for part_BF in acts_BF.split(size):
        counts.add(part_BF)
    result = counts.density()
    assert counts.counts_F.tolist() == [0, 60, 30, 20, 15, 12]
    assert result.density_F.tolist() == pytest.approx([0, 1, 1 / 2, 1 / 3, 1 / 4, 1 / 5])
    assert (result.dead, result.tokens) == (pytest.approx(1 / 6), 60)


class Counting(ReLU):
    """A ReLU that keeps how many vectors it was given at once."""

    sizes: list[int] = []  # noqa: RUF012

    def __call__(self, pre_BF: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(pre_BF))
        return super().__call__(pre_BF)


@pytest.mark.parametrize("measure", [metrics.reconstruction, metrics.density])
def test_features_held_at_once_are_bounded(monkeypatch: pytest.MonkeyPatch, measure: Any) -> None:
    """Four features of eight vectors may be held."""
    monkeypatch.setattr(metrics, "ELEMENTS", 32)
    monkeypatch.setattr(Counting, "sizes", [])
    x_BD = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    measure(replace(neurons.neurons(x_BD), activation=Counting()), x_BD)
    assert Counting.sizes == [8, 8, 4]


def test_blocks_at_once_are_bounded_by_tokens_and_logits() -> None:
    assert [metrics.blocks_at_once(context) for context in (16, 128, 1024, 10**6)] == [32, 32, 8, 1]
    small, gpt2, gemma = ((64, 500), (128, 50_257), (1024, 256_000))
    assert [metrics.loss_blocks_at_once(*each) for each in (small, gpt2, gemma)] == [32, 20, 1]


def test_losses_do_not_depend_on_the_blocks_at_once(planted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = boot(str(planted / "model"), prepend_bos=False)
    assert subject.vocabulary == 25
    sizes: list[int] = []
    original = Subject.losses

    def counting(self: Subject, ids_NC: torch.Tensor, *options: Any) -> torch.Tensor:
        sizes.append(len(ids_NC))
        return original(self, ids_NC, *options)

    monkeypatch.setattr(Subject, "losses", counting)
    ids_NC = torch.randint(1, 20, (40, 10), generator=torch.Generator().manual_seed(0))
    whole = metrics.ablations(subject, "hook_embed", ids_NC)
    assert sizes == [32, 8] * 2
    sizes.clear()
    monkeypatch.setattr(metrics, "LOGITS", 10 * 25 * 15)
    parts = metrics.ablations(subject, "hook_embed", ids_NC)
    assert sizes == [15, 15, 10] * 2
    assert [parts.clean, parts.zeroed] == pytest.approx([whole.clean, whole.zeroed], rel=1e-6)


def spread_of(x_BD: torch.Tensor, size: int) -> metrics.Spread:
    spread = metrics.Spread()
    for part_BD in x_BD.split(size):
        spread.add(part_BD)
    return spread


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_streamed_spread_is_numpys(size: int) -> None:
    x_BD = torch.randn(1000, 6, generator=torch.Generator().manual_seed(0)) + torch.arange(6)
    result, x = spread_of(x_BD, size), x_BD.double().numpy()
    assert result.variation == pytest.approx(1000 * x.var(0).sum(), rel=1e-13)
    assert result.mean_D.numpy() == pytest.approx(x.mean(0), rel=1e-13)
    assert result.mean_square == pytest.approx((x**2).sum(1).mean(), rel=1e-13)
    assert result.tokens == 1000


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
    assert metrics.reconstruction(neurons.neurons(x_BD), x_BD, rows=size).fvu is None


def test_rows_at_once_are_bounded() -> None:
    assert metrics.rows_at_once(8) == 4096
    assert metrics.rows_at_once(2**20) * 2**20 == metrics.ELEMENTS
    assert metrics.rows_at_once(2**40) == 1


def test_histogram_by_hand() -> None:
    density_F = torch.tensor([0.0, 1.0, 0.5, 0.1, 0.02, 0.001], dtype=torch.float64)
    coarse = firing.Density(density_F, 1000).histogram(per_decade=1)
    assert coarse == firing.Histogram([-3.0, -2.0, -1.0, 0.0], [1, 1, 3])
    fine = firing.Density(torch.tensor([0.9, 0.4, 0.3, 0.2, 0.011, 0.05], dtype=torch.float64), 100).histogram(2)
    assert firing.Density(torch.tensor([1 / 2000]), 2000).histogram(1).counts == [1, 0, 0, 0]  # decades down to 1e-4
    # borders at 1, 10^-0.5 = 0.316, 0.1, 10^-1.5 = 0.0316, 0.01
    assert fine == firing.Histogram([-2.0, -1.5, -1.0, -0.5, 0.0], [1, 1, 2, 2])


def test_every_living_feature_is_in_a_bin() -> None:
    for tokens in (1, 3, 10, 999, 1000, 1001, 2**40):
        density_F = torch.tensor([0, 1, tokens], dtype=torch.float64) / tokens
        assert sum(firing.Density(density_F, tokens).histogram().counts) == 2


def test_ultralow_is_apart_from_dead_and_undefined_on_few_tokens() -> None:
    density_F = torch.tensor([0.0, 5e-7, 1e-6, 0.1], dtype=torch.float64)
    result = firing.Density(density_F, 10_000_000)
    assert (result.dead, result.ultralow) == (0.25, 0.25)
    assert firing.Density(density_F, 9_999_999).ultralow is None  # five tokens of so many are noise
    with pytest.raises(ValueError, match="no tokens"):
        firing.Firing(3).density()


@pytest.mark.parametrize("normalisation", ["none", "layer_norm"])
@pytest.mark.parametrize("scaled", [False, True])
def test_wide_dictionaries_are_measured_from_their_active_features(
    normalisation: Normalisation, scaled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if all features were multiplied, to float tolerance."""
    generator = torch.Generator().manual_seed(0)
    x_BD, W_DF = torch.randn(300, 8, generator=generator), torch.randn(8, 128, generator=generator)
    activation = TopK(5, torch.rand(128, generator=generator) + 0.5 if scaled else None)
    dictionary = Dictionary(
        "wide",
        "sae",
        W_DF,
        torch.zeros(128),
        W_DF.T.contiguous(),
        torch.ones(8),
        activation,
        normalisation=normalisation,
    )
    dense = metrics.reconstruction(dictionary, x_BD, rows=64)
    monkeypatch.setattr(reconstructed, "WIDE", 128)
    monkeypatch.setattr(active, "FEWEST", 20)
    monkeypatch.setattr(active, "CACHED", 1)
    for name in ("encode", "decode"):
        monkeypatch.setattr(Dictionary, name, None)  # not called
    sparse = metrics.reconstruction(dictionary, x_BD, rows=64)
    assert (sparse.l0, sparse.dead, sparse.tokens) == (dense.l0, dense.dead, dense.tokens)
    assert sparse.l0 > 1
    assert sparse.fvu == pytest.approx(dense.fvu, rel=1e-5)
