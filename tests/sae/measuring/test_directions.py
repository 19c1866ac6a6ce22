"""Directions in the activations' own units: where they lie must not depend on where a format keeps its scales."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from sae import products
from sae.dictionary import Activation, Dictionary, Gated, JumpReLU, ReLU, TopK
from sae.measuring.directions import read_directions, unit_lengths, unit_reads, write_directions
from sae.measuring.evaluate import directions
from sae.measuring.splitting import splits
from sae.measuring.stability import stability

D, F = 6, 10


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def scaled(read_D: Tensor, write_D: Tensor, activation: Activation | None = None) -> Dictionary:
    """A crosscoder of two layers whose scales are beside its weights."""
    made = Dictionary("d", "sae", random(D, F, seed=1), random(F, seed=2), random(F, D, seed=3), random(D, seed=4))
    made = replace(made, activation=activation or ReLU(), read_scale_D=read_D, write_scale_E=write_D)
    return replace(made, subtract_b_dec=False, reads=("a", "b"), writes=("a", "b"))


def folded(one: Dictionary) -> Dictionary:
    """The same function with the scales in the weights."""
    assert one.read_scale_D is not None
    W_enc_DF, W_dec_FD = one.W_enc_DF * one.read_scale_D[:, None], one.W_dec_FD / one.write_scale_E
    return replace(one, W_enc_DF=W_enc_DF, W_dec_FD=W_dec_FD, read_scale_D=None, write_scale_E=None)


def test_scales_that_differ_between_layers_are_in_every_measure() -> None:
    layers = torch.tensor([0.2, 5.0]).repeat_interleave(D // 2)
    one, x_BD = scaled(layers, layers + 1e-3), random(50, D, seed=5)
    same = folded(one)
    torch.testing.assert_close(one.reconstruct(x_BD), same.reconstruct(x_BD), atol=1e-4, rtol=1e-4)
    ours, theirs = directions(one), directions(same)
    assert ours.nearest and theirs.nearest and ours.paired and theirs.paired  # noqa: PT018
    torch.testing.assert_close(ours.norm_F, theirs.norm_F)
    torch.testing.assert_close(ours.nearest.similarity_F, theirs.nearest.similarity_F)
    torch.testing.assert_close(ours.paired.similarity_F, theirs.paired.similarity_F)
    assert [each.pw_mcc for each in stability([one, same])] == [pytest.approx(1)] * 2
    assert all((each.cosine_F > 0.9999).all() for each in stability([one, same]))
    matched = splits(one, same, x_BD)
    assert matched.cosine_G[matched.by_cosine_G >= 0].tolist() == pytest.approx([1.0] * int(matched.live_F.sum()))


def test_one_scale_leaves_the_matrices_as_they_are_stored() -> None:
    one = scaled(torch.full((D,), 0.3), torch.full((D,), 7.0))
    assert write_directions(one) is one.W_dec_FD
    assert read_directions(one).data_ptr() == one.W_enc_DF.data_ptr()


@pytest.mark.parametrize(
    "activation",
    [
        ReLU(),
        JumpReLU(torch.full((F,), 0.1)),
        TopK(4, random(F, seed=6).abs() + 0.5),
        Gated(random(F, seed=7), random(F, seed=8), random(F, seed=9).abs()),
    ],
    ids=lambda one: one.name,
)
def test_unit_reads_are_the_gradients_of_active_features(activation: Activation) -> None:
    one, x_BD = scaled(random(D, seed=10).abs() + 0.5, torch.ones(D), activation), random(1, D, seed=11)
    gradient_FD = torch.autograd.functional.jacobian(lambda x: one.encode(x)[0], x_BD)[:, 0]
    active_S = (one.encode(x_BD)[0] > 0).nonzero()[:, 0]
    assert 1 < len(active_S) < F
    torch.testing.assert_close(unit_reads(one, active_S), gradient_FD[active_S])


def test_unit_lengths_are_those_of_what_decoding_adds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rows are looked at together."""
    one = scaled(torch.ones(D), random(D, seed=10).abs() + 0.5, TopK(4, random(F, seed=6).abs() + 0.5))
    added_FD = one.decode(torch.eye(F)) - one.decode(torch.zeros(F, F))
    monkeypatch.setattr(products, "PIECE", 2 * D)
    torch.testing.assert_close(unit_lengths(one), added_FD.norm(dim=1))
