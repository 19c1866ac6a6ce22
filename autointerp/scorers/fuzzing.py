"""Scores by fuzzing (delphi; Paulo et al. 2024): the judge says in which texts the marked tokens are the feature's."""

from collections.abc import Mapping
from typing import ClassVar

from autointerp.scorers import SCORERS, Needs
from autointerp.scorers.fragments import Labelled, marked_texts
from autointerp.scorers.judging import JudgementSettings, TextScorer, TextsSettings


class FuzzingSettings(TextsSettings):
    """Sets how fuzzing asks: which texts have the right marks?"""


class Fuzzing(TextScorer):
    """Shows texts with marks: on the active tokens of active texts, and on silent texts where another text is active.

    Marks at fixed positions, as delphi has them, would give the silent texts away.
    """

    name, colour, stream, own = "fuzzing", "#5c946e", "order of fuzzing", FuzzingSettings
    settings: ClassVar = {"fuzzing": FuzzingSettings, "judgement": JudgementSettings}
    needs = Needs(active=("score",), inactive=("score",), judge=True, logprobs="fuzzing.logprobs")

    def texts(self, shown: Labelled) -> Mapping[int, str]:
        """Write the fragments with marks."""
        return marked_texts(shown)


SCORERS.register("fuzzing", Fuzzing)
