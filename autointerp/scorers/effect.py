"""Scores predictions of what ablating the feature does (after Bricken et al. 2023, Towards Monosemanticity).

The judge sees the explanation, which was written from where the feature is active, and tokens: those whose probability
as the next token falls most when the feature is ablated on held-out text, mixed with as many that fall when other
features of the dictionary are. So common tokens are as common on both sides. It says which of them depend on the
feature.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from autointerp.records import FeatureRecord
from autointerp.scorers import SCORERS, Needs
from autointerp.scorers.tokens import AskedTokens, TokenScorer, TokensSettings

if TYPE_CHECKING:
    from autointerp.config import Config


class EffectSettings(TokensSettings):
    """Sets how effect asks: which tokens become less likely without the feature?"""


class EffectScorer(TokenScorer):
    """Asks about lowered tokens. Undefined where the feature could not be ablated, or where no token falls."""

    name, colour, stream, yes_means = "effect", "#7b6ca8", "order of effect", "lowered"
    settings: ClassVar = {"effect": EffectSettings}
    needs = Needs(judge=True, active=("score",), effects=True)

    def __init__(self, config: Config) -> None:
        settings = config.section(EffectSettings)
        super().__init__(config, settings.tokens, settings.logprobs)

    @staticmethod
    def asked_tokens(feature: FeatureRecord) -> AskedTokens:
        """Return the lowered tokens and the others."""
        effect = feature.effect
        return AskedTokens(effect.lowered, effect.unlowered) if effect else AskedTokens((), ())


SCORERS.register("effect", EffectScorer)
