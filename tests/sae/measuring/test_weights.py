"""Whatever a dictionary computes with is looked at: for NaN and infinity, and for its hash."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from sae.common.errors import UserError
from sae.dictionary import Activation, Dictionary, Gated, GroupMax, JumpReLU, MatchingPursuit, NonNegative, ReLU, TopK
from sae.measuring.weights import refuse_non_finite, weights_hash
from tests.sae.temporal_files import temporal

F = 4


def made(activation: Activation | None = None, **changes: Any) -> Dictionary:
    eye = torch.eye(F)
    plain = Dictionary("d", "sae", eye, torch.zeros(F), eye.clone(), torch.zeros(F), activation or ReLU())
    return replace(plain, **changes)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("name", ["W_enc_DF", "b_enc_F", "W_dec_FD", "b_dec_D"])
def test_a_weight_or_bias_that_is_not_finite_is_named(name: str, value: float) -> None:
    broken = getattr(made(), name).clone()
    broken[-1] = value
    with pytest.raises(UserError, match=rf"dictionary d holds weights that are not finite \({name}\)"):
        refuse_non_finite(made(**{name: broken}))


def test_a_direction_whose_norm_overflows_is_refused() -> None:
    with pytest.raises(UserError, match="dictionary d has decoder directions of infinite norm"):
        refuse_non_finite(made(W_dec_FD=1e38 * torch.ones(F, F) * 3))


@pytest.mark.parametrize(
    "activation",
    [
        JumpReLU(torch.full((F,), torch.nan)),
        Gated(torch.zeros(F), torch.full((F,), torch.inf), torch.zeros(F)),
        TopK(2, torch.full((F,), torch.nan)),
        NonNegative(torch.full((F, F), torch.nan)),
    ],
)
def test_so_is_a_parameter_of_the_activation(activation: Activation) -> None:
    with pytest.raises(UserError, match="not finite"):
        refuse_non_finite(made(activation))
    refuse_non_finite(made(TopK(2)))


def test_the_hash_tells_all_that_is_computed_with() -> None:
    ones = torch.ones(F)
    different = [
        made(), made(W_enc_DF=2 * torch.eye(F)), made(b_enc_F=ones), made(W_dec_FD=2 * torch.eye(F)),
        made(b_dec_D=ones), made(subtract_b_dec=False), made(normalisation="layer_norm"),
        made(TopK(2)), made(TopK(3)), made(GroupMax(2)),
        made(TopK(2, ones)), made(TopK(2, 2 * ones)), made(JumpReLU(ones)), made(JumpReLU(2 * ones)),
        made(MatchingPursuit(torch.eye(F), 2, 0.5, stop_on_repeat=True)),
        made(MatchingPursuit(torch.eye(F), 2, 0.5, stop_on_repeat=False)),
        made(Gated(ones, ones, ones)), made(Gated(0 * ones, ones, ones)), made(Gated(ones, 0 * ones, ones)),
    ]  # fmt: skip
    assert len({weights_hash(each) for each in different}) == len(different)
    assert weights_hash(made()) == weights_hash(made(name="another", metadata={"x": 1}))
    one = temporal(6, 24)
    assert one.context is not None
    layers = tuple(replace(layer, n_heads=2 * layer.n_heads) for layer in one.context.layers)
    contexts = [replace(one.context, layers=layers), replace(one.context, epsilon=1e-3)]
    assert len({weights_hash(each) for each in (one, *(replace(one, context=each) for each in contexts))}) == 3
