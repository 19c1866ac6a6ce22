"""Feature splitting: planted splits are found by direction and by firing, and shuffled ones are not."""

import torch
from torch import Tensor

from sae.dictionary import Dictionary
from sae.measuring.splitting import splits, token_shares

D = 8


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def dictionary(W_FD: Tensor) -> Dictionary:
    n = len(W_FD)
    return Dictionary("d", "sae", W_FD.T.contiguous(), torch.full((n,), -0.5), W_FD, torch.zeros(W_FD.shape[1]))


def test_planted_splits_are_found_and_features_that_never_fire_have_no_parent() -> None:
    """Feature f of four becomes two near copies, 2f and 2f + 1; a ninth is never active, and so is a fifth."""
    small_FD = torch.eye(D)[:4]
    noise_GD = torch.cat([torch.zeros(8, 4), 0.3 * random(8, D - 4, seed=0)], 1)
    large_GD = small_FD.repeat_interleave(2, 0) + noise_GD
    dead_1D = -torch.eye(D)[:1]
    x_BD = random(2_000, D, seed=1).abs() * (torch.rand(2_000, D, generator=torch.Generator().manual_seed(2)) < 0.3)
    smaller, larger = dictionary(torch.cat([small_FD, dead_1D])), dictionary(torch.cat([large_GD, dead_1D]))
    found = splits(smaller, larger, x_BD)
    expected_G = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3, -1])
    assert torch.equal(found.by_cosine_G, expected_G)
    assert torch.equal(found.by_firing_G, expected_G)
    assert found.live_F.tolist() == [True] * 4 + [False]
    cosine = torch.nn.functional.cosine_similarity(large_GD, small_FD.repeat_interleave(2, 0))
    torch.testing.assert_close(found.cosine_G[:8], cosine.double())
    acts = [torch.relu(x_BD @ W.T - 0.5) for W in (large_GD, small_FD)]
    correlation_GF = torch.corrcoef(torch.cat([acts[0].T, acts[1].T]).double())[:8, 8:]
    torch.testing.assert_close(found.correlation_G[:8], correlation_GF.amax(1))
    assert found.children(0.5).tolist() == [2, 2, 2, 2, 0]
    assert found.children(float(cosine.max())).sum() == 1


def test_unrelated_directions_have_no_children() -> None:
    x_BD = random(500, 64, seed=0)
    found = splits(dictionary(random(32, 64, seed=1)), dictionary(random(64, 64, seed=2)), x_BD)
    assert found.children(0.7).sum() == 0
    assert (found.by_cosine_G == found.by_firing_G).double().mean() > 1 / 32


def test_shares_of_tokens_are_counted_by_hand() -> None:
    acts_BF = torch.tensor([[1.0, 0, 0], [3.0, 0, 2.0], [4.0, 0, 2.0]])
    shares_FV = token_shares(acts_BF, torch.tensor([5, 5, 1]), 6)
    expected_FV = torch.zeros(3, 6)
    expected_FV[0, 5], expected_FV[0, 1], expected_FV[2, 5], expected_FV[2, 1] = 0.5, 0.5, 0.5, 0.5
    torch.testing.assert_close(shares_FV, expected_FV)


def test_a_feature_that_never_fires_is_no_parent_though_it_points_the_same_way() -> None:
    small, large = dictionary(torch.eye(D)[:2]), dictionary(torch.eye(D)[:1])
    small.b_enc_F[0] = -100.0
    found = splits(small, large, random(50, D, seed=0).abs() + 1)
    assert found.by_cosine_G.tolist() == found.by_firing_G.tolist() == [1]
    assert found.cosine_G.tolist() == [0.0]
