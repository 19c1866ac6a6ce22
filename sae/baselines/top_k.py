"""Keeps the k largest features of any baseline."""

from dataclasses import replace

from sae.common.errors import UserError
from sae.dictionary import Activation, Dictionary, NonNegative, ReLU, TopK


def top_k(base: Dictionary, k: int) -> Dictionary:
    """Keep only the k largest features of each vector, as they are, and call the baseline NAME-topK.

    Of a signed basis these are the k coordinates that are largest in magnitude (ICA: in units of their standard
    deviation); of NMF the k largest weights. Raises UserError if there are fewer than k features.
    """
    if k > base.n_features:
        raise UserError(f"{base.name}-top{k}: {base.name} has only {base.n_features} features here; take a smaller k")
    return replace(base, name=f"{base.name}-top{k}", activation=_with_k(base.activation, k))


def _with_k(activation: Activation, k: int) -> Activation:
    match activation:
        case ReLU():
            return TopK(k)
        case NonNegative():
            return replace(activation, k=k)
        case other:
            raise ValueError(f"the activation {other.name} has no top-k version")
