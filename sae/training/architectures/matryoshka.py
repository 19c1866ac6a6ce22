"""Trains Matryoshka autoencoders (Bussmann et al. 2025): BatchTopK whose first features also reconstruct alone.

Shape suffixes: B activation vectors, F features, N entries, G groups.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from sae.common.errors import UserError
from sae.common.field_types import Share
from sae.training.architectures.batch_topk import BatchTopKAutoencoder
from sae.training.architectures.recipe import Sparse
from sae.training.architectures.registry import ARCHITECTURES, Architecture

if TYPE_CHECKING:
    from torch import Tensor

    from sae.training.architectures.base import Workspace
    from sae.training.sparse import Entries


class Matryoshka(Sparse):
    """Trains BatchTopK so that its first features also reconstruct without the later ones (Bussmann et al. 2025)."""

    architecture: Literal["matryoshka"] = "matryoshka"
    prefixes: Annotated[tuple[Share, ...], Field(min_length=1)] = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1)
    """Shares of the features that reconstruct by themselves; the errors of all prefixes are averaged."""

    @model_validator(mode="after")
    def _rising(self) -> Matryoshka:
        if list(self.prefixes) != sorted(set(self.prefixes)) or self.prefixes[-1] != 1 or self.prefixes[0] == 0:
            raise ValueError("prefixes must rise to 1")
        return self


class MatryoshkaAutoencoder(BatchTopKAutoencoder):
    """Computes BatchTopK; the loss is the mean over prefixes of the features, each reconstructing by itself."""

    def __init__(self, recipe: Matryoshka, workspace: Workspace) -> None:
        import torch

        super().__init__(recipe, workspace)
        if workspace.ranks.features_here(self.n_features) != self.n_features:
            raise UserError(f"dictionary {recipe.label}: matryoshka's features cannot be shared; set split: data")
        ends = [round(share * self.n_features) for share in recipe.prefixes]
        if 0 in ends or len(set(ends)) < len(ends):
            raise UserError(
                f"dictionary {recipe.label}: two prefixes of {self.n_features} features are alike; take fewer"
            )
        self.ends_G = torch.tensor(ends, device=workspace.device)

    def _listed(self, values_N: Tensor, rows_N: Tensor, features_N: Tensor, b: int) -> Entries:
        import torch

        from sae.training.sparse import by_index

        group_N = torch.searchsorted(self.ends_G, features_N, right=True)
        return by_index(values_N, rows_N + b * group_N, features_N, b * len(self.ends_G))


ARCHITECTURES.register("matryoshka", Architecture("matryoshka", "#a44a3f", Matryoshka, MatryoshkaAutoencoder))
