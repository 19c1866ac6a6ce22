"""Trains BatchTopK autoencoders (Bussmann et al. 2024): the k B largest features of a whole batch of B vectors.

Shape suffixes: B activation vectors, D their width, F features, N entries.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from sae.training.architectures.recipe import Sparse
from sae.training.architectures.registry import ARCHITECTURES, Architecture
from sae.training.architectures.topk import TopKAutoencoder

if TYPE_CHECKING:
    from torch import Tensor

    from sae.dictionary import Activation
    from sae.training.architectures.base import Workspace
    from sae.training.sparse import Entries

MEMORY, SHARE = 100, 0.1
"""BatchTopK's threshold afterwards is a running mean of the smallest kept activation over the last `SHARE` of the
batches, at most `MEMORY`: activations shift while they are learnt, so a longer memory of a short training is wrong."""
FLOOR = 0.95
"""Share of the last batch's smallest kept activation above which the next batch's are looked for."""
FLOOR_VECTORS = 256
"""Vectors of the first batch that its floor is estimated from."""


class BatchTopK(Sparse):
    """Keeps the k * B largest of a batch of B (Bussmann et al. 2024); a JumpReLU with one threshold afterwards."""

    architecture: Literal["batch_topk"] = "batch_topk"
    aux: Annotated[float, Field(ge=0)] = 1 / 8
    """Coefficient of the auxiliary loss, in which dead features reconstruct the error; 0: none. At the 1/32 of most
    papers more features die for the same FVU."""


class BatchTopKAutoencoder(TopKAutoencoder):
    """Computes f = the k B largest of the whole batch, rectified.

    Where the batch is shared, each process chooses the k B largest of its own part's B vectors: what features compete
    in is smaller. The threshold follows the mean of the parts' smallest kept activations and is the same everywhere.
    """

    def __init__(self, recipe: Sparse, workspace: Workspace) -> None:
        import torch

        super().__init__(recipe, workspace)
        self.threshold = torch.full((), -1.0, device=workspace.device, dtype=self.master)
        """Running mean of the smallest kept activation."""
        self.floor, self.seen = torch.zeros_like(self.threshold), torch.zeros_like(self.threshold)

    def initialise(self, x_BD: Tensor, b_dec_D: Tensor) -> None:
        """Set the first batch's floor too, from some of its vectors."""
        super().initialise(x_BD, b_dec_D)
        some_BD = x_BD[:FLOOR_VECTORS, : self.workspace.d_in].to(self.master)
        some_BD = some_BD if self.workspace.d_out else some_BD - self.params["b_dec"]
        pre_N = (some_BD @ self.params["W_enc"].T).flatten()
        n = min(self.recipe.k * len(some_BD), len(pre_N))
        self.floor.copy_(FLOOR * pre_N.topk(n, sorted=False).values.amin().relu())

    def state(self) -> Mapping[str, Tensor]:
        return {"threshold": self.threshold, "floor": self.floor, "seen": self.seen}

    def activation(self, scale: float) -> Activation:
        from sae.dictionary import JumpReLU

        return JumpReLU((self.threshold.cpu() * scale).clamp_min(0).expand(self.n_features).clone())

    def _entries(self, pre_BF: Tensor) -> Entries:
        from sae.training.sparse import batch_top_k

        b, n = len(pre_BF), min(self.recipe.k * len(pre_BF), pre_BF.numel())
        values_N, indices_N = batch_top_k(pre_BF, n, self.floor)
        values_N = self.workspace.ranks.kept(values_N.relu(), self.recipe.k * b)
        self._note(values_N)
        return self._listed(values_N, indices_N // self.n_local, indices_N % self.n_local, b)

    def _listed(self, values_N: Tensor, rows_N: Tensor, features_N: Tensor, b: int) -> Entries:
        from sae.training.sparse import by_index

        return by_index(values_N, rows_N, features_N, b)

    def _note(self, values_N: Tensor) -> None:
        """Follow the smallest kept activation, all processes alike."""
        import torch

        ranks, smallest = self.workspace.ranks, torch.where(values_N > 0, values_N, torch.inf).amin().to(self.master)
        smallest = ranks.least_over_features(smallest)
        smallest = ranks.average_over_parts(torch.where(smallest.isinf(), 0.0, smallest))
        self.seen.add_(1)
        weight = 1 / (self.seen * SHARE).clamp(1, MEMORY)
        self.threshold.lerp_(smallest, weight)
        self.floor.copy_(FLOOR * smallest)


ARCHITECTURES.register("batch_topk", Architecture("batch_topk", "#9d4edd", BatchTopK, BatchTopKAutoencoder))
