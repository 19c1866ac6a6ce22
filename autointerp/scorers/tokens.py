"""Shares what scorers that ask a judge about tokens have in common: two lists of a feature's tokens, told apart."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, ClassVar, NamedTuple

from pydantic import Field

from autointerp.judges import Verdict
from autointerp.parts import I
from autointerp.prompting.rules import Rule
from autointerp.records import FeatureRecord
from autointerp.scorers import Needs
from autointerp.scorers.judging import Classes, GradedSettings, YesNoScorer


class TokensSettings(GradedSettings):
    """Sets how a scorer asks about tokens."""

    tokens: Annotated[int, I, Field(gt=0)] = 20
    """Tokens per question, of both kinds mixed."""


class AskedTokens(NamedTuple):
    """Holds the tokens to which the right answer is yes, and the others; judgements number them in this order."""

    yes: Sequence[str]
    no: Sequence[str]


class TokenScorer(YesNoScorer[str]):
    """Shows tokens alone. Undefined where a feature has none of one kind."""

    needs = Needs(judge=True)
    judges_records = False
    yes_means: ClassVar[str]
    """What a token is to which the judge says yes: "promoted"."""

    @staticmethod
    @abstractmethod
    def asked_tokens(feature: FeatureRecord) -> AskedTokens:
        """Return the feature's tokens of both kinds."""

    def samples(self, feature: FeatureRecord) -> Sequence[Classes[str]]:
        """Number the tokens from 0, those of the first kind first."""
        yes, no = self.asked_tokens(feature)
        return [Classes(dict(enumerate(yes)), dict(enumerate(no, start=len(yes))))]

    def written(self, item: str) -> str:
        """Write a token in quotes, so that spaces at its ends are seen."""
        return repr(item)

    def by_rules(self, rules: Sequence[Rule], items: Sequence[str]) -> list[Verdict]:
        """Answer yes if a rule names the token, exactly and anywhere in its key.

        The probability is a tenth of the strength of the strongest rule that names it, 0 if none does.
        """
        strength: dict[str, float] = {}
        for rule in rules:
            for token in rule.key:
                strength[token] = max(rule.strength, strength.get(token, 0.0))
        return [Verdict(int(token in strength), strength.get(token, 0.0) / 10) for token in items]
