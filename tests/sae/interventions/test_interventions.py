"""Ablating, steering and logit weights: against a linear model by hand and against plain PyTorch hooks."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from sae.common.errors import UserError
from sae.dictionary import Dictionary, JumpReLU, Normalisation, ReLU, TopK
from sae.interventions.effects import Effects, Passages, ablate
from sae.interventions.hold import hold, hook_point_of, keep, own_activations, written
from sae.interventions.logit_weights import logit_weights, row_correlation
from sae.interventions.sampling import continue_text
from sae.models.subject import Subject, boot

HOOK = "blocks.0.mlp.hook_post"
N, C, F = 6, 12, 24


SOMETIMES = (3, 9)
"""Features that are active on some tokens only."""


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def dictionary_of(d_in: int, activation: Any = None, normalisation: Normalisation = "none") -> Dictionary:
    W_dec_FD = random(F, d_in, seed=2)
    return Dictionary(
        "d", "sae", random(d_in, F, seed=1), 0.1 * random(F, seed=3), W_dec_FD, random(d_in, seed=4),
        activation or ReLU(), normalisation=normalisation,
    ).at(HOOK)  # fmt: skip


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory, planted: Path) -> Subject:
    """Two layers, so that an ablation acts on later tokens, with layer norms that are not the identity."""
    folder = tmp_path_factory.mktemp("two_layers")
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = GPT2LMHeadModel(GPT2Config(vocab_size=25, n_positions=32, n_embd=16, n_layer=2, n_head=2))
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.copy_(random(*value.shape, seed=len(name)) * 0.4 + (1.0 if "ln_" in name else 0.0))
    model.save_pretrained(folder)
    for path in (planted / "model").glob("tokenizer*"):
        (folder / path.name).write_bytes(path.read_bytes())
    return boot(str(folder), prepend_bos=False)


@pytest.fixture(scope="module")
def ids_NC() -> Tensor:
    return torch.randint(1, 25, (N, C), generator=torch.Generator().manual_seed(0))


def all_of(ids_NC: Tensor, feature_P: Tensor, start: int = 0, end: int = C) -> Passages:
    n = len(ids_NC)
    return Passages(ids_NC, torch.full((n,), C), torch.full((n,), start), torch.full((n,), end), feature_P)


@pytest.mark.parametrize(
    "activation", [ReLU(), TopK(5), TopK(5, random(F, seed=9).abs() + 0.5), JumpReLU(torch.ones(F))]
)
@pytest.mark.parametrize("normalisation", ["none", "layer_norm", "constant_norm_rescale"])
def test_what_features_write_is_what_decoding_without_them_lacks(activation: Any, normalisation: Normalisation) -> None:
    one, x_BD = dictionary_of(16, activation, normalisation), 3 * random(F, 16, seed=7)
    acts_BF = one.encode(x_BD)
    features_B = torch.arange(F)
    without_BF = acts_BF * (1 - torch.eye(F))
    expected_BD = one.decode(acts_BF, x_BD) - one.decode(without_BF, x_BD)
    own_B = acts_BF.diagonal()
    torch.testing.assert_close(written(one, own_B, features_B, x_BD), expected_BD, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(own_activations(one, features_B, x_BD[:, None]).squeeze(1), own_B)


class Linear:
    """A model without context: the logits of a token are its embedding times W."""

    def __init__(self, W_DV: Tensor, ids_V: Tensor) -> None:
        self.E_VD, self.W_DV = ids_V, W_DV
        self.cfg = SimpleNamespace(n_ctx=32, d_vocab=W_DV.shape[1])
        self.hook_dict = {"hook_embed": None}

    def run_with_hooks(self, ids_NC: Tensor, fwd_hooks: list[Any]) -> Tensor:
        x_NCD = self.E_VD[ids_NC]
        for _, change in fwd_hooks:
            x_NCD = change(x_NCD, None)
        return x_NCD @ self.W_DV


def test_effects_of_a_linear_model_are_those_computed_by_hand() -> None:
    """Feature 0 is on for tokens 1 and 2, by 2 and 1; it writes (1, 0), which adds (ln 3, 0, 0) to the logits."""
    W_DV = torch.tensor([[3.0, 1.0, 1.0], [1.0, 1.0, 1.0]]).log()
    model: Any = Linear(W_DV, torch.tensor([[0.0, 5.0], [2.0, 5.0], [1.0, 5.0]]))
    subject = Subject("linear", model, None, False, "cpu")
    eye = torch.eye(2)
    dictionary = Dictionary("neurons", "neurons", eye, torch.zeros(2), eye, torch.zeros(2)).at("hook_embed")
    ids = torch.tensor([[1, 0, 2, 1]])
    passages = Passages(ids, *(torch.tensor([value]) for value in (4, 0, 3, 0)))
    effects = ablate(subject, dictionary, torch.tensor([0]), passages)
    # Token 1 (x = 2): probabilities 9/11, 1/11, 1/11. Token 2 (x = 1): 3/5, 1/5, 1/5. Ablated: 1/3 each.
    probs_2V = torch.tensor([[9 / 11, 1 / 11, 1 / 11], [3 / 5, 1 / 5, 1 / 5]], dtype=torch.float64)
    assert effects.active_S.tolist() == [2]
    torch.testing.assert_close(effects.probs_SV, (1 / 3 - probs_2V).mean(0)[None], atol=1e-6, rtol=0)
    change_2V = torch.tensor(1 / 3, dtype=torch.float64).log() - probs_2V.log()
    torch.testing.assert_close(effects.log_probs_SV, change_2V.mean(0)[None], atol=1e-6, rtol=0)
    # Followed by token 0 after the first, by token 1 after the third; the second is silent, so that its loss stays.
    expected = -(change_2V[0, 0] + change_2V[1, 1])
    assert float(effects.loss_S[0]) == pytest.approx(float(expected) / 2, abs=1e-6)
    assert float(effects.loss_everywhere_S[0]) == pytest.approx(float(expected) / 3, abs=1e-6)


def test_ablating_equals_a_plain_pytorch_hook(subject: Subject, ids_NC: Tensor) -> None:
    """Two features, three blocks each, of which the last tokens are measured only."""
    dictionary, features = dictionary_of(64), SOMETIMES
    feature_P = torch.tensor([0, 1, 0, 1, 0, 1])
    effects = ablate(subject, dictionary, torch.tensor(features), all_of(ids_NC, feature_P, 4, 10))
    model = AutoModelForCausalLM.from_pretrained(subject.name).eval()
    for row, feature in enumerate(features):
        ids = ids_NC[feature_P == row]
        acts: list[Tensor] = []

        def subtract(_module: Any, _inputs: Any, out: Tensor, feature: int = feature, acts: Any = acts) -> Tensor:
            acts.append(((out - dictionary.b_dec_D) @ dictionary.W_enc_DF + dictionary.b_enc_F).relu()[..., feature])
            return out - acts[-1][..., None] * dictionary.W_dec_FD[feature]

        with torch.no_grad():
            before = model(ids).logits.log_softmax(-1)
            handle = model.transformer.h[0].mlp.act.register_forward_hook(subtract)
            after = model(ids).logits.log_softmax(-1)
            handle.remove()
        active = acts[0][:, 4:10] > 0
        assert 0 < active.sum() < active.numel()
        change = (after - before)[:, 4:10]
        torch.testing.assert_close(effects.log_probs_SV[row].float(), change[active].mean(0), atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(
            effects.probs_SV[row].float(), (after.exp() - before.exp())[:, 4:10][active].mean(0), atol=1e-5, rtol=1e-3
        )
        loss = -change.gather(2, ids[:, 5:11, None]).squeeze(2)
        assert float(effects.loss_S[row]) == pytest.approx(float(loss[active].mean()), abs=1e-4)
        assert float(effects.loss_everywhere_S[row]) == pytest.approx(float(loss.mean()), abs=1e-4)


def test_many_features_together_are_as_each_alone(subject: Subject, ids_NC: Tensor, monkeypatch: Any) -> None:
    dictionary, features_S = dictionary_of(64, TopK(20)), torch.tensor([3, 5, 9])
    together = all_of(ids_NC, torch.tensor([0, 1, 2, 0, 1, 2]), 2, 9)
    whole = ablate(subject, dictionary, features_S, together)
    assert bool((whole.active_S > 0).all())
    monkeypatch.setattr("sae.interventions.effects.loss_blocks_at_once", lambda context, vocabulary: 1)
    single = ablate(subject, dictionary, features_S, together)
    for name in Effects.__annotations__:
        torch.testing.assert_close(getattr(whole, name), getattr(single, name), atol=1e-6, rtol=1e-5)


def test_ablating_nothing_changes_nothing(subject: Subject, ids_NC: Tensor) -> None:
    """A feature that is silent, and every feature of a dictionary whose decoder is zero."""
    silent = dictionary_of(64, JumpReLU(torch.full((F,), 1e9)))
    effects = ablate(subject, silent, torch.tensor([1]), all_of(ids_NC, torch.zeros(N, dtype=torch.long)))
    assert (int(effects.active_S[0]), float(effects.loss_everywhere_S[0])) == (0, 0.0)
    assert bool(effects.loss_S.isnan().all() & effects.log_probs_SV.isnan().all())
    one = dictionary_of(64)
    feature_N = torch.arange(N)
    acts = own_activations(one, feature_N, subject.activations(ids_NC, HOOK))
    assert bool((acts > 0).any())
    x_NCD = subject.activations(ids_NC, HOOK)
    assert torch.equal(hold(silent, feature_N, torch.zeros(N))(x_NCD), x_NCD)


def test_a_held_feature_has_its_value_where_features_are_neurons(subject: Subject, ids_NC: Tensor) -> None:
    eye = torch.eye(64)
    neurons = Dictionary("neurons", "neurons", eye, torch.zeros(64), eye, torch.zeros(64)).at(HOOK)
    features_N = torch.arange(N)
    x_NCD = subject.activations(ids_NC, HOOK).relu()
    held_NCD = hold(neurons, features_N, torch.full((N,), 7.0))(x_NCD)
    for row in range(N):
        torch.testing.assert_close(held_NCD[row, :, row], torch.full((C,), 7.0))
        others = [index for index in range(64) if index != row]
        assert torch.equal(held_NCD[row][:, others], x_NCD[row][:, others])


def test_keeping_all_features_is_the_reconstruction_and_none_the_bias(subject: Subject, ids_NC: Tensor) -> None:
    one, x_NCD = dictionary_of(64), subject.activations(ids_NC, HOOK)
    everything = keep(one, torch.arange(F))(x_NCD)
    torch.testing.assert_close(everything, one.reconstruct(x_NCD.flatten(0, 1)).view_as(x_NCD))
    torch.testing.assert_close(keep(one, torch.tensor([], dtype=torch.long))(x_NCD), one.b_dec_D.expand_as(x_NCD))


def test_logit_weights_are_the_derivative_of_the_logits(subject: Subject, ids_NC: Tensor) -> None:
    """At the last layer: the change of the log-probabilities by a small step, minus what the norm's scale does."""
    last = "blocks.1.mlp.hook_post"
    one = dictionary_of(64).at(last)
    weights_SV = logit_weights(subject, one, torch.tensor([4, 9]))
    assert weights_SV is not None
    clean_NCV = subject.logits(ids_NC)
    model = AutoModelForCausalLM.from_pretrained(subject.name)
    for row, feature in enumerate((4, 9)):
        moved_NCV = subject.logits(ids_NC, {last: lambda x, feature=feature: x + 1e-2 * one.W_dec_FD[feature]})  # type: ignore[misc]
        slope = ((moved_NCV - clean_NCV) / 1e-2).flatten(0, 1)
        # The scale shrinks what is there, (residual - mean) * weight, by a factor of its own at each token.
        centred = clean_NCV.flatten(0, 1) - model.transformer.ln_f.bias.detach() @ model.lm_head.weight.detach().T
        for change, present in zip(slope, centred, strict=True):
            basis = torch.stack([weights_SV[row], present - present.mean(), torch.ones_like(present)], 1)
            fit = torch.linalg.lstsq(basis, change[:, None])
            torch.testing.assert_close((basis @ fit.solution).squeeze(1), change, atol=2e-2, rtol=2e-2)
            assert float(fit.solution[0]) > 0


def test_logit_weights_of_a_dictionary_that_no_map_leads_from(subject: Subject) -> None:
    assert logit_weights(subject, dictionary_of(16).at("blocks.0.hook_in"), torch.tensor([0])) is None
    assert logit_weights(subject, dictionary_of(16).at("hook_embed", HOOK), torch.tensor([0])) is None


def test_row_correlation_is_numpys() -> None:
    a, b = random(4, 50, seed=5), random(4, 50, seed=6)
    expected = torch.stack([torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(a, b, strict=True)])
    torch.testing.assert_close(row_correlation(a, b).float(), expected)
    assert bool(row_correlation(a, torch.ones(4, 50)).isnan().all())


def test_a_dictionary_that_reads_and_writes_elsewhere_is_refused() -> None:
    with pytest.raises(UserError, match=r"reads a and writes b; features can be ablated only where"):
        hook_point_of(Dictionary(**{**vars(dictionary_of(16)), "reads": ("a",), "writes": ("b",)}))


def test_pinning_a_feature_that_promotes_a_token_makes_the_text_of_it(subject: Subject, ids_NC: Tensor) -> None:
    """Held far up, at the last layer; without it the text is as drawn before, and the model's limit is respected."""
    last = "blocks.1.hook_resid_post"
    with torch.no_grad():
        unembedding_VD = AutoModelForCausalLM.from_pretrained(subject.name).lm_head.weight.detach()
    direction_D = unembedding_VD[7] - unembedding_VD.mean(0)
    one = Dictionary(
        "one", "sae", torch.zeros(16, 1), torch.zeros(1), (direction_D / direction_D.norm())[None], torch.zeros(16)
    ).at(last)
    first, zero = torch.zeros(N, dtype=torch.long), torch.zeros(N)
    plain, again = (continue_text(subject, ids_NC, 8, seed=5) for _ in range(2))
    assert plain.shape == (N, 8)
    assert torch.equal(plain, again)
    assert not torch.equal(plain, continue_text(subject, ids_NC, 8, seed=6))
    assert torch.equal(plain, continue_text(subject, ids_NC, 8, 5, (one, first, zero)))
    pinned = continue_text(subject, ids_NC, 8, 5, (one, first, torch.full((N,), 1e3)))
    assert float((pinned == 7).double().mean()) > float((plain == 7).double().mean()) + 0.2
    with pytest.raises(ValueError, match="more than"):
        continue_text(subject, ids_NC, 32 - C + 1, seed=0)


def test_tokens_are_drawn_as_often_as_the_model_says(subject: Subject, ids_NC: Tensor) -> None:
    many = ids_NC[:1].expand(4000, -1)
    drawn = continue_text(subject, many, 1, seed=0).flatten()
    expected_V = subject.logits(ids_NC[:1])[0, -1].softmax(0)
    share_V = torch.bincount(drawn, minlength=25) / 4000
    assert float((share_V - expected_V).abs().max()) < 0.03
