"""Scores by surprisal (delphi): does the explanation make active texts likelier to a base model than silent ones?

The score is the AUROC, active against silent score records, of how much the explanation adds to the mean
log-probability of a text's tokens, compared with a neutral sentence in its place. Nothing is generated or judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, ClassVar

from autointerp import judges
from autointerp.llm import specs
from autointerp.llm.ask import ask_once, together
from autointerp.llm.types import Completion, LLMTask, Message, Request, TokenLogprobs
from autointerp.parts import I
from autointerp.prompting import templates
from autointerp.records import AnswerError, Explanation, FeatureRecord
from autointerp.scorers import SCORERS, Needs, Scored, Scorer
from autointerp.scorers.agreement import auroc
from autointerp.scorers.fragments import labelled
from sae.common.errors import UserError
from sae.common.field_types import Text
from sae.common.settings import Section

if TYPE_CHECKING:
    from autointerp.config import Config

PROMPT = "scorer/surprisal"


class SurprisalSettings(Section):
    """Names the model to which texts are more or less likely."""

    model: Annotated[Text | None, I] = None
    """A base model in this process, hf/NAME or vllm/NAME, or a directory for NAME; null: the judge, if that is one."""


class Surprisal(Scorer):
    """Scores the AUROC of the log-probability that the explanation adds to a text."""

    name, colour, chance, bounds = "surprisal", "#6a4c93", 0.5, (0.0, 1.0)
    settings: ClassVar = {"surprisal": SurprisalSettings}
    needs = Needs(active=("score",), inactive=("score",))

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        model = config.section(SurprisalSettings).model or judges.spec_of(config)
        if not specs.is_spec(model) or not specs.parse(model).has_prompt_logprobs:
            raise UserError(f"surprisal needs the likelihood of texts, not {model}; set surprisal.model=hf/NAME")
        self._prompt = templates.load(PROMPT)
        self.models, self.prompts = (model,), (self._prompt,)

    def score(self, feature: FeatureRecord, explanation: Explanation) -> LLMTask[Scored]:
        """Score one feature; undefined without active or without silent fragments."""
        shown = labelled(feature.score)
        if not shown.active or not shown.silent:
            return Scored({self.name: None})
        texts = ["".join(feature.score[index].tokens) for index in (*shown.active, *shown.silent)]
        heads = [self._prompt.render("explained", explanation=explanation.text), self._prompt.render("neutral")]
        means = yield from together(self._mean_logprob(head, text) for text in texts for head in heads)
        gains = [with_it - without for with_it, without in zip(means[::2], means[1::2], strict=True)]
        return Scored({self.name: auroc(gains[: len(shown.active)], gains[len(shown.active) :])})

    def _mean_logprob(self, head: str, text: str) -> LLMTask[float]:
        request = Request(
            model=self.models[0],
            messages=(Message("user", head + text),),
            max_tokens=1,
            likelihood_from=len(head),
            stage=self.name,
            example=Completion(text, logprobs=(TokenLogprobs(text, {text: 0.0}),)),
        )
        return (yield from ask_once(request, lambda completion: _mean(completion.logprobs)))


def _mean(tokens: Sequence[TokenLogprobs]) -> float:
    if not tokens:
        raise AnswerError("the model gave no log-probabilities of the text")
    return fmean(item.top[item.token] for item in tokens)


SCORERS.register("surprisal", Surprisal)
