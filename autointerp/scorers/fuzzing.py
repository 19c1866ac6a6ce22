"""Scores by fuzzing (delphi; Paulo et al. 2024): the judge says in which texts the marked tokens are the feature's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from autointerp.judges import Verdict
from autointerp.parts import I
from autointerp.peer_faults import FUZZ_CUE
from autointerp.prompting import render
from autointerp.prompting.predict_text import predict_fragments
from autointerp.prompting.rules import Rule
from autointerp.scorers import SCORERS, Needs
from autointerp.scorers.fragments import Labelled, MarkedText, marked, marked_texts, marked_with_cue, marked_wrongly
from autointerp.scorers.judging import Classes, TextScorer, TextsSettings

if TYPE_CHECKING:
    from autointerp.config import Config


class FuzzingSettings(TextsSettings):
    """Sets how fuzzing asks: which texts have the right marks?"""

    negatives: Annotated[Literal["silent", "active"], I] = "silent"
    """Texts whose marks are wrong: silent ones, marked where active ones are; or every second active one, with as many
    marks on tokens on which the feature is silent (delphi's fuzz_type)."""


class Fuzzing(TextScorer):
    """Shows texts with marks: on the strongly active tokens of active texts, and on silent texts at the same positions.

    Marks at fixed positions, as delphi has them, would give the silent texts away. Or all texts are active, and half of
    them have their marks elsewhere: then only the marks can tell, not what the text is about.
    """

    name, colour, stream, own = "fuzzing", "#5c946e", "order of fuzzing", FuzzingSettings
    settings: ClassVar = {"fuzzing": FuzzingSettings}
    needs = Needs(active=("score",), inactive=("score",), judge=True)

    def __init__(self, config: Config) -> None:
        self._negatives = config.section(FuzzingSettings).negatives
        super().__init__(config)

    @classmethod
    def needs_of(cls, config: Config) -> Needs:
        """Need silent texts only where they are the negatives."""
        silent = config.section(FuzzingSettings).negatives == "silent"
        return cls.needs if silent else replace(cls.needs, inactive=())

    def rate(self) -> float:
        """Return the share of texts with right marks: half, the odd one included, if all are active."""
        n_active = self.config.sampling.score.n_active
        return super().rate() if self._negatives == "silent" else (n_active + 1) // 2 / n_active

    def classes(self, shown: Labelled) -> Classes[MarkedText]:
        """Return the texts with right and with wrong marks."""
        if self._negatives == "active":
            shown = replace(shown, active=shown.active[::2], silent=shown.active[1::2])
        return super().classes(shown)

    def texts(self, shown: Labelled) -> Mapping[int, MarkedText]:
        """Return the fragments with marks."""
        if self._negatives == "silent":
            return marked_with_cue(shown) if FUZZ_CUE in self.config.peer_faults else marked_texts(shown)
        right = {index: marked(shown.records[index]) for index in shown.active}
        return right | {index: marked_wrongly(shown.records[index], self.config.seed) for index in shown.silent}

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
