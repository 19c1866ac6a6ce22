"""Metrics against values that can be worked out by hand."""

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
    ids_NC = torch.randint(1, 20, (8, 32), generator=torch.Generator().manual_seed(0))
    hook = "blocks.0.hook_resid_post"
    x_BD = subject.activations(ids_NC, hook).flatten(0, 1)
    against = metrics.baseline(subject, hook, ids_NC)
    assert metrics.cross_entropy(baselines.pca(x_BD), against).recovered == pytest.approx(1.0, abs=1e-3)
    d = x_BD.shape[1]
    nothing = Dictionary("zero", "sae", torch.zeros(d, 4), torch.zeros(4), torch.zeros(4, d), torch.zeros(d))
    assert metrics.cross_entropy(nothing, against).recovered == pytest.approx(0.0, abs=1e-6)
