"""Stability of features against brute force on small matrices, and on planted truths."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch

from sae.dictionary import Dictionary, ReLU
from sae.measuring import stability
from sae.measuring.stability import MOST_FEATURES, THRESHOLD


def random_dictionary(n_features: int, width: int, seed: int) -> Dictionary:
    generator = torch.Generator().manual_seed(seed)
    encoder, decoder = (torch.randn(n_features, width, generator=generator) for _ in range(2))
    return Dictionary("d", "sae", encoder.T, torch.zeros(n_features), decoder, torch.zeros(width), activation=ReLU())


def permuted(one: Dictionary, seed: int, noise: float, scale: float = 3.0) -> tuple[Dictionary, torch.Tensor]:
    """The same dictionary in another order, with noise of a relative norm; and which feature lies where."""
    generator = torch.Generator().manual_seed(seed)
    order_F = torch.randperm(one.n_features, generator=generator)
    noises = (torch.randn(one.W_dec_FD.shape, generator=generator) * noise for _ in range(2))
    encoder_FD, decoder_FD = (w[order_F] + n for w, n in zip((one.W_enc_DF.T, one.W_dec_FD), noises, strict=True))
    return replace(one, W_enc_DF=scale * encoder_FD.T, W_dec_FD=scale * decoder_FD), order_F


def cosines(a_FD: torch.Tensor, b_GD: torch.Tensor) -> np.ndarray:
    a, b = a_FD.double().numpy(), b_GD.double().numpy()
    return a @ b.T / np.outer(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1))


@pytest.mark.parametrize("seed", range(4))
def test_matching_is_the_best_of_all_permutations(seed: int) -> None:
    """Three dictionaries of six features: the pairs, the share of the others, PW-MCC."""
    three = [random_dictionary(6, 3, 10 * seed + number) for number in range(3)]
    smaller, correlations = np.zeros((3, 3, 6)), []
    for a in range(3):
        for b in range(3):
            encoder = cosines(three[a].W_enc_DF.T, three[b].W_enc_DF.T)
            decoder = cosines(three[a].W_dec_FD, three[b].W_dec_FD)
            best = max(permutations(range(6)), key=lambda p: (encoder + decoder)[range(6), p].sum())
            smaller[a, b] = np.minimum(encoder, decoder)[range(6), best]
            if a < b:
                correlations.append(max(np.abs(decoder)[range(6), p].mean() for p in permutations(range(6))))
    result = stability.stability(three)
    for a, one in enumerate(result):
        others = [b for b in range(3) if b != a]
        assert one.reappears_F == pytest.approx((smaller[a, others] >= THRESHOLD).mean(0))
        assert one.cosine_F == pytest.approx(smaller[a, others].mean(0), abs=1e-6)
        assert one.pw_mcc == pytest.approx(np.mean(correlations), abs=1e-6)


def test_a_permuted_dictionary_with_little_noise_is_stable() -> None:
    """Cosines are 1 / sqrt(1 + noise^2) in expectation: 0.98 at 0.2, which is PW-MCC too."""
    one = random_dictionary(200, 64, 0)
    other, _ = permuted(one, 1, noise=0.2)
    for result in stability.stability([one, other]):
        assert result.reappears_F.tolist() == [1.0] * 200
        assert result.pw_mcc == pytest.approx(1 / np.sqrt(1.04), abs=0.01)


def test_independent_dictionaries_share_next_to_nothing() -> None:
    result = stability.stability([random_dictionary(200, 64, seed) for seed in range(3)])
    assert all(one.reappears_F.max() == 0 for one in result)
    assert result[0].pw_mcc < 0.45  # what 200 x 200 random directions of width 64 reach by matching alone


def test_half_of_the_features_recur_in_one_of_two_other_seeds() -> None:
    """The first 100 features of the first dictionary are in the second, none in the third."""
    one, foreign = random_dictionary(200, 64, 0), random_dictionary(200, 64, 7)
    half, order_F = permuted(one, 1, noise=0.1)
    foreign_half = torch.where(order_F[:, None] < 100, half.W_dec_FD, foreign.W_dec_FD)
    second = replace(half, W_dec_FD=foreign_half)
    result = stability.stability([one, second, random_dictionary(200, 64, 8)])
    assert result[0].reappears_F.tolist() == [0.5] * 100 + [0.0] * 100
    assert np.array_equal(result[1].reappears_F, np.where(order_F.numpy() < 100, 0.5, 0.0))
    assert result[2].reappears_F.max() == 0


def test_a_direction_and_its_negative_do_not_match_but_have_a_correlation_of_one() -> None:
    one = random_dictionary(5, 40, 0)
    result = stability.stability([one, replace(one, W_enc_DF=-one.W_enc_DF, W_dec_FD=-one.W_dec_FD)])
    assert result[0].reappears_F.max() == 0
    assert result[0].pw_mcc == pytest.approx(1.0)


def test_dictionaries_that_cannot_be_matched_are_refused() -> None:
    with pytest.raises(ValueError, match="can be matched"):
        stability.stability([random_dictionary(5, 4, 0)])
    with pytest.raises(ValueError, match="can be matched"):
        stability.stability([random_dictionary(5, 4, 0), random_dictionary(6, 4, 0)])
    large = random_dictionary(MOST_FEATURES + 1, 1, 0)
    with pytest.raises(ValueError, match="can be matched"):
        stability.stability([large, large])
