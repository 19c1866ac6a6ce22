"""Registers the neurons themselves, rectified."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sae.baselines.registry import BASELINES, Baseline

if TYPE_CHECKING:
    from torch import Tensor

    from sae.dictionary import Dictionary


def neurons(x_BD: Tensor, seed: int = 0) -> Dictionary:
    """Make each coordinate of the activations a feature: "identity-ReLU" of Cunningham et al. 2023. Draws nothing."""
    import torch

    from sae.dictionary import Dictionary

    identity_DD = torch.eye(x_BD.shape[1], device=x_BD.device)
    zero_D = torch.zeros_like(identity_DD[0])
    return Dictionary("neurons", "neurons", identity_DD, zero_D, identity_DD, zero_D)


BASELINES.register("neurons", Baseline("neurons", "#0072B2", neurons))
