"""Scores by fuzzing (delphi; Paulo et al. 2024): the judge says in which texts the marked tokens are the feature's."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import ClassVar

from autointerp.judges import Verdict
from autointerp.prompting import render
from autointerp.prompting.predict_text import predict_fragments
from autointerp.prompting.rules import Rule
from autointerp.scorers import SCORERS, Needs
from autointerp.scorers.fragments import Labelled, MarkedText, marked_texts
from autointerp.scorers.judging import TextScorer, TextsSettings


class FuzzingSettings(TextsSettings):
    """Sets how fuzzing asks: which texts have the right marks?"""


class Fuzzing(TextScorer):
    """Shows texts with marks: on the strongly active tokens of active texts, and on silent texts at the same positions.

    Marks at fixed positions, as delphi has them, would give the silent texts away.
    """

    name, colour, stream, own = "fuzzing", "#5c946e", "order of fuzzing", FuzzingSettings
    settings: ClassVar = {"fuzzing": FuzzingSettings}
    needs = Needs(active=("score",), inactive=("score",), judge=True)

    def texts(self, shown: Labelled) -> Mapping[int, MarkedText]:
        """Return the fragments with marks."""
        return marked_texts(shown)

    def written(self, item: MarkedText) -> str:
        """Write text with its marks."""
        return render.marked(item.tokens, item.marked)

    def by_rules(self, rules: Sequence[Rule], items: Sequence[MarkedText]) -> list[Verdict]:
        """Call marks right if the rules predict more activation on them than elsewhere, in the mean.

        The probability is `share_on_marks`; equal means, and a text in which nothing is predicted, count as wrong.
        """
        predictions = predict_fragments(rules, [item.tokens for item in items])
        shares = [share_on_marks(values, item) for values, item in zip(predictions, items, strict=True)]
        return [Verdict(int(share > 0.5), share) for share in shares]


def share_on_marks(predicted: Sequence[float], item: MarkedText) -> float:
    """Return m / (m + e), where m and e are the mean predicted activations on the marked tokens and elsewhere.

    It is 0 where nothing is predicted. An empty class of tokens has mean 0.
    """
    marks = set(item.marked)
    sides = [[value for position, value in enumerate(predicted) if (position in marks) is on] for on in (True, False)]
    on_marks, elsewhere = (fmean(side) if side else 0.0 for side in sides)
    return on_marks / (on_marks + elsewhere) if on_marks > 0 else 0.0


SCORERS.register("fuzzing", Fuzzing)
