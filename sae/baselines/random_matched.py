"""Registers random directions that are active as rarely as a dictionary's features."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sae.baselines.random import random_directions
from sae.baselines.registry import BASELINES, Baseline
from sae.common.errors import UserError
from sae.common.seeds import derive_seed, torch_generator

if TYPE_CHECKING:
    from torch import Tensor

    from sae.dictionary import Dictionary


def random_matched(x_BD: Tensor, seed: int, target: Dictionary, target_density_F: Tensor) -> Dictionary:
    """Draw random directions, each silent below a threshold that gives it the density of a live feature of `target`.

    Density = share of `x_BD` on which a feature is active. Each direction is matched to one feature of the target,
    drawn with the seed, so that the whole distribution of densities is matched, not only its mean. Raises UserError if
    the target is active nowhere.
    """
    import torch

    from sae.dictionary import Dictionary, JumpReLU

    base = random_directions(x_BD, derive_seed(seed, "matched directions", target.name)).to(str(x_BD.device))
    alive = target_density_F[target_density_F > 0].double()
    if not len(alive):
        raise UserError(
            f"dictionary {target.name} is active nowhere on this text; is it for this model and hook point?"
        )
    generator = torch_generator(seed, "matched features", target.name)
    density_F = alive[torch.randint(len(alive), (base.n_features,), generator=generator)]
    threshold_F = _thresholds(x_BD, base, density_F)
    name = f"random_matched[{target.name}]"
    return Dictionary(
        name, "random_matched", base.W_enc_DF, base.b_enc_F, base.W_dec_FD, base.b_dec_D, JumpReLU(threshold_F)
    )


def _thresholds(x_BD: Tensor, base: Dictionary, density_F: Tensor) -> Tensor:
    """Return the value [F] that each feature's pre-activation exceeds on a share `density_F` of the vectors."""
    import torch

    thresholds = []
    for features in torch.arange(base.n_features).split(128):
        pre_BS = torch.addmm(base.b_enc_F[features], x_BD - base.b_dec_D, base.W_enc_DF[:, features])
        sorted_BS = pre_BS.sort(0, descending=True).values
        rank_S = (density_F[features] * len(x_BD)).round().long().clamp(1, len(x_BD) - 1)
        thresholds.append(sorted_BS.gather(0, rank_S.to(sorted_BS.device)[None])[0])
    return torch.cat(thresholds).relu()


BASELINES.register(
    "random_matched",
    Baseline(
        "random_matched", "#56B4E9", random_matched, matched=True, has_top_k=False, label="random, density-matched"
    ),
)
