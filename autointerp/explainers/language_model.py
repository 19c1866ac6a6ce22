"""Explains by a language model, from token-activation pairs (Bills et al. 2023) or marked text (delphi).

Either may come with counter-examples (texts on which the feature is silent) and the tokens its decoder promotes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from autointerp import simulators
from autointerp.explainers import EXPLAINERS, LANGUAGE_MODEL, Explainer
from autointerp.explainers.best_of import BestOf
from autointerp.explainers.readers import refuse_readers_of_rules
from autointerp.explainers.settings import ExplanationSettings
from autointerp.llm import specs
from autointerp.llm.ask import ask
from autointerp.llm.types import Completion, LLMTask, Request
from autointerp.prompting import parse, render, templates
from autointerp.records import ActivationRecord, AnswerError, Explanation, FeatureRecord
from sae.common.errors import UserError

if TYPE_CHECKING:
    from autointerp.config import Config

SPARSE = 0.2
"""Below this share of non-zero activations the fragments are repeated without their silent tokens (Bills et al.)."""
LISTED = 10
"""Tokens of a marked excerpt whose activations are listed, at most (delphi)."""
EXAMPLE = "words for times of day, most strongly those for the evening and the beginning of the night"
"""An explanation of the usual length, for dry runs; the feature's name makes them differ as real ones do."""


class LanguageModelExplainer(Explainer):
    """Asks for one explanation per feature; `sample` tells several of the same prompt apart."""

    forms = "the spec of a language model such as anthropic/MODEL"
    settings: ClassVar = {"explanation": ExplanationSettings}

    def __init__(self, model: str, config: Config, sample: int = 0) -> None:
        self._settings, self._sample = config.section(ExplanationSettings), sample
        self.model, self.models = model, (model,)
        self.name = f"{model}{_suffix(self._settings)}"
        self._prompt = templates.load(f"explainer/{self._settings.style}")
        self.prompts = (self._prompt, templates.load("again"))
        self._shots = [
            (self._values(shot.active, shot.silent, shot.promoted), {"explanation": shot.explanation})
            for shot in render.shots(self._prompt.few_shot)
        ]

    @classmethod
    def of(cls, spec: str, config: Config) -> Explainer:
        """Make the explainer of a model's spec, or the best of several samples of it.

        Raises UserError for a wrong spec, a temperature that the model does not take or candidates lack, and a
        simulator or judge that reads no prose but would have to.
        """
        settings = config.section(ExplanationSettings)
        specs.refuse_temperature(specs.parse(spec), settings.temperature, "explanation.temperature")
        refuse_readers_of_rules(spec, config, settings.candidates > 1)
        if settings.candidates == 1:
            return cls(spec, config)
        if specs.is_free(spec) and not settings.temperature:
            raise UserError("the candidates of a model in this process are all the same; set explanation.temperature=1")
        return BestOf([cls(spec, config, number) for number in range(settings.candidates)], simulators.make(config))

    def explain(self, feature: FeatureRecord) -> LLMTask[Explanation]:
        """Explain a feature. Raises AnswerError if it is silent on its explain records, or for an unusable answer."""
        silent = [record for record in feature.explain if record.source == "inactive"]
        shown = [record for record in feature.explain if record.source != "inactive"]
        if not any(value > 0 for record in shown for value in record.activations):
            raise AnswerError("no explain record on which the feature is active")
        values = self._values(shown, silent, feature.promoted) | {"max_words": self._settings.max_words}
        messages = self._prompt.conversation(self._shots, values)
        request = Request(
            model=self.model,
            messages=messages,
            max_tokens=self._settings.max_tokens,
            temperature=self._settings.temperature,
            sample=self._sample,
            static=len(messages) - 1,
            stage="explain",
            example=Completion(self._example(feature)),
        )
        return (yield from ask(request, self._read, templates.again))

    def _example(self, feature: FeatureRecord) -> str:
        """Write an example of its own for each feature and for its permuted control, as answers are.

        It keeps the length budget, or a dry run would take it for an answer that cannot be used.
        """
        first = hash(feature.explain[0].activations) if feature.explain else 0  # of numbers: the same in every process
        return " ".join(f"{feature.id}/{first}, {self._sample}: {EXAMPLE}".split()[: self._settings.max_words])

    def _read(self, completion: Completion) -> Explanation:
        text = parse.explanation(completion.text, self._settings.max_words)
        return Explanation(text, self._prompt.label, self.model)

    def _values(
        self, shown: Sequence[ActivationRecord], silent: Sequence[ActivationRecord], promoted: Sequence[str]
    ) -> dict[str, Any]:
        """Return the values of the `user` template."""
        numbers = render.levels(shown)
        write = render.token_lines if self._settings.style == "tokens" else _one_line
        return {
            "excerpts": [
                _pairs(r, v) if self._settings.style == "tokens" else _marks(r, v, self._settings.marked)
                for r, v in zip(shown, numbers, strict=True)
                if self._settings.style == "tokens" or any(v)
            ],
            "strongest": _share_active(numbers) < SPARSE,
            "silent": [write(record.tokens) for record in silent] if self._settings.contrast else [],
            "promoted": ", ".join(map(repr, promoted)) if self._settings.logits else "",
        }


def _one_line(tokens: Sequence[str]) -> str:
    return render.plain(tokens)


def _pairs(record: ActivationRecord, numbers: Sequence[int]) -> dict[str, str]:
    """Write a fragment as token-activation pairs, and those of its active tokens again."""
    active = [position for position, number in enumerate(numbers) if number]
    return {
        "lines": render.token_lines(record.tokens, numbers),
        "active_lines": render.token_lines([record.tokens[i] for i in active], [numbers[i] for i in active]),
    }


def _marks(record: ActivationRecord, numbers: Sequence[int], share: float) -> dict[str, str]:
    """Write a fragment as text with the tokens above this share of its maximum marked, and its most strongly active
    tokens with their activations, in text order.
    """
    strongest = sorted(range(len(numbers)), key=lambda i: -record.activations[i])[:LISTED]
    pairs = [f"({record.tokens[i]!r}: {numbers[i]})" for i in sorted(strongest) if numbers[i]]
    return {
        "marked": render.marked(record.tokens, render.strongly_active(record, share)),
        "pairs": ", ".join(pairs),
    }


def _share_active(numbers: Sequence[Sequence[int]]) -> float:
    total = sum(len(values) for values in numbers)
    return sum(1 for values in numbers for value in values if value) / total if total else 0.0


def _suffix(settings: ExplanationSettings) -> str:
    """Name the settings that make explanations another explainer's, for tables."""
    names: list[str] = [] if settings.style == "tokens" else [settings.style]
    names += [name for name in ("contrast", "logits") if getattr(settings, name)]
    return f" ({', '.join(names)})" if names else ""


EXPLAINERS.register(LANGUAGE_MODEL, LanguageModelExplainer)
