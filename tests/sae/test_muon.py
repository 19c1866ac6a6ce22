"""Muon in float32 against torch's own, which works in bfloat16, and against the singular value decomposition."""

import pytest
import torch

from sae.models.muon import Muon, orthogonalised

SHAPES = [(128, 384), (512, 128), (64, 64)]


def drawn(shape: tuple[int, int], seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", SHAPES[:2])  # a square one has values of almost 0, which stay so
def test_singular_values_become_about_one_and_vectors_stay(shape: tuple[int, int]) -> None:
    matrix_AB = drawn(shape, 0)
    u, _, v = torch.linalg.svd(matrix_AB, full_matrices=False)
    inside = u.T @ orthogonalised(matrix_AB) @ v.T
    values = inside.diagonal()
    assert values.min() > 0.6
    assert values.max() < 1.3
    assert (inside - values.diag()).abs().max() < 1e-4


@pytest.mark.parametrize("shape", SHAPES)
def test_steps_are_torchs(shape: tuple[int, int]) -> None:
    ours, theirs = (torch.nn.Parameter(drawn(shape, 1)) for _ in range(2))
    pair = [Muon([ours], lr=0.03), torch.optim.Muon([theirs], lr=0.03, weight_decay=0.0)]
    for seed in range(2, 8):
        ours.grad = theirs.grad = drawn(shape, seed)
        for optimiser in pair:
            optimiser.step()
    moved, expected = (weight.detach() - drawn(shape, 1) for weight in (ours, theirs))
    assert (moved - expected).norm() < 0.03 * expected.norm()  # bfloat16 has three digits
