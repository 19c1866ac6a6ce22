"""Training on a toy model of superposition: the planted directions come back; PCA's and random ones do not."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from sae import baselines, train
from sae.dictionary import TopK
from sae.progress import Silent

D, TRUE = 24, 48


def directions_FD() -> Tensor:
    drawn = torch.randn(TRUE, D, generator=torch.Generator().manual_seed(7))
    return drawn / drawn.norm(dim=1, keepdim=True)


def sparse_batches(seed: int, size: int = 1024) -> Iterator[Tensor]:
    """Sums of 2 of 48 known directions in 24 dimensions, plus a constant."""
    generator = torch.Generator().manual_seed(seed)
    true_FD = directions_FD()
    while True:
        chosen_B2 = torch.rand(size, TRUE, generator=generator).topk(2).indices
        weights_B2 = 0.5 + torch.rand(size, 2, generator=generator)
        yield (true_FD[chosen_B2] * weights_B2[..., None]).sum(1) + 0.5


def recovered(rows_FD: Tensor) -> float:
    """Share of the true directions with a row at cosine 0.9 or better."""
    unit_FD = rows_FD / rows_FD.norm(dim=1, keepdim=True)
    return float(((directions_FD() @ unit_FD.T).amax(1) >= 0.9).double().mean())


@pytest.fixture(scope="module")
def trained() -> object:
    recipe = train.TopKRecipe("toy", expansion=4, k=2, steps=1200, batch=1024, lr=3e-3, dead_after=50_000)
    (dictionary,) = train.train([recipe], sparse_batches(0), "hook", "model", Silent)
    return dictionary


def test_topk_recovers_the_planted_directions(trained: object) -> None:
    assert recovered(trained.W_dec_FD) >= 0.9  # type: ignore[attr-defined]


def test_baselines_do_not() -> None:
    x_BD = next(sparse_batches(1, 8192))
    assert recovered(baselines.pca(x_BD).W_dec_FD) < 0.3
    assert recovered(baselines.random_directions(x_BD, 0).W_dec_FD) < 0.3


def test_k_is_respected_and_the_decoder_is_unit(trained: object) -> None:
    x_BD = next(sparse_batches(2))
    assert trained.activation == TopK(2)  # type: ignore[attr-defined]
    assert int((trained.encode(x_BD) > 0).sum(1).max()) <= 2  # type: ignore[attr-defined]
    torch.testing.assert_close(trained.W_dec_FD.norm(dim=1), torch.ones(96))  # type: ignore[attr-defined]


def test_training_does_not_depend_on_scale() -> None:
    """Activations a thousand times larger give the same dictionary, a thousand times larger where it must be."""
    recipe = train.TopKRecipe("s", expansion=2, k=2, steps=20, batch=1024)
    small, large = (
        train.train([recipe], (x * scale for x in sparse_batches(0)), "h", "m", Silent)[0] for scale in (1.0, 1000.0)
    )
    x_BD = next(sparse_batches(3, 64))
    torch.testing.assert_close(large.encode(1000 * x_BD), 1000 * small.encode(x_BD), rtol=1e-2, atol=1.0)


def test_training_together_equals_training_alone() -> None:
    one = train.TopKRecipe("one", expansion=2, k=2, steps=15, batch=1024)
    two = train.TopKRecipe("two", expansion=3, k=4, steps=25, batch=1024, seed=1)
    together = train.train([one, two], sparse_batches(0), "h", "m", Silent)
    alone = [train.train([recipe], sparse_batches(0), "h", "m", Silent)[0] for recipe in (one, two)]
    for a, b in zip(together, alone, strict=True):
        assert torch.equal(a.W_enc_DF, b.W_enc_DF)


def test_auxiliary_loss_revives_dead_features() -> None:
    """Features too weak to be among the k largest come back with the auxiliary loss, and not without."""
    first_BD = next(sparse_batches(0))
    alive = {}
    for k_aux in (16, 0):
        recipe = train.TopKRecipe("a", expansion=4, k=2, steps=300, batch=1024, lr=3e-3, k_aux=k_aux, dead_after=2048)
        trainer = train.TopKTrainer(recipe, first_BD)
        with torch.no_grad():
            trainer.W_enc_DF[:, 8:] *= 0.05
        seen_F = torch.zeros(trainer.n_features, dtype=torch.bool)
        for step, x_BD in zip(range(300), sparse_batches(0), strict=False):
            trainer.step(x_BD)
            if step >= 250:
                seen_F |= (trainer.dictionary("h", "m").encode(x_BD) > 0).any(0)
        alive[k_aux] = int(seen_F.sum())
    assert alive[16] > alive[0] + 10


def test_geometric_median_of_a_line_is_its_median() -> None:
    x_BD = torch.tensor([[0.0], [1.0], [2.0], [3.0], [1000.0]])
    assert float(train.geometric_median(x_BD)) == pytest.approx(2.0, abs=0.05)
