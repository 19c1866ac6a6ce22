"""Training sparse autoencoders: several at once on one stream of activations. Knows nothing about language models.

TopK with the auxiliary loss of Gao et al. 2024 ("Scaling and evaluating sparse autoencoders").

Shape suffixes: B activation vectors, D their width, F features, K kept per vector.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag

from sae.dictionary import Dictionary, TopK
from sae.errors import UserError
from sae.progress import Report

AUX_COEFFICIENT = 1 / 32
MEDIAN_ITERATIONS = 30


@dataclass(frozen=True)
class TopKRecipe:
    """A TopK autoencoder of `expansion` times the hook point's width.

    The squared error is taken relative to the batch's variance, so that no setting depends on the activations' scale.
    A feature is dead if it was active on none of the last `dead_after` vectors; the auxiliary loss teaches the
    `k_aux` best dead ones (default: half the width) what the live ones leave over. `lr` defaults to
    8e-4 * sqrt(2048 / F), which follows Gao et al.'s 1 / sqrt(F).
    """

    name: str = "topk"
    expansion: float = 4
    k: int = 16
    steps: int = 150
    batch: int = 4096
    lr: float | None = None
    k_aux: int | None = None
    dead_after: int = 100_000
    seed: int = 0


class TopKTrainer:
    """One autoencoder being trained; `step` takes a batch, `dictionary` gives what has been learnt so far."""

    def __init__(self, recipe: TopKRecipe, first_BD: Tensor) -> None:
        self.recipe = recipe
        d_in = first_BD.shape[1]
        self.n_features = int(recipe.expansion * d_in)
        if not 0 < recipe.k <= self.n_features:
            raise UserError(
                f"dictionary {recipe.name}: k = {recipe.k} of {self.n_features} features; choose a smaller k"
            )
        self.scale = first_BD.norm(dim=1).mean() / math.sqrt(d_in)
        self.W_enc_DF, self.b_enc_F, self.W_dec_FD, self.b_dec_D = self._initial(first_BD / self.scale)
        self.silent_for_F = torch.zeros(self.n_features, dtype=torch.long, device=first_BD.device)
        self.steps_done = 0
        self.loss = torch.tensor(math.nan)
        self.lr = recipe.lr or 8e-4 * math.sqrt(2048 / self.n_features)
        self.optimiser = torch.optim.Adam(self._parameters(), lr=self.lr, betas=(0.9, 0.999), fused=True)

    def step(self, x_BD: Tensor) -> None:
        """One update on activation vectors [B, D]."""
        x_BD = x_BD / self.scale
        pre_BF = torch.addmm(self.b_enc_F, x_BD - self.b_dec_D.detach(), self.W_enc_DF)
        values_BK, kept_BK = pre_BF.topk(self.recipe.k, dim=1, sorted=False)
        values_BK = values_BK.relu()
        error_BD = x_BD - self.b_dec_D - self._decode(kept_BK, values_BK)
        variance = (x_BD - x_BD.mean(0)).square().sum()
        loss = error_BD.square().sum() / variance
        total = loss + AUX_COEFFICIENT * self._auxiliary_loss(pre_BF, error_BD.detach())
        self._set_rate()
        total.backward()
        self.optimiser.step()
        self.optimiser.zero_grad()
        self._after_step(kept_BK[values_BK > 0], len(x_BD))
        self.loss = loss.detach()

    def dictionary(self, hook_point: str, model: str) -> Dictionary:
        """The autoencoder in the activations' own scale."""
        detached = [parameter.detach().clone() for parameter in self._parameters()]
        W_enc_DF, b_enc_F, W_dec_FD, b_dec_D = detached
        return Dictionary(
            name=self.recipe.name,
            kind="sae",
            W_enc_DF=W_enc_DF,
            b_enc_F=b_enc_F * self.scale,
            W_dec_FD=W_dec_FD,
            b_dec_D=b_dec_D * self.scale,
            activation=TopK(self.recipe.k),
            hook_point=hook_point,
            model=model,
            metadata={"recipe": asdict(self.recipe) | {"architecture": "topk", "lr": self.lr}},
        )

    def _initial(self, x_BD: Tensor) -> list[nn.Parameter]:
        """Unit decoder rows at random, the encoder their transpose, the decoder bias at the data's median."""
        generator = torch.Generator().manual_seed(self.recipe.seed)
        rows_FD = torch.randn((self.n_features, x_BD.shape[1]), generator=generator).to(x_BD.device)
        rows_FD = rows_FD / rows_FD.norm(dim=1, keepdim=True)
        zero_F = torch.zeros(self.n_features, device=x_BD.device)
        return [nn.Parameter(v) for v in (rows_FD.T.clone(), zero_F, rows_FD, geometric_median(x_BD))]

    def _parameters(self) -> list[nn.Parameter]:
        return [self.W_enc_DF, self.b_enc_F, self.W_dec_FD, self.b_dec_D]

    def _decode(self, kept_BK: Tensor, values_BK: Tensor) -> Tensor:
        return embedding_bag(kept_BK, self.W_dec_FD, per_sample_weights=values_BK, mode="sum")

    def _auxiliary_loss(self, pre_BF: Tensor, error_BD: Tensor) -> Tensor:
        """How badly the best dead features explain what the live ones left over, relative to its variance."""
        dead_S = (self.silent_for_F >= self.recipe.dead_after).nonzero()[:, 0]
        wanted = error_BD.shape[1] // 2 if self.recipe.k_aux is None else self.recipe.k_aux
        k = min(wanted, len(dead_S))
        if k == 0:
            return error_BD.new_zeros(())
        values_BK, places_BK = pre_BF[:, dead_S].topk(k, dim=1, sorted=False)
        explained_BD = self._decode(dead_S[places_BK], values_BK.relu())
        return (error_BD - explained_BD).square().sum() / (error_BD - error_BD.mean(0)).square().sum()

    def _set_rate(self) -> None:
        """Warm up over the first 5% of the steps, decay linearly over the last 40%."""
        done = self.steps_done / self.recipe.steps
        for group in self.optimiser.param_groups:
            group["lr"] = self.lr * min(1.0, (done + 0.002) / 0.05, max(0.0, 1.002 - done) / 0.4)

    @torch.no_grad()
    def _after_step(self, active: Tensor, n_vectors: int) -> None:
        self.W_dec_FD.div_(self.W_dec_FD.norm(dim=1, keepdim=True))
        self.silent_for_F += n_vectors
        self.silent_for_F[active] = 0
        self.steps_done += 1


def geometric_median(x_BD: Tensor) -> Tensor:
    """The point with the least sum of distances to the vectors, by Weiszfeld's iteration, [D]."""
    median_D = x_BD.mean(0)
    for _ in range(MEDIAN_ITERATIONS):
        weight_B1 = 1 / (x_BD - median_D).norm(dim=1, keepdim=True).clamp_min(1e-8)
        median_D = (weight_B1 * x_BD).sum(0) / weight_B1.sum()
    return median_D


def train(
    recipes: Sequence[TopKRecipe], batches: Iterator[Tensor], hook_point: str, model: str, report: Report
) -> list[Dictionary]:
    """Train every recipe on the same batches; a recipe with fewer steps stops earlier."""
    first_BD = next(batches)
    trainers = [TopKTrainer(recipe, first_BD) for recipe in recipes]
    total = max(recipe.steps for recipe in recipes)
    names = ", ".join(recipe.name for recipe in recipes)
    with report(f"training {names}") as progress:
        for step in range(total):
            batch_BD = first_BD if step == 0 else next(batches)
            for trainer in trainers:
                if step < trainer.recipe.steps:
                    trainer.step(batch_BD)
            progress.update(step + 1, total, _note(trainers) if step % 10 == 0 else None)
    return [trainer.dictionary(hook_point, model) for trainer in trainers]


def _note(trainers: Sequence[TopKTrainer]) -> str:
    return "FVU " + ", ".join(f"{float(trainer.loss):.3f}" for trainer in trainers)
