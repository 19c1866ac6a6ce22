"""Rewrites activations of a language model as non-negative features, by a dictionary.

Sparse autoencoders, transcoders, crosscoders and baselines (neurons, PCA, ICA, NMF, random directions) are one kind of
thing here: an affine encoder, an activation function, an affine decoder.

Shape suffixes: B activation vectors, D their width (d_in), E the width of what is written (d_out; W_dec_FD and b_dec_D
have it too, and are named after the autoencoder, which has E = D), F features, S selected features.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from sae import nnls, products
from sae.largest import TopK as TopK
from sae.pursuit import MatchingPursuit as MatchingPursuit

Normalisation = Literal["none", "constant_norm_rescale", "layer_norm"]
Encoder = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class ReLU:
    """Computes max(0, pre)."""

    name: ClassVar[str] = "relu"

    def __call__(self, pre_BF: Tensor) -> Tensor:
        return pre_BF.relu()

    def select(self, features_S: Tensor) -> "ReLU":
        """Return the activation function of the selected features alone."""
        return self


@dataclass(frozen=True)
class GroupMax:
    """Keeps the largest pre-activation of each of k contiguous groups, rectified (sparsify's `groupmax`)."""

    k: int
    name: ClassVar[str] = "groupmax"

    def __call__(self, pre_BF: Tensor) -> Tensor:
        grouped_BKG = pre_BF.unflatten(-1, (self.k, -1))
        values_BK1, index_BK1 = grouped_BKG.max(-1, keepdim=True)
        return torch.zeros_like(grouped_BKG).scatter_(-1, index_BK1, values_BK1.relu()).flatten(-2)

    def selected(self, pre_BF: Tensor, features_S: Tensor) -> Tensor:
        """Return the selected columns [B, S] of `self(pre_BF)`."""
        return self(pre_BF)[:, features_S]


@dataclass(frozen=True)
class JumpReLU:
    """Computes pre where pre > max(0, threshold), else 0 (Rajamanoharan et al. 2024); also BatchTopK at inference."""

    threshold_F: Tensor
    name: ClassVar[str] = "jumprelu"

    def __call__(self, pre_BF: Tensor) -> Tensor:
        return pre_BF.relu() * (pre_BF > self.threshold_F)

    def select(self, features_S: Tensor) -> "JumpReLU":
        """Return the activation function of the selected features alone."""
        return JumpReLU(self.threshold_F[features_S])


@dataclass(frozen=True)
class Gated:
    """Computes a gate and a magnitude of the same direction: 1[u + b_gate > 0] * relu(exp(r_mag) u + b_mag)."""

    b_gate_F: Tensor
    r_mag_F: Tensor
    b_mag_F: Tensor
    name: ClassVar[str] = "gated"

    def __call__(self, pre_BF: Tensor) -> Tensor:
        magnitude_BF = (pre_BF * self.r_mag_F.exp() + self.b_mag_F).relu()
        return magnitude_BF * (pre_BF + self.b_gate_F > 0)

    def select(self, features_S: Tensor) -> "Gated":
        """Return the activation function of the selected features alone."""
        return Gated(self.b_gate_F[features_S], self.r_mag_F[features_S], self.b_mag_F[features_S])


@dataclass(frozen=True)
class NonNegative:
    """Computes the weights h >= 0 that minimise |x - h W|^2, where pre = x W' and gram = W W' (NMF's parts W)."""

    gram_FF: Tensor
    k: int | None = None
    """Only the k largest weights are kept, and not fitted again without the others; None: all."""
    name: ClassVar[str] = "non_negative"

    def __call__(self, pre_BF: Tensor) -> Tensor:
        weights_BF = nnls.solve(pre_BF, self.gram_FF)
        return weights_BF if self.k is None else TopK(self.k)(weights_BF)

    def selected(self, pre_BF: Tensor, features_S: Tensor) -> Tensor:
        """Return the selected columns [B, S] of `self(pre_BF)`; all weights are solved for together."""
        return self(pre_BF)[:, features_S]


EPSILON = {"constant_norm_rescale": 0.0, "layer_norm": 1e-5}
"""Added to a vector's scale when it is normalised, not when that is undone, as SAELens and OpenAI do."""
Activation = ReLU | TopK | GroupMax | JumpReLU | Gated | NonNegative | MatchingPursuit
"""Maps pre-activations [B, F] to features [B, F] >= 0; those with `select` compute every feature by itself."""


@dataclass(frozen=True)
class Dictionary:
    """Computes features = activation((norm(x) - b_dec) W_enc + b_enc) and x_hat = unnorm(features W_dec + b_dec).

    A transcoder reads other hook points than it writes: it subtracts no b_dec, normalises nothing, and may add x W_skip
    to what it writes. One that reads or writes several hook points has their vectors side by side.

    Features leave it one way, non-negative. A signed basis is given as two halves, +v and -v, whose features are the
    two rectified parts of one coordinate.

    >>> import torch
    >>> eye, zero = torch.eye(3), torch.zeros(3)
    >>> neurons = sae.Dictionary("neurons", "neurons", eye, zero, eye, zero).at("blocks.0.mlp.hook_post")
    >>> neurons.encode(torch.tensor([[2.0, -1.0, 0.5]]))
    tensor([[2.0000, 0.0000, 0.5000]])
    """

    name: str
    kind: str
    """"sae" if it was trained, else the name of the baseline (`sae.baselines.registry.kinds`)."""
    W_enc_DF: Tensor
    """Like W_dec_FD it may be stored in bf16 or fp16; it is computed with in the numbers of the input."""
    b_enc_F: Tensor
    W_dec_FD: Tensor
    b_dec_D: Tensor
    activation: Activation = field(default_factory=ReLU)
    subtract_b_dec: bool = True
    """False: the input is encoded as it is, and b_dec is only added when features are decoded."""
    normalisation: Normalisation = "none"
    """How each input vector is scaled: to norm sqrt(D), or centred and to deviation 1; undone when it is decoded."""
    reads: tuple[str, ...] = ()
    """The model's hook points whose activations, concatenated, are x; empty: not named."""
    writes: tuple[str, ...] = ()
    """The hook points whose activations are reconstructed; an autoencoder writes what it reads."""
    W_skip_DE: Tensor | None = None
    """A transcoder's linear map past the features; None: it has none."""
    is_part: bool = False
    """It is one layer of a cross-layer transcoder: what it decodes is one summand of what is written, so that only all
    layers together have a reconstruction."""
    model: str | None = None
    """A name on the Hugging Face hub or a folder; None: not named."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """What was recorded when it was made: recipe, metrics, the options the model was loaded with."""

    def to(self, device: str) -> "Dictionary":
        """Return the same dictionary on another device."""
        moved: Dictionary = _moved(self, device)
        return replace(moved, activation=_moved(self.activation, device))

    def at(self, *hook_points: str) -> "Dictionary":
        """Return the same autoencoder with these hook points as what it reads and writes."""
        return replace(self, reads=hook_points, writes=hook_points)

    @property
    def hook_point(self) -> str | None:
        """Return what it reads as one label, names joined by "+"; None if it names nothing."""
        return "+".join(self.reads) or None

    @property
    def is_autoencoder(self) -> bool:
        """Tell whether it reads and writes the same one hook point, or one that it does not name."""
        return self.reads == self.writes and len(self.reads) <= 1

    @property
    def d_in(self) -> int:
        """Return the width of everything it reads."""
        return self.W_enc_DF.shape[0]

    @property
    def d_out(self) -> int:
        """Return the width of everything it writes."""
        return self.W_dec_FD.shape[1]

    @property
    def n_features(self) -> int:
        """Return the number of features."""
        return self.W_enc_DF.shape[1]

    def encode(self, x_BD: Tensor) -> Tensor:
        """Compute features [B, F] >= 0 of activation vectors [B, D]."""
        return self.activation(self._pre(x_BD))

    def encode_largest(self, x_BD: Tensor, most: int) -> tuple[Tensor, Tensor] | None:
        """Compute the only features that can be active, [B, K] values and features, which ascend in each row.

        None where more than `most` can be active on a vector.
        """
        if not isinstance(self.activation, TopK) or self.activation.k > most:
            return None
        values_BK, features_BK = self.activation.largest(self._pre(x_BD))
        features_BK, order_BK = features_BK.sort(1)
        return values_BK.gather(1, order_BK), features_BK

    def _pre(self, x_BD: Tensor) -> Tensor:
        """Return what the activation function takes: pre-activations [B, F], or the centred vectors [B, D]."""
        if isinstance(self.activation, MatchingPursuit):
            return self._centred(x_BD)
        return products.encoded(self.b_enc_F, self._centred(x_BD), self.W_enc_DF)

    @property
    def encodes_jointly(self) -> bool:
        """Tell whether features depend on each other, so that computing some takes computing all."""
        return isinstance(self.activation, TopK | GroupMax | NonNegative | MatchingPursuit)

    def encoder(self, features_S: Tensor) -> Encoder:
        """Return a function from [B, D] to the selected features [B, S], equal to those columns of `encode`.

        Where features do not depend on each other, it computes only the selected ones.
        """
        activation = self.activation
        if isinstance(activation, TopK | GroupMax | NonNegative | MatchingPursuit):
            return lambda x_BD: activation.selected(self._pre(x_BD), features_S)
        W_DS, b_S = self.W_enc_DF[:, features_S].to(self.b_enc_F.dtype).contiguous(), self.b_enc_F[features_S]
        selected = activation.select(features_S)
        return lambda x_BD: selected(torch.addmm(b_S, self._centred(x_BD), W_DS))

    def decode(self, features_BF: Tensor, x_BD: Tensor | None = None) -> Tensor:
        """Reconstruct what is written, [B, E], from features [B, F].

        A skip, and undoing a normalisation of each vector, need `x_BD`, the activations that were encoded: ValueError
        without.
        """
        unscaled_BF = features_BF if self._scale_F is None else features_BF / self._scale_F
        return self._completed(products.decoded(self.b_dec_D, unscaled_BF, self.W_dec_FD), x_BD)

    def decode_active(self, values_N: Tensor, features_N: Tensor, offsets_B: Tensor, x_BD: Tensor) -> Tensor:
        """Reconstruct what is written, [B, E], from a list of the features that are not zero, as `decode` does.

        Args:
            values_N, features_N: the activations and their features, row by row; row b's begin at offsets_B[b].
        """
        unscaled_N = values_N if self._scale_F is None else values_N / self._scale_F[features_N]
        product_BD = products.decoded_active(unscaled_N, features_N, offsets_B, self.W_dec_FD)
        return self._completed(product_BD + self.b_dec_D, x_BD)

    @property
    def _scale_F(self) -> Tensor | None:
        return self.activation.scale_F if isinstance(self.activation, TopK) else None

    def _completed(self, y_BE: Tensor, x_BD: Tensor | None) -> Tensor:
        """Add the skip to what the features give, or undo the normalisation."""
        if self.normalisation == "none" and self.W_skip_DE is None:
            return y_BE
        if x_BD is None:
            why = "with a skip" if self.normalisation == "none" else f"under {self.normalisation}"
            raise ValueError(f"decoding {why} needs the activations that were encoded")
        if self.W_skip_DE is not None:
            return torch.addmm(y_BE, x_BD, self.W_skip_DE)
        centre_B1, scale_B1 = self._statistics(x_BD)
        return y_BE * scale_B1 + centre_B1

    def reconstruct(self, x_BD: Tensor) -> Tensor:
        """Compute decode(encode(x)), [B, E]."""
        return self.decode(self.encode(x_BD), x_BD)

    def _centred(self, x_BD: Tensor) -> Tensor:
        if self.normalisation != "none":
            centre_B1, scale_B1 = self._statistics(x_BD)
            x_BD = (x_BD - centre_B1) / (scale_B1 + EPSILON[self.normalisation])
        return x_BD - self.b_dec_D if self.subtract_b_dec else x_BD

    def _statistics(self, x_BD: Tensor) -> tuple[Tensor, Tensor]:
        """Return the centre and the scale of each vector, [B, 1] each."""
        if self.normalisation == "layer_norm":
            return x_BD.mean(-1, keepdim=True), x_BD.std(-1, keepdim=True)
        norm_B1 = x_BD.norm(dim=-1, keepdim=True)
        return torch.zeros_like(norm_B1), norm_B1 / self.d_in**0.5


def _moved(value: Any, device: str) -> Any:
    """Return a dataclass with its tensors on another device."""
    tensors = {name: item.to(device) for name, item in vars(value).items() if isinstance(item, Tensor)}
    return replace(value, **tensors)
