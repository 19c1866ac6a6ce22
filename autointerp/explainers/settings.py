"""Defines the settings of explanations by language models."""

from typing import Annotated, Literal

from pydantic import Field

from autointerp.parts import I
from autointerp.prompting.render import MARKED
from sae.common.settings import Section


class ExplanationSettings(Section):
    """Sets how language models explain."""

    style: Annotated[Literal["tokens", "highlighted"], I] = "tokens"
    """`tokens`: token-activation pairs (Bills et al. 2023); `highlighted`: text with marked tokens (delphi)."""
    marked: Annotated[float, I, Field(ge=0, lt=1)] = MARKED
    """Share of its fragment's maximum above which a token is marked in the style `highlighted`."""
    contrast: Annotated[bool, I] = False
    """Also show the `inactive` explain records, as texts the explanation must not fit."""
    logits: Annotated[bool, I] = False
    """Also show the tokens that the feature's decoder direction promotes."""
    candidates: Annotated[int, I, Field(gt=0)] = 1
    """Explanations per feature; the one that best predicts explain records held out from it is taken."""
    max_words: Annotated[int, I, Field(gt=0)] = 60
    """Words that an explanation may have."""
    max_tokens: Annotated[int, I, Field(gt=0)] = 2000
    """Tokens that an answer may have; models that think before they answer need room for it."""
    temperature: Annotated[float | None, I, Field(ge=0)] = None
    """Sampling temperature; null: 0 where the API takes one (several candidates: the provider's default)."""
