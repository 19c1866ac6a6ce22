"""Scores by detection (delphi; Paulo et al. 2024): the judge says in which texts the feature is active."""

from collections.abc import Mapping
from typing import ClassVar

from autointerp.prompting import render
from autointerp.scorers import SCORERS, Needs
from autointerp.scorers.fragments import Labelled
from autointerp.scorers.judging import JudgementSettings, TextScorer, TextsSettings


class DetectionSettings(TextsSettings):
    """Sets how detection asks: which texts activate the feature?"""


class Detection(TextScorer):
    """Shows plain texts."""

    name, colour, stream, own = "detection", "#30638e", "order of detection", DetectionSettings
    settings: ClassVar = {"detection": DetectionSettings, "judgement": JudgementSettings}
    needs = Needs(active=("score",), inactive=("score",), judge=True, logprobs="detection.logprobs")

    def texts(self, shown: Labelled) -> Mapping[int, str]:
        """Write the fragments as plain text."""
        return {index: render.plain(shown.records[index].tokens) for index in (*shown.active, *shown.silent)}


SCORERS.register("detection", Detection)
