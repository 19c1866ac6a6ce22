"""Judges offline: reads the rules back from the explanation's sentence and applies them. No language model.

How rules answer is said where the question is: by the scorers detection, fuzzing, intruder and logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from autointerp.judges import JUDGES, Judge, OddOneOut, Question, Verdict, YesNo
from autointerp.llm.types import LLMTask
from autointerp.prompting import rules, templates

if TYPE_CHECKING:
    from autointerp.config import Config

T = TypeVar("T")


class RulesJudge(Judge):
    """Answers from the explanation's text alone; free prose is an error, not a no."""

    reads_prose = False

    def __init__(self, spec: str, config: Config, question: Question[Any]) -> None:
        self.prompts = (templates.load(rules.PROMPT),)

    def fits(self, question: YesNo[T], explanation: str, items: Sequence[T]) -> LLMTask[list[Verdict]]:
        """Apply the explanation's rules. Raises AnswerError if it is not made of rules."""
        yield from ()  # asks nobody
        return question.by_rules(rules.from_text(explanation), items)

    def odd_one(self, question: OddOneOut[T], items: Sequence[T]) -> LLMTask[int]:
        """Learn rules from the items themselves."""
        yield from ()  # asks nobody
        return question.by_rules(items)


JUDGES.register("rules", RulesJudge)
