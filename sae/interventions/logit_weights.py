"""Computes which tokens a feature's direction raises by the weights alone, and whether ablating it agrees.

Shape suffixes: S features, V vocabulary.
"""

from torch import Tensor

from sae.dictionary import Dictionary
from sae.models.subject import Subject


def logit_weights(subject: Subject, dictionary: Dictionary, features_S: Tensor) -> Tensor | None:
    """Return what a unit of each feature adds to the logits [S, V], up to a positive factor; None without a fixed map.

    In a one-layer model a feature of the MLP acts on the logits linearly, but for the final layer norm (Towards
    Monosemanticity). Here that norm's scale, one number per token of text, is left out; its centring and its weights
    are kept. The mean over the vocabulary is subtracted, as it changes no probability.
    """
    if len(dictionary.writes) != 1:
        return None
    logits_SV = subject.logits_of(dictionary.writes[0], dictionary.unit_writes(features_S), through_norm=True)
    return None if logits_SV is None else logits_SV - logits_SV.mean(1, keepdim=True)


def row_correlation(a_SV: Tensor, b_SV: Tensor) -> Tensor:
    """Return Pearson's correlation of each row of one matrix with the same row of the other, [S].

    NaN where a row is constant or holds NaN.
    """
    a_SV, b_SV = (values.double() - values.double().mean(1, keepdim=True) for values in (a_SV, b_SV))
    lengths_S: Tensor = a_SV.square().sum(1).sqrt() * b_SV.square().sum(1).sqrt()
    return (a_SV * b_SV).sum(1) / lengths_S
