"""One trainer: scale, dead features, what is measured, continuing from a saved state."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from sae.common.errors import UserError
from sae.training.architectures.topk import TopKAutoencoder
from sae.training.resampling import Resampler, due
from sae.training.trainer import LOOK_EVERY, Trainer, geometric_median
from tests.sae.training import recipes
from tests.sae.training.superposition import D, batches, trained, workspace

RESAMPLING = recipes.Resampling(steps=(40, 110), silent_steps=5, inputs=300)
ALL: dict[str, recipes.Recipe] = {
    "relu": recipes.ReLU(l1=0.1, expansion=2, lr=1e-2, l1_warmup=0.5),
    "relu, resampled": recipes.ReLU(l1=0.5, expansion=2, lr=1e-2, resampling=RESAMPLING),
    "tied": recipes.Tied(l1=0.1, expansion=2, lr=1e-2),
    "gated": recipes.Gated(l1=0.1, expansion=2, lr=1e-2),
    "jumprelu": recipes.JumpReLU(l0=0.1, bandwidth=0.1, threshold=0.1, expansion=2, lr=1e-2, l0_warmup=0.9),
    "topk": recipes.TopK(k=2, expansion=2, lr=1e-2, dead_after=300, clip=0.1),
    "batch_topk": recipes.BatchTopK(k=2, expansion=2, lr=1e-2, dead_after=300),
    "matryoshka": recipes.Matryoshka(k=2, expansion=2, lr=1e-2, dead_after=300),
    "topk, near decoder": recipes.TopK(k=2, expansion=2, lr=3e-2, dead_after=300, frozen="near_decoder"),
    "relu, frozen decoder": recipes.ReLU(l1=0.5, expansion=2, lr=1e-2, resampling=RESAMPLING, frozen="decoder"),
    "relu, frozen encoder": recipes.ReLU(l1=0.1, expansion=2, lr=1e-2, frozen="encoder"),
}


@pytest.fixture(params=ALL.values(), ids=ALL)
def recipe(request: pytest.FixtureRequest) -> Any:
    return request.param


def go(trainer: Trainer, stream: Iterator[Tensor], until: int) -> None:
    """As the loop does it."""
    while trainer.steps_done < until:
        if due(trainer):
            resampler = Resampler(trainer)
            for _ in range(resampler.n_batches):
                resampler.add(next(stream))
            assert resampler.finish() > 0
        trainer.step(next(stream))


def test_scale_of_the_activations_does_not_matter(recipe: Any) -> None:
    """Activations 1,024 times larger give the same dictionary, 1,024 times larger where it must be, to the last bit."""
    small, large = (
        trained(recipe, 20, (x_BD * scale for x_BD in batches(0, 128))).dictionary("hook", "model", {})
        for scale in (1.0, 1024.0)
    )
    x_BD = next(batches(3, 64))
    assert torch.equal(large.W_dec_FD, small.W_dec_FD)
    assert torch.equal(large.b_dec_D, 1024 * small.b_dec_D)
    assert torch.equal(large.encode(1024 * x_BD), 1024 * small.encode(x_BD))
    assert small.encode(x_BD).any()


def test_scale_matters_where_it_is_left() -> None:
    bare = ALL["relu"].model_copy(update={"normalise": False})
    small, large = (trained(bare, 20, (x_BD * scale for x_BD in batches(0, 128))) for scale in (1.0, 1024.0))
    assert small.scale == large.scale == 1.0
    assert not torch.allclose(small.autoencoder.params["W_dec"], large.autoencoder.params["W_dec"])


def test_bias_begins_at_the_geometric_median() -> None:
    first_BD = next(batches(0, 256, constant=3.0))
    first_BD[0] = 1e4
    trainer = Trainer(ALL["relu"], 5, first_BD, workspace())
    raw_D = trainer.scale * trainer.autoencoder.params["b_dec"]
    assert float((raw_D - first_BD[1:].mean(0)).norm()) < 0.3 < float((raw_D - first_BD.mean(0)).norm())


def test_measured_is_of_the_batch_before_its_update() -> None:
    trainer, stream = trained(ALL["topk"], 5, batches(0, 128)), batches(1, 128)
    x_BD, dictionary = next(stream), trainer.dictionary("hook", "model", {})
    trainer.step(x_BD)
    result, f_BF = trainer.measure(x_BD), dictionary.encode(x_BD)
    squared = (dictionary.decode(f_BF) - x_BD).square().sum()
    assert result.l0 == pytest.approx(float((f_BF > 0).sum(1).double().mean()))
    assert result.fvu == pytest.approx(float(squared / (x_BD - x_BD.mean(0)).square().sum()), rel=1e-4)
    expected = trainer.autoencoder.error_weight * float(squared) / 128 / trainer.scale**2
    assert result.loss == pytest.approx(expected, rel=1e-4)


def test_penalty_rises_with_the_share_of_steps_done() -> None:
    """Linearly over the first half of 20 steps: before the first step none of them is done."""
    stream = batches(0, 128)
    trainer = Trainer(ALL["relu"], 20, next(stream), workspace())
    for step in range(20):
        x_BD, before = next(stream), trainer.dictionary("hook", "model", {})
        trainer.step(x_BD)
        result, f_BF = trainer.losses, before.encode(x_BD) / trainer.scale
        assert result is not None
        penalty = 128 * float(result.penalty)
        assert penalty == pytest.approx(0.1 * min(1, step / 10) * float(f_BF.sum()), rel=1e-3, abs=1e-3)


def test_dead_are_those_long_silent() -> None:
    """Of 48 features 12 never fire; they count as dead once `dead_after` vectors, or all since the start, were seen."""
    trainer = Trainer(ALL["relu"].model_copy(update={"dead_after": 384}), 20, next(batches(0, 128)), workspace())
    trainer.autoencoder.params["b_enc"][:12] = -100.0
    stream = batches(1, 128)
    for step in range(1, 6):
        x_BD = next(stream)
        active_F = (trainer.dictionary("hook", "model", {}).encode(x_BD) > 0).any(0)
        trainer.step(x_BD)
        assert torch.equal(trainer.silent_F == 0, active_F)
        assert set(trainer.silent_F[:12].tolist()) == {128 * step}
        assert trainer.measure(x_BD).dead == pytest.approx(0.25)


def test_by_default_dead_is_silent_for_a_sixth_of_the_training() -> None:
    """Never for more than 10 million vectors, what longer trainings had always."""
    recipe, x_BD = recipes.TopK(k=2, expansion=2), next(batches(0, 96))
    assert [Trainer(recipe, steps, x_BD, workspace()).dead_after for steps in (10, 10**7)] == [160, 10_000_000]
    assert Trainer(recipe.model_copy(update={"dead_after": 7}), 10, x_BD, workspace()).dead_after == 7


@pytest.mark.parametrize(("name", "default"), [("relu", 0.1), ("topk", 0.3), ("batch_topk", 0.3)])
def test_the_encoder_begins_with_the_decoder_s_rows_at_its_own_norm(name: str, default: float) -> None:
    x_BD = next(batches(0, 128))
    for changes, norm in (({}, default), ({"encoder_start": 0.5}, 0.5), ({"frozen": "encoder"}, 1.0)):
        params = Trainer(ALL[name].model_copy(update=changes), 1, x_BD, workspace()).autoencoder.params
        torch.testing.assert_close(params["W_enc"], norm * params["W_dec"])
        torch.testing.assert_close(params["W_dec"].norm(dim=1), torch.ones(2 * D))


@pytest.mark.parametrize(
    "name", ["topk", *(pytest.param(n, marks=pytest.mark.slow) for n in ("batch_topk", "matryoshka"))]
)
def test_auxiliary_loss_revives_dead_features(name: str) -> None:
    """Features too weak to be among the k largest come back with the auxiliary loss, and not without."""
    alive = {}
    for aux in (0.5, 0.0):
        settings = {"aux": aux, "k_aux": 16, "dead_after": 1024, "lr": 3e-3, "expansion": 4}
        stream = batches(0, 256)
        trainer = Trainer(ALL[name].model_copy(update=settings), 320, next(stream), workspace())
        trainer.autoencoder.params["W_enc"][8:] *= 0.05
        active_F = torch.zeros(4 * D, dtype=torch.bool)
        for step in range(320):
            trainer.step(next(stream))
            if step >= 270:
                active_F |= trainer.autoencoder.fired_F
        alive[aux] = int(active_F.sum())
    assert alive[0.5] > alive[0.0] + 10


def test_dead_features_are_told_to_the_auxiliary_loss_now_and_then() -> None:
    trainer, stream = trained(ALL["topk"], 1, batches(0, 128)), batches(1, 128)
    trainer.steps, autoencoder = 200, trainer.autoencoder
    assert isinstance(autoencoder, TopKAutoencoder)
    autoencoder.params["b_enc"][:7] = -100.0
    while trainer.steps_done < LOOK_EVERY:
        assert autoencoder.dead_S is None
        trainer.step(next(stream))
    assert autoencoder.dead_S is not None
    assert set(range(7)) <= set(autoencoder.dead_S.tolist())
    assert autoencoder.dead_S.tolist() == (trainer.silent_F >= 300).nonzero()[:, 0].tolist()


@pytest.mark.parametrize("stop", [1, 39, 70, 127])
def test_restored_training_goes_on_bitwise(recipe: Any, stop: int) -> None:
    """Into a trainer that began with another batch; through dead features, the auxiliary loss and resampling."""
    stream, steps = batches(0, 64), 150
    whole = Trainer(recipe, steps, next(stream), workspace())
    whole.autoencoder.params["b_enc" if "b_enc" in whole.autoencoder.params.parts else "b_gate"][:5] = -100.0
    go(whole, stream, stop)
    tensors = {name: tensor.clone() for name, tensor in whole.tensors().items()}
    facts, silent_F = dict(whole.facts()), whole.silent_F.clone()
    if isinstance(whole.autoencoder, TopKAutoencoder) and stop > LOOK_EVERY:
        assert whole.autoencoder.dead_S is not None
    rest = [next(stream) for _ in range(steps - stop + 20)]
    go(whole, iter(rest), steps)
    resumed = Trainer(recipe, steps, 3 * next(batches(9, 64)), workspace())
    resumed.restore(tensors, facts)
    assert torch.equal(resumed.silent_F, silent_F)
    for name, tensor in resumed.tensors().items():
        assert torch.equal(tensor, tensors[name]), name
    go(resumed, iter(rest), steps)
    for name, tensor in whole.tensors().items():
        assert torch.equal(resumed.tensors()[name], tensor), name
    assert resumed.facts() == whole.facts()
    x_BD = rest[0]
    result, expected = (trainer.dictionary("hook", "model", {}) for trainer in (resumed, whole))
    assert torch.equal(result.reconstruct(x_BD), expected.reconstruct(x_BD))


def test_other_seeds_begin_elsewhere(recipe: Any) -> None:
    first_BD = next(batches(0, 64))
    rows = [
        Trainer(recipe.model_copy(update={"seed": seed}), 5, first_BD, workspace()).autoencoder.params["W_dec"]
        for seed in (0, 0, 1)
    ]
    assert torch.equal(rows[0], rows[1])
    assert not torch.equal(rows[0], rows[2])


def test_activations_that_do_not_vary_are_refused() -> None:
    with pytest.raises(UserError, match="do not vary"):
        Trainer(ALL["relu"], 5, torch.ones(8, D), workspace())


def test_k_beyond_the_features_is_refused() -> None:
    with pytest.raises(UserError, match="k = 49 of 48"):
        Trainer(recipes.TopK(k=49, expansion=2), 5, next(batches(0, 8)), workspace())


def test_geometric_median_of_a_line_is_its_median() -> None:
    x_BD = torch.tensor([[0.0], [1.0], [2.0], [3.0], [1000.0]])
    assert float(geometric_median(x_BD)) == pytest.approx(2.0, abs=0.05)


def test_geometric_median_of_a_triangle_sees_its_sides_alike() -> None:
    """Torricelli's point of 3 vertices: the unit vectors towards them sum to zero."""
    x_BD = torch.tensor([[0.0, 0.0], [4.0, 0.0], [1.0, 3.0]])
    away_BD = x_BD - geometric_median(x_BD)
    assert float((away_BD / away_BD.norm(dim=1, keepdim=True)).sum(0).norm()) < 1e-3
