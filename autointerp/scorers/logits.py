"""Scores predictions of the feature's output (Bricken et al. 2023, Towards Monosemanticity, logit weights).

The judge sees the explanation, which was written from where the feature is active, and tokens: those whose logits the
feature's decoder raises most, mixed with as many random ones. It says which of them the feature promotes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from autointerp.explainers.settings import ExplanationSettings
from autointerp.records import FeatureRecord
from autointerp.scorers import SCORERS
from autointerp.scorers.tokens import AskedTokens, TokenScorer, TokensSettings
from sae.common.errors import UserError

if TYPE_CHECKING:
    from autointerp.config import Config


class LogitsSettings(TokensSettings):
    """Sets how logits asks: which tokens does the feature's output promote?"""


class Logits(TokenScorer):
    """Asks about promoted tokens. Undefined where no fixed map leads from the feature's output to the logits."""

    name, colour, stream, yes_means = "logits", "#a44a3f", "order of logits", "promoted"
    settings: ClassVar = {"logits": LogitsSettings}

    def __init__(self, config: Config) -> None:
        if config.section(ExplanationSettings).logits:
            raise UserError("logits asks for the tokens that explainers are shown; set explanation.logits=false")
        settings = config.section(LogitsSettings)
        super().__init__(config, settings.tokens, settings.logprobs)

    @staticmethod
    def asked_tokens(feature: FeatureRecord) -> AskedTokens:
        """Return the promoted tokens and the random ones."""
        return AskedTokens(feature.promoted, feature.unpromoted)


SCORERS.register("logits", Logits)
