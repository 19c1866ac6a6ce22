"""Absorption: planted in one word of a made dictionary, in part or whole, it is found; without it there is none."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from sae.dictionary import Dictionary
from sae.measuring.absorption import Property, absorbed, absorption, fit_probe

WORDS = 16
"""Words with the property, and as many without it."""
D = 1 + 2 * WORDS
TESTED = (3, 7, 11, 15)
STRENGTH = 2.0


def vectors(words: list[int], copies: int, seed: int) -> Tensor:
    """Each word's own direction; those with the property, the first ones, have direction 0 too. A little noise."""
    noise = torch.randn(len(words) * copies, D, generator=torch.Generator().manual_seed(seed)) * 0.02
    x_BD = torch.zeros(len(words) * copies, D)
    for row, word in enumerate(word for word in words for _ in range(copies)):
        x_BD[row, 1 + word] = 3.0
        x_BD[row, 0] = STRENGTH if word < WORDS else 0.0
    return x_BD + noise


def made(absorbing: dict[int, float]) -> Dictionary:
    """A feature of the property and one of each word; of the absorbing words these hold a share of the property."""
    W_enc_DF, W_dec_FD, b_enc_F = torch.eye(D), torch.eye(D), torch.full((D,), -0.2)
    for word, share in absorbing.items():
        W_enc_DF[1 + word, 0] = -share * STRENGTH / 3.0 - (0.3 if share == 1 else 0.0)
        W_dec_FD[1 + word, 0] = share * STRENGTH / 3.0
    return Dictionary("d", "sae", W_enc_DF, b_enc_F, W_dec_FD, torch.zeros(D)).at("hook_embed")


@pytest.fixture(scope="module")
def property_() -> Property:
    every = list(range(2 * WORDS))
    tested = [*TESTED, *(WORDS + word for word in TESTED)]
    words = [word for word in every if word not in tested]
    return Property(
        vectors(words, 20, 0), torch.tensor([word < WORDS for word in words]).repeat_interleave(20),
        vectors(tested, 5, 1), torch.tensor([word < WORDS for word in tested]).repeat_interleave(5),
    )  # fmt: skip


def test_planted_absorption_is_found_and_a_clean_dictionary_has_none(property_: Property) -> None:
    probe = fit_probe(property_)
    assert probe.f1 == 1
    assert float(probe.direction_D[0]) > 0.8
    clean = absorption(made({}), property_, probe)
    assert (clean.features, clean.f1) == ((0,), 1)
    assert not clean.full_P.any()
    assert clean.fraction_P.max() < 0.05
    planted = absorption(made({TESTED[1]: 1.0}), property_, probe)
    assert planted.features == (0,)
    own = torch.arange(len(TESTED)).repeat_interleave(5) == 1
    assert torch.equal(planted.full_P, own)
    assert (planted.fraction_P[own] == 1).all()
    assert planted.fraction_P[~own].max() < 0.05


def test_a_share_is_absorbed_as_computed_by_hand() -> None:
    """The property's feature holds 0.8 of 2.0, a word's feature 1.2: of what both hold, that is 60%."""
    word, direction_D = TESTED[0], torch.eye(D)[0]
    x_PD = torch.zeros(1, D)
    x_PD[0, 0], x_PD[0, 1 + word] = STRENGTH, 3.0
    dictionary = made({word: 0.6})
    dictionary.b_enc_F.zero_()
    fraction_P, full_P = absorbed(dictionary, x_PD, direction_D, (0,))
    assert float(fraction_P[0]) == pytest.approx(0.6)
    assert not full_P[0]


def test_features_that_lie_along_the_probe_but_add_little_absorb_nothing() -> None:
    """Silent on the word, but no other feature holds 40% of the direction: a false negative, not absorption."""
    direction_D = torch.eye(D)[0]
    x_PD = torch.zeros(1, D)
    x_PD[0, 0], x_PD[0, 1] = STRENGTH, 3.0
    dictionary = made({0: 1.0})
    dictionary.W_dec_FD[1, 0] = 0.3 * STRENGTH / 3.0
    fraction_P, full_P = absorbed(dictionary, x_PD, direction_D, (0,))
    assert float(dictionary.encode(x_PD)[0, 0]) == 0
    assert float(fraction_P[0]) == 0
    assert not full_P[0]


def test_it_is_the_same_of_a_file_in_bf16_whose_scale_is_beside_the_weights() -> None:
    direction_D, x_PD = torch.eye(D)[0], torch.zeros(1, D)
    x_PD[0, 0], x_PD[0, 1 + TESTED[0]] = STRENGTH, 3.0
    plain = made({TESTED[0]: 0.6})
    stored = replace(plain, W_dec_FD=(4 * plain.W_dec_FD).bfloat16(), write_scale_E=torch.full((D,), 4.0))
    expected, actual = (absorbed(each, x_PD, direction_D, (0,)) for each in (plain, stored))
    torch.testing.assert_close(actual[0], expected[0], rtol=0.02, atol=0)
    assert float(expected[0][0]) > 0.5
