"""Detection and fuzzing (delphi; Paulo et al. 2024): a judge tells active texts, or right marks, by the explanation.

Detection shows plain texts; fuzzing shows texts with marks, on the active tokens of active texts and, on silent texts,
where another text's active tokens are (delphi's fixed places would give them away). The score is balanced accuracy,
(TPR + TNR) / 2, with precision, recall and F1 beside it, and AUROC where log-probabilities are asked for.
"""

import json
from collections.abc import Sequence

from autointerp.config import Judging
from autointerp.llm.ask import ask, together
from autointerp.llm.specs import ModelSpec
from autointerp.llm.types import Completion, LLMTask, Request, TokenLogprobs
from autointerp.prompting import parse, render, templates
from autointerp.records import Explanation, FeatureRecord, Judgement
from autointerp.scorers import Scored
from autointerp.scorers.windows import Windows, active_tokens, auroc, chunks, generator, lenders, marked_like, windows

STREAMS = {"detection": 211, "fuzzing": 212}
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


class JudgedScorer:
    """name: `detection` or `fuzzing`. base_rate: share of active texts, for the chances of precision and F1."""

    explained = True

    def __init__(self, name: str, judge: ModelSpec, settings: Judging, seed: int, base_rate: float) -> None:
        self.name = name
        self._judge, self._settings, self._seed = judge, settings, seed
        self._prompt = templates.load(f"scorer/{name}")
        self.prompts = (self._prompt, templates.load("again"))
        always = 2 * base_rate / (1 + base_rate)  # F1 of answering "active" to everything
        self.chances: dict[str, float | None] = {name: 0.5}
        self.chances |= {f"{name}/precision": base_rate, f"{name}/recall": None, f"{name}/f1": always}
        if settings.logprobs:
            self.chances[f"{name}/auroc"] = 0.5

    def score(self, feature: FeatureRecord, explanation: Explanation) -> LLMTask[Scored]:
        """Undefined, and nothing asked, where there is nothing to tell apart."""
        shown = windows(feature.score)
        if not shown.active or not shown.silent:
            return Scored(dict.fromkeys(self.chances))
        order = generator(self._seed, STREAMS[self.name], feature.id).permutation([*shown.active, *shown.silent])
        groups = chunks([int(place) for place in order], self._settings.texts)
        texts = self._texts(shown)
        found = yield from together(self._group(explanation.text, group, texts) for group in groups)
        judgements = tuple(judgement for group in found for judgement in group)
        return Scored(self._scores(shown, judgements), judgements=judgements)

    def _texts(self, shown: Windows) -> dict[int, str]:
        if self.name == "detection":
            return {place: render.plain(shown.records[place].tokens) for place in (*shown.active, *shown.silent)}
        texts = {place: render.marked(r.tokens, active_tokens(r)) for place, r in enumerate(shown.records)}
        likes = zip(shown.silent, lenders(shown), strict=True)
        return texts | {place: marked_like(shown.records[place], like) for place, like in likes}

    def _group(self, explanation: str, places: Sequence[int], texts: dict[int, str]) -> LLMTask[list[Judgement]]:
        values = {"explanation": explanation, "texts": [texts[place] for place in places]}
        messages = self._prompt.conversation([], values)
        request = Request(
            model=self._judge.text,
            messages=messages,
            max_tokens=TOKENS_PER_ANSWER * len(places) + 50 + self._settings.reasoning_tokens,
            temperature=self._settings.temperature,
            top_logprobs=TOP_LOGPROBS if self._settings.logprobs else 0,
            schema=SCHEMA if self._judge.has_schema else None,
            static=1,
            stage=self.name,
            example=_example(len(places), self._settings.logprobs),
        )
        return (yield from ask(request, lambda completion: self._read(completion, places), templates.again))

    def _read(self, completion: Completion, places: Sequence[int]) -> list[Judgement]:
        found = parse.choices(completion.text, len(places))
        sure = parse.expected_at(completion, found, BITS) if self._settings.logprobs else [None] * len(found)
        return [Judgement(place, n.value, p) for place, n, p in zip(places, found, sure, strict=True)]

    def _scores(self, shown: Windows, judgements: Sequence[Judgement]) -> dict[str, float | None]:
        active = [judgement for judgement in judgements if judgement.record in shown.active]
        silent = [judgement for judgement in judgements if judgement.record in shown.silent]
        scores = dict(zip(self.chances, _confusion(active, silent), strict=False))
        if self._settings.logprobs:
            sides = [[judgement.probability for judgement in side] for side in (active, silent)]
            known = None not in sides[0] + sides[1]
            positive, negative = [[p for p in side if p is not None] for side in sides]
            scores[f"{self.name}/auroc"] = auroc(positive, negative) if known else None
        return scores


def _confusion(active: Sequence[Judgement], silent: Sequence[Judgement]) -> tuple[float | None, ...]:
    """Balanced accuracy, precision, recall, F1; precision is None where nothing was called active."""
    hits, false_alarms = sum(j.answer for j in active), sum(j.answer for j in silent)
    recall = hits / len(active)
    balanced = (recall + 1 - false_alarms / len(silent)) / 2
    called = hits + false_alarms
    return balanced, hits / called if called else None, recall, 2 * hits / (len(active) + called)


def _example(count: int, logprobs: bool) -> Completion:
    pieces = ['{"answers": [', *[piece for _ in range(count) for piece in ("0", ", ")][:-1], "]}"]
    found = tuple(TokenLogprobs(piece, {piece: 0.0}) for piece in pieces) if logprobs else ()
    return Completion("".join(pieces), logprobs=found)
