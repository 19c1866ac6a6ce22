"""Shares what scorers that ask a language model have in common: which model it is, and questions of many texts.

Detection and fuzzing (delphi; Paulo et al. 2024) show texts; the judge says of each whether the explanation fits it.
The score is balanced accuracy, (TPR + TNR) / 2, with precision, recall and F1 beside it, and AUROC where
log-probabilities are asked for.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from autointerp.llm import specs
from autointerp.llm.ask import ask, together
from autointerp.llm.types import Completion, LLMTask, Request, TokenLogprobs
from autointerp.parts import I
from autointerp.prompting import parse, templates
from autointerp.records import Explanation, FeatureRecord, Judgement
from autointerp.scorers import Scored, Scorer
from autointerp.scorers.agreement import auroc, confusion_scores
from autointerp.scorers.fragments import Labelled, chunks, generator, labelled
from sae.common.errors import UserError
from sae.common.settings import Section

if TYPE_CHECKING:
    from autointerp.config import Config

TOKENS_PER_ANSWER = 4
BITS = ("0", "1")
TOP_LOGPROBS = 5
SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {"answers": {"type": "array", "items": {"type": "integer", "enum": [0, 1]}}},
        "required": ["answers"],
        "additionalProperties": False,
    }
)


class JudgementSettings(Section):
    """Sets how the judge of detection, fuzzing and intruder is asked."""

    reasoning_tokens: Annotated[int, I, Field(ge=0)] = 2000
    """Tokens added to the answer's limit, for models that think before they answer."""
    temperature: Annotated[float | None, I, Field(ge=0)] = None
    """Sampling temperature; null: the provider's default (a model in this process: 0)."""


class TextsSettings(Section):
    """Sets how texts are put to the judge."""

    texts: Annotated[int, I, Field(gt=0)] = 5
    """Texts per question."""
    logprobs: Annotated[bool, I] = False
    """Also ask for log-probabilities and report AUROC (not with anthropic/...)."""


def judge_of(config: Config) -> specs.ModelSpec:
    """Return the run's judge: `judge`, or the simulator if no judge is given. Raises UserError if it is no model."""
    return specs.parse(config.judge or config.simulator)


def check_judge(part: type[Scorer], config: Config) -> None:
    """Raise UserError if there is no judge, or if it cannot do what the settings ask of it."""
    if not specs.is_spec(config.judge or config.simulator):
        raise UserError(f"{part.name} asks a language model; give --judge {specs.forms()}")
    judge = judge_of(config)
    specs.refuse_temperature(judge, config.section(JudgementSettings).temperature, "judgement.temperature")
    section, _, field = part.needs.logprobs.partition(".")
    if section and getattr(getattr(config, section), field) and not judge.may_have_logprobs:
        raise UserError(f"{judge.text} gives no log-probabilities; set {part.needs.logprobs}=false")


class TextScorer(Scorer):
    """Asks the judge of a feature's active and silent fragments, several texts per question, in random order."""

    bounds = (0.0, 1.0)
    stream: ClassVar[str]
    """Name of its random stream."""
    own: ClassVar[type[TextsSettings]]
    """Its own section."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._judge = judge_of(config)
        self._settings, self._judgement = config.section(self.own), config.section(JudgementSettings)
        self._prompt = templates.load(f"scorer/{self.name}")
        self.prompts = (self._prompt, templates.load("again"))
        self.models = (self._judge.text,)
        rate = base_rate(config)
        always = 2 * rate / (1 + rate)  # F1 of answering "active" to everything
        levels = {"": 0.5, "/precision": rate, "/recall": None, "/f1": always}
        levels |= {"/auroc": 0.5} if self._settings.logprobs else {}
        self.chances = {self.name + detail: level for detail, level in levels.items()}

    @abstractmethod
    def texts(self, shown: Labelled) -> Mapping[int, str]:
        """Write every active and silent fragment, by its index among the records."""

    def score(self, feature: FeatureRecord, explanation: Explanation) -> LLMTask[Scored]:
        """Score by the judge's answers; without active or silent fragments nothing is asked, and nothing defined."""
        shown = labelled(feature.score)
        if not shown.active or not shown.silent:
            return Scored(dict.fromkeys(self.chances))
        order = generator(self.config.seed, self.stream, feature.id).permutation([*shown.active, *shown.silent])
        groups = chunks([int(index) for index in order], self._settings.texts)
        texts = self.texts(shown)
        answered = yield from together(self._group(explanation.text, group, texts) for group in groups)
        judgements = tuple(judgement for group in answered for judgement in group)
        return Scored(self._scores(shown, judgements), judgements=judgements)

    def _group(self, explanation: str, indices: Sequence[int], texts: Mapping[int, str]) -> LLMTask[list[Judgement]]:
        values = {"explanation": explanation, "texts": [texts[index] for index in indices]}
        request = Request(
            model=self._judge.text,
            messages=self._prompt.conversation([], values),
            max_tokens=TOKENS_PER_ANSWER * len(indices) + 50 + self._judgement.reasoning_tokens,
            temperature=self._judgement.temperature,
            top_logprobs=TOP_LOGPROBS if self._settings.logprobs else 0,
            schema=SCHEMA if self._judge.has_schema else None,
            static=1,
            stage=self.name,
            example=_example(len(indices), self._settings.logprobs),
        )
        return (yield from ask(request, lambda completion: self._read(completion, indices), templates.again))

    def _read(self, completion: Completion, indices: Sequence[int]) -> list[Judgement]:
        answers = parse.choices(completion.text, len(indices))
        logprobs = self._settings.logprobs
        probabilities = parse.expected_at(completion, answers, BITS) if logprobs else [None] * len(answers)
        return [Judgement(i, n.value, p) for i, n, p in zip(indices, answers, probabilities, strict=True)]

    def _scores(self, shown: Labelled, judgements: Sequence[Judgement]) -> dict[str, float | None]:
        active = [judgement for judgement in judgements if judgement.record in shown.active]
        silent = [judgement for judgement in judgements if judgement.record in shown.silent]
        measures = confusion_scores([j.answer for j in active], [j.answer for j in silent])
        scores = dict(zip(self.chances, measures, strict=False))
        if self._settings.logprobs:
            sides = [[judgement.probability for judgement in side] for side in (active, silent)]
            known = None not in sides[0] + sides[1]
            positive, negative = [[p for p in side if p is not None] for side in sides]
            scores[f"{self.name}/auroc"] = auroc(positive, negative) if known else None
        return scores


def base_rate(config: Config) -> float:
    """Return the share of active texts among those that are judged."""
    records = config.sampling.score
    return records.n_active / (records.n_active + records.inactive)


def _example(count: int, logprobs: bool) -> Completion:
    pieces = ['{"answers": [', *[piece for _ in range(count) for piece in ("0", ", ")][:-1], "]}"]
    tokens = tuple(TokenLogprobs(piece, {piece: 0.0}) for piece in pieces) if logprobs else ()
    return Completion("".join(pieces), logprobs=tokens)
