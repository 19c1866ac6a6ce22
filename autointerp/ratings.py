"""Reads and writes what people say of a run's features: ratings.json in the run folder, replaced as a whole.

The rubric is in the manner of Towards Monosemanticity (Bricken et al. 2023): confidence in the explanation, how well
the activations and the output tokens fit it, how specific it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from autointerp.records import FeatureId
from autointerp.store import RATINGS
from sae.common.errors import UserError
from sae.common.files import write_atomic

Task = Literal["rubric", "intruder"]
TEXTS = 5
"""Texts of which one is the intruder."""


@dataclass(frozen=True)
class Scale:
    """Holds one question of the rubric, whose answers are 0, 1, ... in order."""

    name: str
    question: str
    answers: tuple[str, ...] = field(default=())


RUBRIC = (
    Scale(
        "confidence",
        "How sure are you that this explanation says what the feature is about?",
        ("not at all", "a little", "rather", "very"),
    ),
    Scale(
        "activations",
        "How well do the shaded tokens fit it?",
        ("not at all", "few do", "some do", "most do", "nearly all do", "all do, and the darker the better"),
    ),
    Scale(
        "tokens",
        "How well do the output tokens fit it?",
        ("not at all", "some do", "most do", "all do"),
    ),
    Scale(
        "specificity",
        "How specific is it?",
        ("fits almost any text", "a broad topic or class of words", "a narrow one", "one clear thing"),
    ),
)


class Rating(BaseModel):
    """Holds what one person said of one feature."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: Task
    rater: str
    dictionary: str
    feature: int
    explainer: str
    """The explainer whose explanation was shown; the main one's. Empty where none was shown."""
    answers: dict[str, Annotated[int, Field(ge=0)]]
    """The rubric's scales, or `intruder`: 1 if the intruder was named."""
    score: Annotated[float, Field(ge=0, le=1)]
    """Sum of the answers over the largest sum."""

    @property
    def id(self) -> FeatureId:
        """The feature."""
        return FeatureId(self.dictionary, self.feature)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    version: Literal[1] = 1
    ratings: tuple[Rating, ...] = ()


def read(folder: Path) -> tuple[Rating, ...]:
    """Read a run folder's ratings; none if nobody rated. Raises UserError if the file cannot be read."""
    path = folder / RATINGS
    if not path.is_file():
        return ()
    try:
        return _File.model_validate_json(path.read_bytes()).ratings
    except (OSError, ValidationError) as error:
        raise UserError(f"{path} is damaged or of another version; move it away and rate again") from error


def write(folder: Path, ratings: Sequence[Rating]) -> None:
    """Replace a run folder's ratings. Raises UserError if the disk is full."""
    write_atomic(folder / RATINGS, _File(ratings=tuple(ratings)).model_dump_json(indent=1) + "\n")
