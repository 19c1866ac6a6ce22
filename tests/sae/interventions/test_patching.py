"""Activation patching: against plain PyTorch hooks, and a model whose answer two planted features decide."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from sae.baselines.neurons import neurons
from sae.baselines.pca import pca
from sae.common.errors import UserError
from sae.dictionary import Dictionary
from sae.interventions.patching import Pairs, patch, search
from sae.models.subject import Subject
from sae.tasks.accuracy import Prompts, in_tokens
from sae.tasks.grammar import indirect_objects, sides
from tests.sae.tasks.conftest import folder, subject
from tests.sae.temporal_files import temporal

__all__ = ["folder", "subject"]
HOOK = "blocks.0.hook_resid_post"
D = 16


@pytest.fixture(scope="module")
def prompts(subject: Subject) -> Prompts:
    trained, _ = sides(0)
    return in_tokens(subject, indirect_objects(trained.pairs, trained.templates, 20, 0))


def test_patching_everything_gives_no_divergence_and_patching_nothing_all_of_it(
    subject: Subject, prompts: Prompts
) -> None:
    """Neurons and principal components reconstruct exactly."""
    x_BD = subject.activations(prompts.ids_PC, HOOK).flatten(0, 1)
    for dictionary in (neurons(x_BD).at(HOOK), pca(x_BD).at(HOOK)):
        signed = Dictionary(
            "signed", "sae", torch.cat([dictionary.W_enc_DF, -dictionary.W_enc_DF], 1),
            torch.zeros(2 * dictionary.n_features), torch.cat([dictionary.W_dec_FD, -dictionary.W_dec_FD]),
            dictionary.b_dec_D,
        ).at(HOOK)  # fmt: skip  # of neurons both signs, so that nothing is rectified away
        pairs = Pairs(subject, signed if dictionary.kind == "neurons" else dictionary, prompts)
        done = patch(pairs, list(range(pairs.dictionary.n_features)), [0, pairs.dictionary.n_features])
        assert done.kl_KP[1].abs().max() < 1e-4
        assert done.whole_1P.abs().max() < 1e-4
        assert done.edit_KP[0].max() == 0
        assert done.kl_KP[0].mean() > 0.01
        torch.testing.assert_close(done.kl_KP[0], pairs.divergence(pairs.logits(torch.zeros_like(pairs.x_PCD))))


def test_a_patch_is_what_a_plain_hook_makes_of_it(folder: Path, subject: Subject, prompts: Prompts) -> None:
    """One prompt at a time without padding, in transformers, the features by hand."""
    W_FD = torch.randn(24, D, generator=torch.Generator().manual_seed(1))
    dictionary = Dictionary("d", "sae", W_FD.T.contiguous(), torch.full((24,), 0.3), W_FD, torch.ones(D)).at(HOOK)
    features, plain = [3, 7, 11], AutoModelForCausalLM.from_pretrained(folder).eval()
    done = patch(Pairs(subject, dictionary, prompts), features, [3])

    def run(ids: Tensor, edit: Tensor | None = None) -> tuple[Tensor, Tensor]:
        seen = []

        def hook(module: object, args: object, output: Tensor | tuple[Tensor]) -> Tensor | tuple[Tensor]:
            x = output[0] if isinstance(output, tuple) else output
            seen.append(x.clone())
            changed = x if edit is None else x + edit
            return (changed, *output[1:]) if isinstance(output, tuple) else changed

        handle = plain.transformer.h[0].register_forward_hook(hook)
        with torch.no_grad():
            logits = plain(ids[None]).logits[0, -1].log_softmax(0)
        handle.remove()
        return logits, seen[0]

    for row in range(4):
        ids, other = (each[row, : prompts.last_P[row] + 1] for each in (prompts.ids_PC, prompts.other_ids_PC))
        (_, x), (target, x_other) = run(ids), run(other)
        acts, acts_other = (torch.relu((each - 1) @ W_FD.T + 0.3) for each in (x, x_other))
        edit = ((acts_other - acts)[..., features] @ W_FD[features]).view_as(x)
        patched, _ = run(ids, edit)
        kl = (target.exp() * (target - patched)).sum()
        torch.testing.assert_close(done.kl_KP[0, row], kl, atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(done.edit_KP[0, row], edit.norm(), atol=1e-4, rtol=1e-4)
        assert done.followed_KP[0, row] == (patched.argmax() == prompts.other_P[row])
        whole, _ = run(ids, ((acts_other - acts) @ W_FD).view_as(x))
        left = (target.exp() * (target - whole)).sum()
        torch.testing.assert_close(done.whole_1P[0, row], left, atol=1e-4, rtol=1e-3)


def test_the_search_begins_with_the_feature_that_alone_does_most(subject: Subject, prompts: Prompts) -> None:
    """Against trying every feature by itself; counts that rise by one search on beside what is patched."""
    pairs = Pairs(subject, pca(subject.activations(prompts.ids_PC, HOOK).flatten(0, 1)).at(HOOK), prompts)
    every = pairs.candidates()
    order = search(pairs, [1, 2])
    alone = {feature: float(patch(pairs, [feature], [1]).kl_KP.mean()) for feature in every}
    assert order[0] == min(alone, key=lambda feature: alone[feature])
    second = {one: float(patch(pairs, [order[0], one], [2]).kl_KP.mean()) for one in every if one != order[0]}
    assert order[1] == min(second, key=lambda feature: second[feature])


def test_a_transcoder_is_refused(subject: Subject, prompts: Prompts) -> None:
    eye = torch.eye(D)
    one = Dictionary("t", "sae", eye, torch.zeros(D), eye, torch.zeros(D), reads=(HOOK,), writes=("hook_embed",))
    with pytest.raises(UserError, match="features can be ablated only where"):
        Pairs(subject, one, prompts)


def test_features_of_a_temporal_autoencoder_are_patched_in_their_context(subject: Subject, prompts: Prompts) -> None:
    """Patching all features one after the other is patching them together."""
    dictionary = temporal(D, 24).at(HOOK)
    pairs = Pairs(subject, dictionary, prompts)
    torch.testing.assert_close(pairs.edited_whole(), pairs.edited(range(24)), atol=1e-4, rtol=1e-4)
