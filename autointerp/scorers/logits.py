"""Scores predictions of the feature's output (Bricken et al. 2023, Towards Monosemanticity, logit weights).

The judge sees the explanation, which was written from where the feature is active, and tokens: those whose logits the
feature's decoder raises most, mixed with as many random ones. It says which of them the feature promotes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from autointerp.explainers.settings import ExplanationSettings
from autointerp.judges import Verdict
from autointerp.parts import I
from autointerp.prompting.rules import Rule
from autointerp.records import FeatureRecord
from autointerp.scorers import SCORERS, Needs
from autointerp.scorers.judging import Classes, GradedSettings, YesNoScorer
from sae.common.errors import UserError

if TYPE_CHECKING:
    from autointerp.config import Config


class LogitsSettings(GradedSettings):
    """Sets how logits asks: which tokens does the feature's output promote?"""

    tokens: Annotated[int, I, Field(gt=0)] = 20
    """Tokens per question, promoted and random ones mixed."""


class Logits(YesNoScorer[str]):
    """Shows tokens alone. Undefined where no fixed map leads from the feature's output to the logits."""

    name, colour, stream = "logits", "#a44a3f", "order of logits"
    settings: ClassVar = {"logits": LogitsSettings}
    needs = Needs(judge=True)
    judges_records = False

    def __init__(self, config: Config) -> None:
        if config.section(ExplanationSettings).logits:
            raise UserError("logits asks for the tokens that explainers are shown; set explanation.logits=false")
        settings = config.section(LogitsSettings)
        super().__init__(config, settings.tokens, settings.logprobs)

    def samples(self, feature: FeatureRecord) -> Sequence[Classes[str]]:
        """Return the promoted tokens, numbered from 0, and after them the random ones."""
        tokens = dict(enumerate((*feature.promoted, *feature.unpromoted)))
        yes = {index: token for index, token in tokens.items() if index < len(feature.promoted)}
        return [Classes(yes, {index: token for index, token in tokens.items() if index not in yes})]

    def written(self, item: str) -> str:
        """Write a token in quotes, so that spaces at its ends are seen."""
        return repr(item)

    def by_rules(self, rules: Sequence[Rule], items: Sequence[str]) -> list[Verdict]:
        """Call a token promoted if a rule names it, exactly and anywhere in its key.

        The probability is a tenth of the strength of the strongest rule that names it, 0 if none does.
        """
        strength: dict[str, float] = {}
        for rule in rules:
            for token in rule.key:
                strength[token] = max(rule.strength, strength.get(token, 0.0))
        return [Verdict(int(token in strength), strength.get(token, 0.0) / 10) for token in items]


SCORERS.register("logits", Logits)
