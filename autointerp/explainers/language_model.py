"""Explanations by a language model from token-activation pairs (Bills et al. 2023) or marked text (delphi).

Either may be given counter-examples (texts on which the feature is silent) and the tokens its decoder promotes.
"""

from collections.abc import Sequence
from typing import Any

from autointerp.config import Explaining
from autointerp.llm.ask import ask
from autointerp.llm.types import Completion, LLMTask, Request
from autointerp.prompting import parse, render, templates
from autointerp.records import ActivationRecord, AnswerError, Explanation, FeatureId, FeatureRecord

SPARSE = 0.2
"""Below this share of non-zero activations the excerpts are repeated without their silent tokens (Bills et al.)."""
MARKED = 0.3
"""Tokens above this share of their excerpt's maximum are marked (delphi)."""
EXAMPLE = "words for times of day, most strongly those for the evening and the beginning of the night"
"""As long as explanations usually are, for dry runs; the feature's name makes them differ as real ones do."""


class LanguageModelExplainer:
    """One sample per feature; `sampled` gives others of the same prompt."""

    def __init__(self, model: str, settings: Explaining, sample: int = 0) -> None:
        self.model, self._settings, self._sample = model, settings, sample
        self.name = f"{model}{_suffix(settings)}"
        self._prompt = templates.load(f"explainer/{settings.style}")
        self.prompts = (self._prompt, templates.load("again"))
        self._shots = [
            (self._values(shot.active, shot.silent, shot.promoted), {"explanation": shot.explanation})
            for shot in render.shots(self._prompt.few_shot)
        ]

    def sampled(self, number: int) -> "LanguageModelExplainer":
        """The same explainer's sample of this number."""
        return LanguageModelExplainer(self.model, self._settings, number)

    def explain(self, feature: FeatureRecord) -> LLMTask[Explanation]:
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
            example=Completion(self._example(feature.id)),
        )
        return (yield from ask(request, self._read, templates.again))

    def _example(self, feature: FeatureId) -> str:
        """Within the length budget, or a dry run would take it for an answer that cannot be used."""
        return " ".join(f"{feature}, {self._sample}: {EXAMPLE}".split()[: self._settings.max_words])

    def _read(self, completion: Completion) -> Explanation:
        text = parse.explanation(completion.text, self._settings.max_words)
        return Explanation(text, self._prompt.label, self.model)

    def _values(
        self, shown: Sequence[ActivationRecord], silent: Sequence[ActivationRecord], promoted: Sequence[str]
    ) -> dict[str, Any]:
        """The values of the `user` template."""
        numbers = render.levels(shown)
        write = render.token_lines if self._settings.style == "tokens" else _one_line
        return {
            "excerpts": [
                _pairs(r, v) if self._settings.style == "tokens" else _marks(r, v)
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
    """An excerpt as token-activation pairs, and those of its active tokens."""
    active = [place for place, number in enumerate(numbers) if number]
    return {
        "lines": render.token_lines(record.tokens, numbers),
        "active_lines": render.token_lines([record.tokens[i] for i in active], [numbers[i] for i in active]),
    }


def _marks(record: ActivationRecord, numbers: Sequence[int]) -> dict[str, str]:
    """An excerpt as marked text, and its active tokens with their activations."""
    pairs = [f"({record.tokens[i]!r}: {number})" for i, number in enumerate(numbers) if number]
    return {
        "marked": render.marked(record.tokens, render.strongly_active(record, MARKED)),
        "pairs": ", ".join(pairs),
    }


def _share_active(numbers: Sequence[Sequence[int]]) -> float:
    total = sum(len(values) for values in numbers)
    return sum(1 for values in numbers for value in values if value) / total if total else 0.0


def _suffix(settings: Explaining) -> str:
    """What of the settings a table must say: explanations made otherwise are another explainer's."""
    said: list[str] = [] if settings.style == "tokens" else [settings.style]
    said += [name for name in ("contrast", "logits") if getattr(settings, name)]
    return f" ({', '.join(said)})" if said else ""
