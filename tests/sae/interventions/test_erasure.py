"""Concept erasure: against the library, closed forms by another way, and a concept planted in one direction."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sae.dictionary import Dictionary
from sae.interventions.erased import measure_erased, probe
from sae.interventions.erasure import (
    ablated,
    by_correlation,
    correlation,
    leace,
    mean_difference,
    principal_components,
)
from sae.models.subject import Subject
from sae.tasks.accuracy import in_tokens, last_logits
from sae.tasks.grammar import pronouns, sides
from tests.sae.tasks.conftest import folder, subject

__all__ = ["folder", "subject"]
HOOK = "blocks.0.hook_resid_post"
B, D = 400, 6


@pytest.fixture(scope="module")
def planted() -> tuple[Tensor, Tensor]:
    """Correlated vectors, a class, and a shift along one direction where it holds."""
    generator = torch.Generator().manual_seed(0)
    is_one_B = torch.rand(B, generator=generator) < 0.4
    x_BD = torch.randn(B, D, generator=generator) @ torch.randn(D, D, generator=generator)
    return x_BD + 2 * is_one_B[:, None] * torch.randn(D, generator=generator), is_one_B


def test_leace_leaves_no_covariance_and_moves_no_vector_further_than_needed(planted: tuple[Tensor, Tensor]) -> None:
    """The optimum by another way: of all x - u (v'x) with v'Cov(x, z) scaled so that nothing is left, the least move.

    With one concept, Cov(x - u v'(x - mean), z) = s - u (v's) is 0 only for u = s / (v's), s = Cov(x, z); the mean
    square move |u|^2 v'Cv is then least for v = C^-1 s, by Cauchy and Schwarz.
    """
    x_BD, z_B = (one.double() for one in planted)
    centred_BD = x_BD - x_BD.mean(0)
    s_D, cov_DD = centred_BD.T @ (z_B - z_B.mean()) / B, centred_BD.T @ centred_BD / B
    v_D = torch.linalg.solve(cov_DD, s_D)
    expected_BD = x_BD - torch.outer(centred_BD @ v_D, s_D / (v_D @ s_D))
    erased_BD = leace(x_BD, z_B[:, None])(x_BD)
    torch.testing.assert_close(erased_BD, expected_BD, atol=1e-8, rtol=1e-8)
    assert ((erased_BD - erased_BD.mean(0)).T @ (z_B - z_B.mean())).abs().max() < 1e-8
    moves = [(each - x_BD).square().sum() for each in (erased_BD, mean_difference(x_BD, planted[1])(x_BD))]
    assert moves[0] < moves[1]


def test_leace_is_the_library_s(planted: tuple[Tensor, Tensor]) -> None:
    library = pytest.importorskip("concept_erasure", reason="concept-erasure is not installed here")
    x_BD, is_one_B = planted
    theirs = library.LeaceEraser.fit(x_BD.double(), is_one_B.double(), shrinkage=False)(x_BD.double())
    torch.testing.assert_close(leace(x_BD, is_one_B[:, None])(x_BD.double()), theirs, atol=1e-6, rtol=1e-6)


def test_leace_takes_several_concepts_and_vectors_of_lower_rank(planted: tuple[Tensor, Tensor]) -> None:
    x_BD, is_one_B = planted
    z_BZ = torch.stack([is_one_B, torch.arange(B) % 3 == 0], 1)
    flat_BD = torch.cat([x_BD, x_BD[:, :2], torch.ones(B, 1)], 1).double()
    erased_BD = leace(flat_BD, z_BZ)(flat_BD)
    left = (erased_BD - erased_BD.mean(0)).T @ (z_BZ.double() - z_BZ.double().mean(0))
    assert left.abs().max() < 1e-6 * B
    torch.testing.assert_close(erased_BD[:, :2], erased_BD[:, D : D + 2])


def test_a_mean_difference_and_principal_components_are_projected_out(planted: tuple[Tensor, Tensor]) -> None:
    x_BD, is_one_B = planted
    erased_BD = mean_difference(x_BD, is_one_B)(x_BD)
    torch.testing.assert_close(erased_BD[is_one_B].mean(0), erased_BD[~is_one_B].mean(0), atol=1e-4, rtol=1e-4)
    direction_D = x_BD[is_one_B].mean(0) - x_BD[~is_one_B].mean(0)
    across_D = torch.linalg.qr(torch.cat([direction_D[:, None], torch.eye(D)[:, 1:]], 1)).Q[:, 1]
    torch.testing.assert_close(erased_BD @ across_D, x_BD @ across_D, atol=1e-4, rtol=1e-4)
    everything_BD = principal_components(x_BD, is_one_B, D)(x_BD)
    torch.testing.assert_close(everything_BD, x_BD.mean(0).expand(B, -1), atol=1e-4, rtol=1e-4)
    one_BD = principal_components(x_BD, is_one_B, 1)(x_BD)
    components_DD = np.linalg.svd((x_BD - x_BD.mean(0)).numpy(), full_matrices=False)[2]
    strength = [abs(np.corrcoef(x_BD.numpy() @ one, is_one_B.numpy())[0, 1]) for one in components_DD]
    best_D = torch.from_numpy(components_DD[int(np.argmax(strength))])
    torch.testing.assert_close((one_BD - x_BD.mean(0)) @ best_D, torch.zeros(B), atol=1e-4, rtol=1e-4)


def test_a_planted_feature_is_the_first_and_ablating_it_erases_the_concept() -> None:
    """Feature 2 is the concept: nothing else knows it, so that a probe falls to chance without it, and not before."""
    generator = torch.Generator().manual_seed(0)
    is_one_B = torch.rand(B, generator=generator) < 0.5
    x_BD = torch.rand(B, D, generator=generator)
    x_BD[:, 2] = 3.0 * is_one_B
    eye, zero = torch.eye(D), torch.zeros(D)
    dictionary = Dictionary("n", "sae", eye, zero, eye, zero).at(HOOK)
    assert by_correlation(dictionary, x_BD, is_one_B)[0] == 2
    torch.testing.assert_close(correlation(x_BD, is_one_B)[2], torch.ones((), dtype=torch.float64))
    assert torch.equal(ablated(dictionary, ())(x_BD), x_BD)
    half = slice(B // 2), slice(B // 2, None)
    shares = []
    for features in ((), (0, 1, 3, 4, 5), (2,)):
        erased_BD = ablated(dictionary, features)(x_BD)
        named_B = probe(erased_BD[half[0]], is_one_B[half[0]], erased_BD[half[1]])
        shares.append(float((named_B == is_one_B[half[1]]).float().mean()))
        assert torch.equal(erased_BD[:, list(features)], torch.zeros(B, len(features)))
    assert shares[0] == shares[1] == 1.0
    assert shares[2] < 0.65


def test_erasing_nothing_changes_nothing_and_everything_leaves_chance(subject: Subject) -> None:
    prompts = in_tokens(subject, pronouns(sides(0)[0], 60, 0))
    feminine = torch.tensor([ids[0] for ids in subject.token_ids([" she", " her", " herself"])])
    is_one_P = torch.isin(prompts.answer_P, feminine)
    x_PD = prompts.at_last(subject.activations(prompts.ids_PC, HOOK))
    eye = torch.eye(16)
    signed = Dictionary("s", "sae", torch.cat([eye, -eye], 1), torch.zeros(32), torch.cat([eye, -eye]), torch.zeros(16))
    other_NC = prompts.ids_PC[:8]
    nothing, everything = (
        measure_erased(subject, HOOK, ablated(signed.at(HOOK), features), (x_PD, is_one_P), prompts, is_one_P, other_NC)
        for features in ((), range(32))
    )
    assert nothing.edit_P.max() == 0
    assert nothing.kl_N.abs().max() < 1e-6
    both_P2 = torch.stack([prompts.answer_P, prompts.other_P], 1)
    margin_P2 = last_logits(subject, prompts, prompts.ids_PC).gather(1, both_P2)
    assert torch.equal(nothing.answer_P, margin_P2[:, 0] > margin_P2[:, 1])
    torch.testing.assert_close(everything.edit_P, torch.ones(60))
    assert everything.probe_P.float().mean() == max(is_one_P.float().mean(), 1 - is_one_P.float().mean())
    assert everything.kl_N.min() > 0


def test_kl_is_that_of_a_plain_hook(folder: Path, subject: Subject) -> None:
    from transformers import AutoModelForCausalLM

    plain, ids_NC = AutoModelForCausalLM.from_pretrained(folder).eval(), torch.arange(1, 25).view(2, 12)
    prompts = in_tokens(subject, pronouns(sides(0)[0], 60, 0))
    x_PD = prompts.at_last(subject.activations(prompts.ids_PC, HOOK))
    is_one_P = torch.arange(60) % 2 == 0
    erase = mean_difference(x_PD, is_one_P)
    measured = measure_erased(subject, HOOK, erase, (x_PD, is_one_P), prompts, is_one_P, ids_NC)
    direction_D = x_PD[is_one_P].mean(0) - x_PD[~is_one_P].mean(0)
    unit_D = direction_D / direction_D.norm()

    def hook(module: object, args: object, output: Tensor | tuple[Tensor]) -> Tensor | tuple[Tensor]:
        x = output[0] if isinstance(output, tuple) else output
        changed = x - ((x - x_PD.mean(0)) @ unit_D)[..., None] * unit_D
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    with torch.no_grad():
        clean = plain(ids_NC).logits.log_softmax(-1)
        handle = plain.transformer.h[0].register_forward_hook(hook)
        changed = plain(ids_NC).logits.log_softmax(-1)
        handle.remove()
    expected_N = (clean.exp() * (clean - changed)).sum(-1).mean(1)
    torch.testing.assert_close(measured.kl_N, expected_N, atol=1e-4, rtol=1e-3)
