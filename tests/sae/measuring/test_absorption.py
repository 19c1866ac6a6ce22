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


def by_hand(acts_F: list[float], cosine_F: list[float], along: float, own: set[int]) -> tuple[float, bool]:
    """One vector of a dictionary with unit rows, from SAEBench's description: the absorbed share, and whether whole."""
    parts = [act * cosine for act, cosine in zip(acts_F, cosine_F, strict=True)]
    held = sum(parts[f] for f in own)
    others = sorted((p for f, p in enumerate(parts) if f not in own and cosine_F[f] >= 0.1 and p > 0), reverse=True)
    helping = sum(others[:3])
    share = 0.0
    if along > 0 and held < along and helping >= 0.4 * along:
        taken = min(helping, along - held)
        share = 1.0 if held <= 0 else taken / (taken + held)
    top = max(range(len(parts)), key=parts.__getitem__)
    silent = all(acts_F[f] == 0 for f in own)
    return share, silent and cosine_F[top] >= 0.025 and along > 0 and parts[top] >= 0.4 * along


def test_random_vectors_are_judged_as_by_hand() -> None:
    """What a feature adds along the probe is as large however far from it the feature points, so all cases are met."""
    generator, own = torch.Generator().manual_seed(3), (0, 3)
    cosine_F = torch.tensor([0.9, 0.6, 0.5, 0.4, 0.3, 0.2, 0.15, 0.05, 0.02, 0.01, -0.3, -0.01])
    across_FD = torch.nn.functional.normalize(torch.randn(12, 4, generator=generator), dim=1)
    rows_FD = torch.cat([cosine_F[:, None], (1 - cosine_F**2).sqrt()[:, None] * across_FD], 1)
    W_enc_DF = torch.randn(5, 12, generator=generator) / cosine_F.abs() / 3
    dictionary = Dictionary("d", "sae", W_enc_DF, -1 / cosine_F.abs() / 3, rows_FD, torch.zeros(5))
    x_PD = torch.randn(600, 5, generator=generator)
    fraction_P, full_P = absorbed(dictionary, x_PD, torch.eye(5)[0], own)
    acts_PF, along_P = dictionary.encode(x_PD).tolist(), x_PD[:, 0].tolist()
    pairs = zip(acts_PF, along_P, strict=True)
    expected = [by_hand(acts_F, cosine_F.tolist(), along, set(own)) for acts_F, along in pairs]
    assert fraction_P.tolist() == pytest.approx([share for share, _ in expected], abs=1e-4)
    assert full_P.tolist() == [whole for _, whole in expected]


def of_two_features(x_BD: Tensor, has_B: Tensor, units_D: tuple[float, float] = (1.0, 1.0)) -> tuple[int, ...]:
    """The property's features among the coordinates themselves, in units of their own."""
    scale_D = torch.tensor(units_D)
    dictionary = Dictionary("d", "sae", torch.diag(scale_D), torch.zeros(2), torch.diag(1 / scale_D), torch.zeros(2))
    one = Property(x_BD, has_B, x_BD, has_B)
    return absorption(dictionary, one, fit_probe(one)).features


@pytest.mark.parametrize(("second", "features"), [(0.02, (0,)), (0.1, (0, 1))])
def test_a_second_feature_needs_a_gain_of_three_points(second: float, features: tuple[int, ...]) -> None:
    """The first one is active on all but a share of the vectors that have the property, the second one on those."""
    x_BD, has_B, n = torch.zeros(8000, 2), torch.arange(8000) < 4000, round(4000 * (1 - second))
    x_BD[:n, 0], x_BD[n:4000, 1] = 1.0, 1.0
    assert of_two_features(x_BD, has_B) == features


def test_the_order_of_features_does_not_depend_on_their_units() -> None:
    """The better one comes first though its activations are a thousand times smaller."""
    x_BD, has_B = torch.zeros(400, 2), torch.arange(400) < 200
    x_BD[:200, 0], x_BD[:120, 1] = 1.0, 1.0
    assert of_two_features(x_BD, has_B, (1e-3, 1.0)) == (0,)


def test_vectors_that_the_probe_does_not_find_are_left_out(property_: Property) -> None:
    hidden_BD = property_.tested_BD.clone()
    hidden_BD[0, 0] = -STRENGTH
    probe = fit_probe(replace(property_, tested_BD=hidden_BD))
    assert probe.right_B.nonzero().flatten().tolist() == list(range(1, 5 * len(TESTED)))
    assert probe.f1 == pytest.approx(2 * 19 / (19 + 20))
