"""Predicts activation vectors from those before them in their block, as temporal autoencoders do (arXiv 2511.01836).

The method and SAELens' code of it: layer after layer, causal attention over the features of the positions before gives
features that are decoded into a direction, and the part of the vector along that direction is taken away.

Shape suffixes: N blocks, C tokens of context, B vectors (N times C), D their width, F features, A the width of queries
and keys, H heads.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from sae import products


@dataclass(frozen=True)
class ContextAttention:
    """Attends from a position's features to those of the positions before it; the first one attends to zeros.

    Matrices are stored `[in, out]` and may have fewer bits than what is computed with (bf16, fp16).
    """

    n_heads: int
    W_q_FA: Tensor
    b_q_A: Tensor
    W_k_FA: Tensor
    b_k_A: Tensor
    W_v_FF: Tensor
    b_v_F: Tensor
    W_o_FF: Tensor
    b_o_F: Tensor

    def __call__(self, acts_NCF: Tensor) -> Tensor:
        """Return features [N, C, F] >= 0 that are predicted of each position."""
        before_NCF = torch.cat([torch.zeros_like(acts_NCF[:, :1]), acts_NCF[:, :-1]], 1)
        mixed_NHCF = scaled_dot_product_attention(
            self._heads(acts_NCF, self.W_q_FA, self.b_q_A),
            self._heads(before_NCF, self.W_k_FA, self.b_k_A),
            self._heads(before_NCF, self.W_v_FF, self.b_v_F),
            is_causal=True,
        )
        mixed_BF = mixed_NHCF.transpose(1, 2).flatten(2).flatten(0, 1)
        return products.encoded(self.b_o_F, mixed_BF, self.W_o_FF).relu().view_as(acts_NCF)

    def _heads(self, acts_NCF: Tensor, W_FA: Tensor, b_A: Tensor) -> Tensor:
        """Return a linear map of the features, [N, H, C, A / H]."""
        mapped_BA = products.encoded(b_A, acts_NCF.flatten(0, 1), W_FA)
        return mapped_BA.view(*acts_NCF.shape[:2], self.n_heads, -1).transpose(1, 2)


@dataclass(frozen=True)
class ContextPrediction:
    """Predicts each vector of a block from those before it."""

    layers: tuple[ContextAttention, ...]
    epsilon: float
    """Added to the norm of a direction that is projected on, in the units of the vectors."""

    def __call__(self, x_NCD: Tensor, encode: Callable[[Tensor], Tensor], decode: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the predictions [N, C, D] of vectors [N, C, D].

        Args:
            encode: returns the features [B, F] >= 0 of vectors [B, D].
            decode: returns the vectors [B, D] that features [B, F] add up to, without a bias.
        """
        left_NCD, predicted_NCD = x_NCD, torch.zeros_like(x_NCD)
        for layer in self.layers:
            acts_NCF = layer(encode(left_NCD.flatten(0, 1)).unflatten(0, x_NCD.shape[:2]))
            direction_NCD = decode(acts_NCF.flatten(0, 1)).view_as(x_NCD)
            norm_NC1 = direction_NCD.norm(dim=-1, keepdim=True) + self.epsilon
            share_NC1 = (direction_NCD * left_NCD).sum(-1, keepdim=True) / norm_NC1.square()
            predicted_NCD = predicted_NCD + share_NC1 * direction_NCD
            left_NCD = left_NCD - share_NC1 * direction_NCD
        return predicted_NCD

    def to(self, device: str) -> "ContextPrediction":
        """Return the same on another device."""
        return replace(self, layers=tuple(_moved(layer, device) for layer in self.layers))

    def tensors(self) -> Mapping[str, Tensor]:
        """Return all weights by name, `context.0.W_q_FA` and so on."""
        return {
            f"context.{number}.{name}": value
            for number, layer in enumerate(self.layers)
            for name, value in vars(layer).items()
            if isinstance(value, Tensor)
        }


def _moved(layer: ContextAttention, device: str) -> ContextAttention:
    weights = {name: value.to(device) for name, value in vars(layer).items() if isinstance(value, Tensor)}
    return ContextAttention(n_heads=layer.n_heads, **weights)
