"""Trains TopK autoencoders with AuxK (Gao et al. 2024); the whole TopK family descends from them.

One product of 2 B D F operations; all others touch the kept features only (and, for AuxK, the dead ones). Matryoshka's
nested reconstructions are sums over groups of features, so its list of entries has a row per vector and group; the
others have one group.

Shape suffixes: B activation vectors, D their width, F features, K kept per vector, N entries, G groups, R = G B,
S dead features.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from sae.common.errors import UserError
from sae.training.architectures.base import Autoencoder, Losses, square_sum
from sae.training.architectures.recipe import Sparse
from sae.training.architectures.registry import ARCHITECTURES, Architecture

if TYPE_CHECKING:
    from torch import Tensor

    from sae.dictionary import Activation
    from sae.training.architectures.base import Workspace
    from sae.training.sparse import Entries


class TopK(Sparse):
    """Keeps the k largest features of each vector (Gao et al. 2024)."""

    architecture: Literal["topk"] = "topk"


class TopKAutoencoder(Autoencoder):
    """Computes f = the k largest of (x - b_dec) W_enc' + b_enc, rectified; x_hat = f W_dec + b_dec."""

    recipe: Sparse

    def __init__(self, recipe: Sparse, workspace: Workspace) -> None:
        super().__init__(recipe, workspace)
        if recipe.k > self.n_features:
            raise UserError(f"dictionary {recipe.label}: k = {recipe.k} of {self.n_features} features; lower k")

    @property
    def teaches_dead(self) -> bool:
        return self.recipe.aux > 0

    def gradients(self, x_BD: Tensor) -> Losses:
        import torch

        from sae.training.sparse import Product

        p, b = self.low, len(x_BD)
        z_BD, target_BE = self._ends(x_BD)
        pre_BF = torch.addmm(p["b_enc"], z_BD, p["W_enc"].T, out=self._rows("pre", x_BD, self.n_local))
        entries = self._entries(pre_BF)
        decoded = Product.of(entries, p["W_dec"])
        error_GBD = self._errors(decoded.made_RD, target_BE)
        squared = torch.stack([square_sum(error_BD, self.master) for error_BD in error_GBD])
        back_RD = self._to_entries(error_GBD)
        values_N = entries.values_N
        grad_N = decoded.back(back_RD) * (values_N > 0)
        self._weights(entries, grad_N, back_RD, z_BD)
        auxiliary = self._auxiliary(pre_BF, z_BD, error_GBD[-1])
        self._decoder_bias(self.grads["b_enc"], back_RD[:b], z_BD)  # the first group is in all prefixes, as the bias is
        loss = self.error_weight * squared.mean() / b + auxiliary
        return Losses(loss, torch.zeros_like(loss), squared[-1], values_N)

    def activation(self, scale: float) -> Activation:
        from sae import dictionary

        return dictionary.TopK(self.recipe.k)

    def _entries(self, pre_BF: Tensor) -> Entries:
        from sae.largest import top_k
        from sae.training.sparse import by_row

        values_BK, features_BK = top_k(pre_BF, min(self.recipe.k, self.n_local))
        return by_row(self.workspace.ranks.kept(values_BK.relu_(), self.recipe.k), features_BK)

    def _errors(self, made_RD: Tensor, z_BD: Tensor) -> Tensor:
        """Return x_hat - x of every prefix, the whole dictionary last: [G, B, D]."""
        made_GBD = made_RD.view(-1, *z_BD.shape)
        for shorter_BD, longer_BD in pairwise(made_GBD):
            longer_BD.add_(shorter_BD)
        return self.workspace.ranks.sum_over_features(made_GBD).sub_(z_BD)

    def _to_entries(self, error_GBD: Tensor) -> Tensor:
        """Return the gradient at each group's own sum: a group takes part in its prefix and in all longer ones."""
        grad_GBD = error_GBD * (2 * self.error_weight / (error_GBD.shape[1] * len(error_GBD)))
        for longer_BD, shorter_BD in pairwise(reversed(grad_GBD.unbind())):
            shorter_BD.add_(longer_BD)
        return grad_GBD.flatten(0, 1)

    def _weights(self, entries: Entries, grad_N: Tensor, back_RD: Tensor, z_BD: Tensor) -> None:
        import torch

        from sae.training.sparse import Transposed

        by_feature = Transposed.of(entries, self.n_local)
        self.grads["W_dec"].copy_(by_feature.times(entries.values_N, back_RD))
        self.grads["W_enc"].copy_(by_feature.times(grad_N, z_BD))
        self.grads["b_enc"].zero_().index_add_(0, entries.features_N, grad_N.to(self.master))
        active_F = torch.zeros_like(self.grads["b_enc"])
        active_F.index_add_(0, entries.features_N, (entries.values_N > 0).to(self.master))
        torch.gt(active_F, 0, out=self.fired_F)

    def _auxiliary(self, pre_BF: Tensor, z_BD: Tensor, error_BD: Tensor) -> Tensor:
        """Add the gradients of AuxK: the dead features explain what is left over, relative to its variance.

        So OpenAI's code and dictionary_learning have it; relative to the activations' variance, as the paper may be
        read, it would be weaker by the FVU. Returns what the loss gets.
        """
        import torch

        if self.dead_S is None:
            return error_BD.new_zeros(())
        dead_S, W_dec_SD = self.dead_S, self.low["W_dec"][self.dead_S]
        k = self.recipe.k_aux or self.workspace.d_in // 2
        f_BS = self.workspace.ranks.kept(largest(pre_BF[:, dead_S], k), k)
        left_BD = self.workspace.ranks.sum_over_features(f_BS @ W_dec_SD).add_(error_BD)
        weight = self.recipe.aux / self._variation(error_BD)
        grad_BD = left_BD * (2 * weight).to(left_BD.dtype)
        grad_BS = torch.where(f_BS > 0, grad_BD @ W_dec_SD.T, 0)
        for name, grad in (("W_dec", f_BS.T @ grad_BD), ("W_enc", grad_BS.T @ z_BD), ("b_enc", grad_BS.sum(0))):
            self.grads[name].index_add_(0, dead_S, grad.to(self.master))
        return weight * square_sum(left_BD, self.master)

    def _variation(self, error_BD: Tensor) -> Tensor:
        """Sum the errors' squared distances to their mean over a part of the batch, the same for all parts."""
        ranks, error_BD = self.workspace.ranks, error_BD.to(self.master)
        mean_D = ranks.average_over_parts(error_BD.mean(0))
        return ranks.average_over_parts(square_sum(error_BD - mean_D, self.master)).clamp_min(1e-12)


def largest(pre_BS: Tensor, k: int) -> Tensor:
    """Return the k largest of each row, rectified, the others zero."""
    import torch

    if k >= pre_BS.shape[1]:
        return pre_BS.relu()
    values_BK, indices_BK = pre_BS.topk(k, dim=1, sorted=False)
    return torch.zeros_like(pre_BS).scatter_(1, indices_BK, values_BK.relu())


ARCHITECTURES.register("topk", Architecture("topk", "#d1495b", TopK, TopKAutoencoder))
