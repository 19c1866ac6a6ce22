"""The written gradients against automatic differentiation, in double precision, of losses spelled out here."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from sae.common.errors import UserError
from sae.training.architectures.base import Autoencoder
from sae.training.architectures.registry import build
from sae.training.architectures.topk import TopKAutoencoder
from tests.sae.training import recipes
from tests.sae.training.superposition import workspace

D, B, F = 16, 64, 64
DEAD = (1, 5, 9, 30, 31)
TOLERANCE = 1e-11
Params = dict[str, Tensor]


class Jump(torch.autograd.Function):
    """pre [pre > t], with the JumpReLU paper's pseudo-derivative with respect to t."""

    @staticmethod
    def forward(ctx: Any, pre_BF: Tensor, t_F: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(pre_BF, t_F)
        ctx.bandwidth = bandwidth
        return pre_BF * (pre_BF > t_F)

    @staticmethod
    def backward(ctx: Any, grad_BF: Tensor) -> tuple[Tensor, Tensor, None]:  # type: ignore[override]
        pre_BF, t_F = ctx.saved_tensors
        kernel_BF = (((pre_BF - t_F) / ctx.bandwidth).abs() < 0.5).double()
        return grad_BF * (pre_BF > t_F), (-(t_F / ctx.bandwidth) * kernel_BF * grad_BF).sum(0), None


class Step(torch.autograd.Function):
    """[pre > t], likewise."""

    @staticmethod
    def forward(ctx: Any, pre_BF: Tensor, t_F: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(pre_BF, t_F)
        ctx.bandwidth = bandwidth
        return (pre_BF > t_F).double()

    @staticmethod
    def backward(ctx: Any, grad_BF: Tensor) -> tuple[None, Tensor, None]:  # type: ignore[override]
        pre_BF, t_F = ctx.saved_tensors
        kernel_BF = (((pre_BF - t_F) / ctx.bandwidth).abs() < 0.5).double()
        return None, (-(1 / ctx.bandwidth) * kernel_BF * grad_BF).sum(0), None


def read(x_BD: Tensor, p: Params) -> Tensor:
    """What is encoded: a transcoder's rows begin with it, and nothing is subtracted."""
    return x_BD - p["b_dec"] if x_BD.shape[1] == D else x_BD[:, :D]


def goal(x_BD: Tensor, p: Params) -> Tensor:
    """What the features and the bias must make: of a transcoder, what its skip does not."""
    if x_BD.shape[1] == D:
        return x_BD
    return x_BD[:, D:] - (x_BD[:, :D] @ p["W_skip"] if "W_skip" in p else 0)


def relu(x_BD: Tensor, p: Params, r: Any, c: float, share: float) -> tuple[Tensor, Tensor, Tensor]:
    f_BF = (read(x_BD, p) @ p["W_enc"].T + p["b_enc"]).relu()
    error_BD = f_BF @ p["W_dec"] + p["b_dec"] - goal(x_BD, p)
    return (c * error_BD.square().sum(1) + share * r.l1 * f_BF.sum(1)).mean(), f_BF, error_BD


def tied(x_BD: Tensor, p: Params, r: Any, c: float, share: float) -> tuple[Tensor, Tensor, Tensor]:
    f_BF = (x_BD @ p["W_dec"].T + p["b_enc"]).relu()
    error_BD = f_BF @ p["W_dec"] - x_BD
    return (c * error_BD.square().sum(1) + share * r.l1 * f_BF.sum(1)).mean(), f_BF, error_BD


def gated(x_BD: Tensor, p: Params, r: Any, c: float, share: float) -> tuple[Tensor, Tensor, Tensor]:
    """The auxiliary reconstruction goes through the same decoder, in the paper through one that it does not change."""
    u_BF = read(x_BD, p) @ p["W_enc"].T
    gate_BF = (u_BF + p["b_gate"]).relu()
    f_BF = (gate_BF > 0) * (p["r_mag"].exp() * u_BF + p["b_mag"]).relu()
    error_BD = f_BF @ p["W_dec"] + p["b_dec"] - goal(x_BD, p)
    if r.gate_teaches_decoder:
        by_gate_BD = gate_BF @ p["W_dec"] + p["b_dec"] - goal(x_BD, p)
    else:
        by_gate_BD = gate_BF @ p["W_dec"].detach() + p["b_dec"].detach() - goal(x_BD, p).detach()
    squared_B = error_BD.square().sum(1) + by_gate_BD.square().sum(1)
    return (c * squared_B + share * r.l1 * gate_BF.sum(1)).mean(), f_BF, error_BD


def jumprelu(x_BD: Tensor, p: Params, r: Any, c: float, share: float) -> tuple[Tensor, Tensor, Tensor]:
    pre_BF = read(x_BD, p) @ p["W_enc"].T + p["b_enc"]
    f_BF = Jump.apply(pre_BF, p["threshold"], r.bandwidth)
    active_BF = Step.apply(pre_BF, p["threshold"], r.bandwidth)
    error_BD = f_BF @ p["W_dec"] + p["b_dec"] - goal(x_BD, p)
    return (c * error_BD.square().sum(1) + share * r.l0 * active_BF.sum(1)).mean(), f_BF, error_BD


def largest(pre: Tensor, k: int) -> Tensor:
    """Each row's k largest, rectified, the others 0."""
    values, indices = pre.topk(min(k, pre.shape[-1]))
    return torch.zeros_like(pre).scatter(-1, indices, values.relu())


def topk(x_BD: Tensor, p: Params, r: Any, c: float, dead: bool) -> tuple[Tensor, Tensor, Tensor]:
    """All three of the family; the auxiliary loss is relative to the error's variance and does not change the error."""
    pre_BF = read(x_BD, p) @ p["W_enc"].T + p["b_enc"]
    whole_batch = isinstance(r, recipes.BatchTopK | recipes.Matryoshka)
    f_BF = largest(pre_BF.flatten(), r.k * B).view(B, F) if whole_batch else largest(pre_BF, r.k)
    ends = [round(share * F) for share in r.prefixes] if isinstance(r, recipes.Matryoshka) else [F]
    errors = [f_BF[:, :end] @ p["W_dec"][:end] + p["b_dec"] - goal(x_BD, p) for end in ends]
    squared_B = torch.stack([error_BD.square().sum(1) for error_BD in errors]).mean(0)
    loss, error_BD = (c * squared_B).mean(), errors[-1].detach()
    if dead:
        revived_BS = largest(pre_BF[:, DEAD], r.k_aux or D // 2)
        left_BD = revived_BS @ p["W_dec"][list(DEAD)] + error_BD
        loss = loss + r.aux * left_BD.square().sum() / (error_BD - error_BD.mean(0)).square().sum()
    return loss, f_BF, errors[-1]


DENSE: list[tuple[recipes.Recipe, Callable[..., tuple[Tensor, Tensor, Tensor]]]] = [
    (recipes.ReLU(l1=0.03, expansion=4, squared_error="sum"), relu),
    (recipes.ReLU(l1=0.03, expansion=4, squared_error="mean", l1_warmup=0.5), relu),
    (recipes.Tied(l1=0.02, expansion=4), tied),
    (recipes.Tied(l1=0.02, expansion=4, l1_warmup=0.5), tied),
    (recipes.Gated(l1=0.02, expansion=4, squared_error="sum"), gated),
    (recipes.Gated(l1=0.2, expansion=4, l1_warmup=0.5), gated),
    (recipes.Gated(l1=0.2, expansion=4, gate_teaches_decoder=False), gated),
    (recipes.JumpReLU(l0=0.01, bandwidth=0.5, threshold=0.3, expansion=4, encoder_start=1.0), jumprelu),
    (recipes.JumpReLU(l0=0.1, bandwidth=0.2, threshold=0.5, expansion=4, encoder_start=1.0, l0_warmup=0.5), jumprelu),
    (recipes.JumpReLU(l0=0.1, bandwidth=2.0, threshold=0.3, expansion=4, squared_error="mean"), jumprelu),
]
SPARSE: list[recipes.Recipe] = [
    recipes.TopK(k=5, expansion=4, aux=0.5, k_aux=3),
    recipes.TopK(k=5, expansion=4, aux=0.5, squared_error="sum"),
    recipes.TopK(k=60, expansion=4, aux=0.5),
    recipes.BatchTopK(k=5, expansion=4, aux=0.5, k_aux=3, squared_error="mean"),
    recipes.BatchTopK(k=50, expansion=4, aux=0.5),
    recipes.Matryoshka(k=5, expansion=4, aux=0.5, k_aux=3, prefixes=(0.25, 0.5, 1)),
    recipes.Matryoshka(k=5, expansion=4, aux=0.5, prefixes=(1 / 16, 1 / 4, 1)),
]


def setting(recipe: recipes.Recipe, d_out: int | None = None) -> tuple[Autoencoder, Tensor]:
    """Weights and biases that no longer are what they begin with, and a batch; with `d_out`, a transcoder's."""
    generator = torch.Generator().manual_seed(0)
    x_BD = torch.randn(B, D + (d_out or 0), generator=generator, dtype=torch.float64)
    autoencoder = build(recipe, replace(workspace(D, torch.float64), d_out=d_out))
    autoencoder.initialise(x_BD, 0.1 * torch.randn(d_out or D, generator=generator, dtype=torch.float64))
    for part in autoencoder.params.parts.values():
        part.add_(0.1 * torch.randn(part.shape, generator=generator, dtype=torch.float64))
    if "threshold" in autoencoder.params.parts:
        autoencoder.params["threshold"].abs_()
    return autoencoder, x_BD


def error_weight(recipe: recipes.Recipe, x_BD: Tensor) -> float:
    y_BE = x_BD if x_BD.shape[1] == D else x_BD[:, D:]
    variance = float((y_BE - y_BE.mean(0)).square().sum(1).mean())
    return {"mean": 1 / y_BE.shape[1], "sum": 1.0, "variance": 1 / variance}[recipe.squared_error]


def check(autoencoder: Autoencoder, x_BD: Tensor, loss: Callable[[Params], tuple[Tensor, Tensor, Tensor]]) -> None:
    """Two batches' worth: what a first call leaves in buffers must not be felt by the second."""
    autoencoder.gradients(x_BD.flip(0) * 1.5)
    result = autoencoder.gradients(x_BD)
    params = {name: part.clone().requires_grad_() for name, part in autoencoder.params.parts.items()}
    expected, f_BF, error_BD = loss(params)
    expected.backward()
    for name, part in params.items():
        assert part.grad is not None
        assert float(part.grad.abs().max()) > 1e-4, f"{name} is not tested"
        torch.testing.assert_close(autoencoder.grads[name], part.grad, rtol=TOLERANCE, atol=TOLERANCE, msg=name)
    torch.testing.assert_close(result.error + result.penalty, expected.detach(), rtol=TOLERANCE, atol=TOLERANCE)
    squared = error_BD.detach().square().sum()
    torch.testing.assert_close(result.squared_error, squared, rtol=TOLERANCE, atol=TOLERANCE)
    assert int(result.active) == int((f_BF > 0).sum())
    assert torch.equal(autoencoder.fired_F, (f_BF > 0).any(0))


@pytest.mark.parametrize(("recipe", "loss"), DENSE)
@pytest.mark.parametrize("progress", [0.2, 0.9])
def test_dense(recipe: Any, loss: Callable[..., tuple[Tensor, Tensor, Tensor]], progress: float) -> None:
    """Penalties rise over the first half, or the first tenth, of training."""
    autoencoder, x_BD = setting(recipe)
    autoencoder.progress.fill_(progress)
    warmup = recipe.l0_warmup if isinstance(recipe, recipes.JumpReLU) else recipe.l1_warmup
    share = min(1.0, progress / warmup) if warmup else 1.0
    check(autoencoder, x_BD, lambda p: loss(x_BD, p, recipe, error_weight(recipe, x_BD), share))


@pytest.mark.parametrize("recipe", SPARSE)
@pytest.mark.parametrize("dead", [False, True])
def test_topk_family(recipe: Any, dead: bool) -> None:
    autoencoder, x_BD = setting(recipe)
    assert isinstance(autoencoder, TopKAutoencoder)
    autoencoder.dead_S = torch.tensor(DEAD) if dead else None
    check(autoencoder, x_BD, lambda p: topk(x_BD, p, recipe, error_weight(recipe, x_BD), dead))


TRANSCODED = [(recipe, loss) for recipe, loss in DENSE[::2] if not isinstance(recipe, recipes.Tied)]


@pytest.mark.parametrize(("recipe", "loss"), TRANSCODED)
@pytest.mark.parametrize("skip", [True, None])
@pytest.mark.parametrize("d_out", [D, 10])
def test_dense_transcoders(recipe: Any, loss: Callable[..., Any], skip: bool | None, d_out: int) -> None:
    recipe = recipe.model_copy(update={"skip": skip})
    autoencoder, x_BD = setting(recipe, d_out)
    autoencoder.progress.fill_(0.9)
    check(autoencoder, x_BD, lambda p: loss(x_BD, p, recipe, error_weight(recipe, x_BD), 1.0))


@pytest.mark.parametrize("recipe", SPARSE[::2])
@pytest.mark.parametrize("skip", [True, None])
@pytest.mark.parametrize("dead", [False, True])
def test_transcoders_of_the_topk_family(recipe: Any, skip: bool | None, dead: bool) -> None:
    recipe = recipe.model_copy(update={"skip": skip})
    autoencoder, x_BD = setting(recipe, 10)
    autoencoder.dead_S = torch.tensor(DEAD) if dead else None
    check(autoencoder, x_BD, lambda p: topk(x_BD, p, recipe, error_weight(recipe, x_BD), dead))


def test_a_skip_is_refused_where_what_is_read_is_written() -> None:
    with pytest.raises(UserError, match="skip is for transcoders"):
        setting(recipes.TopK(k=3, expansion=4, skip=True))


@pytest.mark.parametrize("recipe", [recipes.ReLU(l1=1.0, expansion=4), recipes.TopK(k=3, expansion=4)])
def test_nothing_active(recipe: Any) -> None:
    """The error is then that of the bias alone, and no feature fired."""
    autoencoder, x_BD = setting(recipe)
    autoencoder.params["b_enc"].fill_(-100.0)
    result = autoencoder.gradients(x_BD)
    assert int(result.active) == 0
    assert not autoencoder.fired_F.any()
    away_BD = autoencoder.params["b_dec"] - x_BD
    torch.testing.assert_close(result.squared_error, away_BD.square().sum())
    for name in ("W_enc", "W_dec", "b_enc"):
        assert not autoencoder.grads[name].any()
    expected_D = 2 * autoencoder.error_weight * away_BD.mean(0)
    torch.testing.assert_close(autoencoder.grads["b_dec"], expected_D)
