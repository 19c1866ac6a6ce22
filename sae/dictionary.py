"""Rewrites activations of a language model as non-negative features, by a dictionary.

Sparse autoencoders, transcoders, crosscoders and baselines (neurons, PCA, ICA, NMF, random directions) are one kind of
thing here: an affine encoder, an activation function, an affine decoder.

Shape suffixes: B activation vectors, D their width (d_in), E the width of what is written (d_out; W_dec_FD and b_dec_D
have it too, and are named after the autoencoder, which has E = D), F features, S selected features, N blocks, C
tokens of context.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from sae import products
from sae.activation_functions import Activation as Activation
from sae.activation_functions import Gated as Gated
from sae.activation_functions import GroupMax as GroupMax
from sae.activation_functions import JumpReLU as JumpReLU
from sae.activation_functions import NonNegative as NonNegative
from sae.activation_functions import ReLU as ReLU
from sae.activation_functions import TopK as TopK
from sae.context import ContextAttention as ContextAttention
from sae.context import ContextPrediction as ContextPrediction
from sae.pursuit import MatchingPursuit as MatchingPursuit

Normalisation = Literal["none", "constant_norm_rescale", "layer_norm"]
Encoder = Callable[[Tensor], Tensor]
EPSILON = {"constant_norm_rescale": 0.0, "layer_norm": 1e-5}
"""Added to a vector's scale when it is normalised, not when that is undone, as SAELens and OpenAI do."""


@dataclass(frozen=True)
class Dictionary:
    """Computes features = activation((norm(x) - b_dec) W_enc + b_enc) and x_hat = unnorm(features W_dec + b_dec).

    A transcoder reads other hook points than it writes: it subtracts no b_dec, normalises nothing, and may add x W_skip
    to what it writes. One that reads or writes several hook points has their vectors side by side. A temporal
    autoencoder encodes what is left of a vector when its prediction from the vectors before it is taken away, and adds
    the prediction to what it decodes: it encodes what `in_context` makes of whole blocks.

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
    """Like all matrices it may be stored in bf16 or fp16, and as another one's transpose, without a copy of the file's;
    it is computed with in the numbers of the input."""
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
    read_scale_D: Tensor | None = None
    """Multiplies what is encoded, after b_dec is subtracted: a factor that is not folded into the weights, as these may
    lie in a file. None: nothing does."""
    write_scale_E: Tensor | None = None
    """Divides what the features add up to, before b_dec is added; None: nothing does."""
    context: ContextPrediction | None = None
    """Predicts vectors from those before them; None: each vector is encoded by itself."""
    model: str | None = None
    """A name on the Hugging Face hub or a folder; None: not named."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """What was recorded when it was made: recipe, metrics, the options the model was loaded with."""

    def to(self, device: str) -> "Dictionary":
        """Return the same dictionary on another device."""
        moved: Dictionary = _moved(self, device)
        context = self.context and self.context.to(device)
        return replace(moved, activation=_moved(self.activation, device), context=context)

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

    def in_context(self, x_NCD: Tensor) -> Tensor:
        """Return what `encode` takes of whole blocks of activation vectors [N, C, D], in the order of their text.

        These are the vectors themselves, or, where there is a context prediction, each vector and its prediction side
        by side, [N, C, 2 D]: then any of them can be encoded without the others.
        """
        if self.context is None:
            return x_NCD
        at_once = max(1, products.PIECE // (x_NCD.shape[1] * self.n_features))
        parts = [self.context(self._less_bias(part_NCD), self._latents, self._sum) for part_NCD in x_NCD.split(at_once)]
        return torch.cat([x_NCD, torch.cat(parts)], -1)

    def encode(self, x_BD: Tensor) -> Tensor:
        """Compute features [B, F] >= 0 of activation vectors [B, D]; with a context prediction, of `in_context`'s."""
        return self.activation(self._pre(x_BD))

    @property
    def most_active(self) -> int:
        """Return how many features can be active on a vector."""
        return self.activation.k if isinstance(self.activation, TopK) else self.n_features

    def encode_largest(self, x_BD: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the only features that can be active, [B, K] values and features, which ascend in each row.

        Raises ValueError if all can be (`most_active`).
        """
        if not isinstance(self.activation, TopK):
            raise ValueError(f"all features can be active under {self.activation.name}")
        values_BK, features_BK = self.activation.largest(self._pre(x_BD))
        features_BK, order_BK = features_BK.sort(1)
        return values_BK.gather(1, order_BK), features_BK

    def _latents(self, left_BD: Tensor) -> Tensor:
        """Return rectified pre-activations, [B, F], of what is left of vectors."""
        return products.encoded(self.b_enc_F, self._read_scaled(left_BD), self.W_enc_DF).relu()

    def _sum(self, features_BF: Tensor) -> Tensor:
        """Return what features add up to, [B, E], without b_dec."""
        zero_E = torch.zeros_like(self.b_dec_D)
        return self._write_scaled(products.decoded(zero_E, features_BF, self.W_dec_FD))

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
        return self._completed(products.decoded(self._bias_E, unscaled_BF, self.W_dec_FD), x_BD)

    def decode_active(self, values_N: Tensor, features_N: Tensor, offsets_B: Tensor, x_BD: Tensor) -> Tensor:
        """Reconstruct what is written, [B, E], from a list of the features that are not zero, as `decode` does.

        Args:
            values_N, features_N: the activations and their features, row by row; row b's begin at offsets_B[b].
        """
        unscaled_N = values_N if self._scale_F is None else values_N / self._scale_F[features_N]
        product_BD = products.decoded_active(unscaled_N, features_N, offsets_B, self.W_dec_FD)
        return self._completed(product_BD + self._bias_E, x_BD)

    def unit_writes(self, features_S: Tensor | None = None) -> Tensor:
        """Return what one unit of each of some features, or of all, adds to what is written, [S, E], in fp32.

        Where each vector is normalised, it is what is added before that is undone.
        """
        at = slice(None) if features_S is None else features_S
        W_SE = self._write_scaled(self.W_dec_FD[at].float())
        return W_SE if self._scale_F is None else W_SE / self._scale_F[at, None]

    @property
    def _scale_F(self) -> Tensor | None:
        return self.activation.scale_F if isinstance(self.activation, TopK) else None

    @property
    def _bias_E(self) -> Tensor:
        """Return b_dec, as it is added before the output's scale is taken away."""
        return self.b_dec_D if self.write_scale_E is None else self.b_dec_D * self.write_scale_E

    def _completed(self, y_BE: Tensor, x_BD: Tensor | None) -> Tensor:
        """Take the output's scale away, and add the skip or the prediction, or undo the normalisation."""
        y_BE = self._write_scaled(y_BE)
        if self.normalisation == "none" and self.W_skip_DE is None and self.context is None:
            return y_BE
        if x_BD is None:
            why = "with a skip" if self.W_skip_DE is not None else f"under {self.normalisation}"
            why = why if self.context is None else "with a context prediction"
            raise ValueError(f"decoding {why} needs the activations that were encoded")
        x_BD, predicted_BD = self._split(x_BD)
        if self.W_skip_DE is not None:
            return y_BE + products.encoded(torch.zeros_like(self.b_dec_D), x_BD, self.W_skip_DE)
        y_BE = y_BE if predicted_BD is None else y_BE + predicted_BD
        if self.normalisation == "none":
            return y_BE
        centre_B1, scale_B1 = self._statistics(x_BD)
        return y_BE * scale_B1 + centre_B1

    def reconstruct(self, x_BD: Tensor) -> Tensor:
        """Compute decode(encode(x)), [B, E]."""
        return self.decode(self.encode(x_BD), x_BD)

    def _centred(self, x_BD: Tensor) -> Tensor:
        x_BD, predicted_BD = self._split(x_BD)
        left_BD = self._less_bias(x_BD)
        return self._read_scaled(left_BD if predicted_BD is None else left_BD - predicted_BD)

    def _split(self, x_BD: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the vectors and their predictions, [B, D] each; None if there is no context prediction."""
        if self.context is None:
            return x_BD, None
        if x_BD.shape[-1] != 2 * self.d_in:
            raise ValueError("a dictionary with a context prediction encodes what in_context makes of whole blocks")
        return x_BD[..., : self.d_in], x_BD[..., self.d_in :]

    def _less_bias(self, x_BD: Tensor) -> Tensor:
        """Return the vectors normalised and without b_dec, if that is subtracted."""
        if self.normalisation != "none":
            centre_B1, scale_B1 = self._statistics(x_BD)
            x_BD = (x_BD - centre_B1) / (scale_B1 + EPSILON[self.normalisation])
        return x_BD - self.b_dec_D if self.subtract_b_dec else x_BD

    def _read_scaled(self, x_BD: Tensor) -> Tensor:
        return x_BD if self.read_scale_D is None else x_BD * self.read_scale_D

    def _write_scaled(self, y_BE: Tensor) -> Tensor:
        return y_BE if self.write_scale_E is None else y_BE / self.write_scale_E

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
