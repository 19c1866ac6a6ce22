"""Circuits: a linear model in closed form, planted circuits and shuffled ones, plain PyTorch hooks for a real one."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from sae.common.errors import UserError
from sae.dictionary import Dictionary, TopK
from sae.interventions.circuits import Excerpt, Link, depend, direct_weights
from sae.models.residual import carried
from sae.models.subject import Subject
from tests.sae.tasks.conftest import folder, subject
from tests.sae.temporal_files import temporal

__all__ = ["folder", "subject"]
LOW, HIGH = "blocks.0.hook_resid_post", "blocks.1.hook_resid_post"
V, D, F = 30, 12, 8


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Linear:
    """Two layers: x, then x + x M + (the sum of x over the tokens so far) A; x holds D positive numbers."""

    def __init__(self, M_DD: Tensor, A_DD: Tensor) -> None:
        self.E_VD, self.M_DD, self.A_DD = random(V, D, seed=1).abs(), M_DD, A_DD
        self.cfg = SimpleNamespace(n_ctx=32, d_vocab=V)
        self.hook_dict = {LOW: None, HIGH: None}

    def run_with_hooks(self, ids_NC: Tensor, fwd_hooks: list[Any]) -> Tensor:
        x_NCD = self._hooked(LOW, self.E_VD[ids_NC], fwd_hooks)
        return self._hooked(HIGH, x_NCD + x_NCD @ self.M_DD + x_NCD.cumsum(1) @ self.A_DD, fwd_hooks)

    def _hooked(self, name: str, x_NCD: Tensor, hooks: list[Any]) -> Tensor:
        for hook_point, change in hooks:
            if hook_point == name:
                x_NCD = x_NCD if (changed := change(x_NCD, None)) is None else changed
        return x_NCD


def linked(M_DD: Tensor, A_DD: Tensor, W_DF: Tensor, bias: float) -> Link:
    """Join the coordinates of the lower layer with features of the upper one that are always active."""
    model: Any = Linear(M_DD, A_DD)
    eye = torch.eye(D)
    lower = Dictionary("low", "sae", eye, torch.zeros(D), eye, torch.zeros(D)).at(LOW)
    upper = Dictionary("high", "sae", W_DF, torch.full((W_DF.shape[1],), bias), W_DF.T.contiguous(), torch.zeros(D))
    return Link(Subject("linear", model, None, False, "cpu"), lower, upper.at(HIGH))


def test_ablation_and_attribution_are_the_closed_form_of_a_linear_model() -> None:
    M_DD, A_DD, W_DF = random(D, D, seed=2), random(D, D, seed=3), random(D, F, seed=4)
    link, ids_C = linked(M_DD, A_DD, W_DF, 1e3), torch.tensor([3, 1, 4, 1, 5])
    x_CD = link.subject.bridge.E_VD[ids_C]
    for feature in range(F):
        w_D = W_DF[:, feature]
        here_D, earlier_D = x_CD[-1] * (w_D + (M_DD + A_DD) @ w_D), x_CD[:-1].sum(0) * (A_DD @ w_D)
        found = depend(link, feature, ids_C)
        assert sorted(found.features_A.tolist()) == list(range(D))
        expected_A = (here_D + earlier_D)[found.features_A]
        torch.testing.assert_close(found.ablation_A, expected_A, atol=2e-3, rtol=1e-4)
        torch.testing.assert_close(found.attribution_A, expected_A, atol=2e-3, rtol=1e-4)
        torch.testing.assert_close(found.earlier_A, earlier_D[found.features_A], atol=2e-3, rtol=1e-4)
        torch.testing.assert_close(found.here_A, x_CD[-1][found.features_A])
        assert found.activation == pytest.approx(1e3 + float(expected_A.sum()), rel=1e-5)
        assert found.together == pytest.approx(float(expected_A.sum()), abs=5e-3)
    weights_SF = direct_weights(link, torch.arange(F))
    assert weights_SF is not None
    torch.testing.assert_close(weights_SF, W_DF.T)
    scale_F = torch.linspace(0.5, 2, F)
    scaled = replace(link.upper, read_scale_D=torch.full((D,), 3.0), activation=TopK(F, scale_F))
    weights_SF = direct_weights(replace(link, upper=scaled), torch.arange(F))
    assert weights_SF is not None
    torch.testing.assert_close(weights_SF, 3 * scale_F[:, None] * W_DF.T)


def test_planted_circuits_are_found_and_those_of_shuffled_features_are_not() -> None:
    """Upper feature u adds coordinates u and u + 1 of the layer below, among weak connections to all others."""
    planted = [{u, u + 1} for u in range(F)]
    W_DF = 0.02 * random(D, F, seed=5)
    for u, pair in enumerate(planted):
        W_DF[list(pair), u] += 1
    link = linked(torch.zeros(D, D), torch.zeros(D, D), W_DF, 0.5)
    texts = random(6, 5, seed=6).argsort(1)
    for key in ("ablation_A", "attribution_A"):
        found = []
        for feature in range(F):
            mean_F = torch.zeros(D)
            for ids_C in texts:
                one = depend(link, feature, ids_C)
                mean_F.index_add_(0, one.features_A, getattr(one, key))
            found.append(set(mean_F.topk(2).indices.tolist()))
        assert found == planted
        assert not [u for u in range(F) if found[(u + 2) % F] & planted[u]]


def test_a_circuit_of_a_transformer_is_what_plain_hooks_say(subject: Subject, folder: Path) -> None:
    """From a transcoder of the first MLP to features behind the second layer, one ablation at a time in transformers.

    Integrated gradients add up to the fall when all are ablated, as far as a few steps go.
    """
    reads, writes, d = "blocks.0.mlp.hook_in", "blocks.0.hook_mlp_out", 16
    lower = Dictionary(
        "t", "sae", random(d, 20, seed=1), torch.zeros(20), 0.05 * random(20, d, seed=2), torch.zeros(d), TopK(4),
        subtract_b_dec=False, reads=(reads,), writes=(writes,),
    )  # fmt: skip
    upper = Dictionary("u", "sae", random(d, 9, seed=3), torch.full((9,), 9.0), random(9, d, seed=4), torch.zeros(d))
    link, ids_C = Link(subject, lower, upper.at(HIGH)), torch.tensor([20, 7, 300, 41, 7, 90])
    found = depend(link, 5, ids_C)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    block = model.transformer.h[0]

    def activation(feature: int | None) -> float:
        seen: dict[str, Tensor] = {}

        def edit(_module: Any, inputs: Any, out: Tensor) -> Tensor:
            acts = lower.encode(inputs[0][0])
            seen["acts"] = acts
            return out if feature is None else out - acts[None, :, feature, None] * lower.W_dec_FD[feature]

        def keep(_module: Any, _inputs: Any, out: Any) -> None:
            seen["x"] = out[0] if isinstance(out, tuple) else out

        handles = [block.mlp.register_forward_hook(edit), model.transformer.h[1].register_forward_hook(keep)]
        with torch.no_grad():
            model(ids_C[None])
        for handle in handles:
            handle.remove()
        value: Tensor = upper.encode(seen["x"].reshape(-1, d)[-1:])[0, 5]
        return float(value)

    clean = activation(None)
    assert found.activation == pytest.approx(clean, abs=1e-3)
    for feature, fall in zip(found.features_A.tolist(), found.ablation_A.tolist(), strict=True):
        assert fall == pytest.approx(clean - activation(feature), abs=2e-3)
    assert found.ablation_A.abs().max() > 0.01
    assert float(found.attribution_A.sum()) == pytest.approx(found.together, rel=0.05, abs=2e-3)
    excerpt = Excerpt(link, 5, ids_C)
    first, none = found.features_A[:1], torch.tensor([], dtype=torch.long)
    values = excerpt.without([none, first, found.features_A, torch.tensor([19, 18, 17])[:0]])
    expected = [clean, clean - float(found.ablation_A[0]), clean - found.together, clean]
    assert values.tolist() == pytest.approx(expected, abs=2e-3)


def test_directions_pass_a_norm_as_its_derivative_says(subject: Subject, folder: Path) -> None:
    """In a direction that leaves the scale as it is, and up to that scale."""
    norm = AutoModelForCausalLM.from_pretrained(folder).transformer.h[1].ln_2.double()
    with torch.no_grad():
        norm.weight += random(16, seed=8).double()
        subject_norm = SimpleNamespace(w=norm.weight.detach(), uses_rms_norm=False, uses_weight_offset=False)
        bridge = SimpleNamespace(blocks=[None, SimpleNamespace(ln2=subject_norm)])
        x_D, d_D = random(16, seed=5).double(), random(16, seed=6).double()
        centred_D = x_D - x_D.mean()
        d_D -= (d_D @ centred_D) / (centred_D @ centred_D) * centred_D
        slope_D = (norm(x_D + 1e-6 * d_D) - norm(x_D)) / 1e-6
        passed_1D = carried(bridge, "blocks.0.hook_mlp_out", "blocks.1.mlp.hook_in", d_D[None])
        assert passed_1D is not None
        torch.testing.assert_close(passed_1D[0] / x_D.std(correction=0), slope_D, atol=1e-4, rtol=1e-3)
        bare_1D = carried(bridge, "blocks.0.hook_mlp_out", "blocks.1.ln2.hook_normalized", d_D[None])
        assert bare_1D is not None
        torch.testing.assert_close(bare_1D * norm.weight, passed_1D)
        assert carried(bridge, "blocks.0.mlp.hook_post", "blocks.1.mlp.hook_in", d_D[None]) is None
        assert carried(bridge, "blocks.0.hook_mlp_out", "blocks.1.mlp.hook_post", d_D[None]) is None


def test_dictionaries_in_the_wrong_order_are_refused(subject: Subject) -> None:
    one = Dictionary("one", "sae", torch.eye(16), torch.zeros(16), torch.eye(16), torch.zeros(16))
    for lower, upper in ((HIGH, LOW), (LOW, LOW)):
        with pytest.raises(UserError, match=r"one reads .* before one writes"):
            Link(subject, one.at(lower), one.at(upper))
    with pytest.raises(UserError, match="one has 2 hook points"):
        Link(subject, replace(one, reads=(LOW, HIGH), writes=(LOW,)), one.at(HIGH))


def test_features_of_temporal_autoencoders_are_read_in_their_context() -> None:
    link, ids_C = linked(random(D, D, seed=2), random(D, D, seed=3), random(D, F, seed=4), 1e3), torch.tensor([3, 1, 4])
    link = replace(link, lower=temporal(D, F).at(LOW), upper=temporal(D, F).at(HIGH))
    excerpt = Excerpt(link, 2, ids_C)
    low_1CD, high_1CD = (link.subject.activations(ids_C[None], at) for at in (LOW, HIGH))
    acts_CF = link.lower.encode(link.lower.in_context(low_1CD)[0])
    torch.testing.assert_close(excerpt.acts_AC.T, acts_CF[:, excerpt.features_A])
    expected = link.upper.encode(link.upper.in_context(high_1CD)[0])[-1, 2]
    torch.testing.assert_close(excerpt.values(torch.zeros(1, 3, D)), expected[None])
