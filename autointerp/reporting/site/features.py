"""Describes features as the pages read them: a row of the list, and everything that the run holds of one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from autointerp.records import ActivationRecord, Control, Effect, FeatureRecord, FeatureResult, Judgement, Status
from autointerp.reporting.site import population
from autointerp.reporting.site.chunks import cut, cut_tokens, number, packed
from autointerp.reporting.terminal import CHANGED, is_about_tokens

STATUSES: tuple[str, ...] = get_args(Status)
ROW_TEXT = 1000
"""Characters of an explanation in the list, where it is searched."""
SAYS = {
    "detection": ("silent", "active"),
    "fuzzing": ("marks wrong", "marks right"),
    "intruder": ("not the intruder", "the intruder"),
}
"""What a judge's answers 0 and 1 mean, by scorer."""
ALIGNED = 5
"""The hook point's own directions (neurons, where it has them) that are listed of a feature."""
Row = dict[str, Any]


def list_row(feature: FeatureRecord, dictionary: int, result: FeatureResult | None, scores: Sequence[str]) -> list[Any]:
    """Describe a feature in the list of one explainer's results; all but the number of its script (`file`).

    Columns: dictionary, index, density, largest activation, status, text, words of the text, then the scores.
    """
    text = result.explanation.text if result and result.explanation else None
    return [
        dictionary,
        feature.id.index,
        number(feature.density),
        number(feature.max_activation),
        STATUSES.index(result.status) if result else None,
        None if text is None else cut(text, ROW_TEXT),
        None if text is None else len(text.split()),
        *(number(result.scores.get(name)) if result else None for name in scores),
    ]


def detail(feature: FeatureRecord, results: Sequence[FeatureResult], explainers: Sequence[str]) -> Row:
    """Describe one feature: excerpts, explanations with scores and predictions, distribution, logits."""
    return {
        "density": number(feature.density),
        "max": number(feature.max_activation),
        "histogram": _trimmed(feature.histogram),
        "cosine": number(feature.decoder_max_cosine),
        "promoted": cut_tokens(feature.promoted),
        "promoted_logits": [number(value) for value in feature.promoted_logits],
        "suppressed": cut_tokens(feature.suppressed),
        "suppressed_logits": [number(value) for value in feature.suppressed_logits],
        "neurons": _aligned(feature.direction),
        "unpromoted": cut_tokens(feature.unpromoted),
        "explain": [_record(record) for record in feature.explain],
        "score": [_record(record) for record in feature.score],
        "population": population.summary(feature.population) if feature.population else None,
        "explanations": [_explanation(result, explainers.index(result.explainer)) for result in results],
    } | ({"effect": _effect(feature.effect)} if feature.effect else {})


def _effect(effect: Effect) -> list[Any]:
    """Describe what ablating the feature does: the loss in words, then tokens with the change of their probability."""
    changes = {f"on its {effect.tokens:,} active tokens": effect.loss, "on other text": effect.loss_others}
    words = [f"{change:+.4f} nats {where}" for where, change in changes.items() if change is not None]
    return [
        f"Loss without it: {', '.join(words) or 'not measured'}.",
        _changed("Less likely", effect.lowered, effect.lowered_by),
        _changed("More likely", effect.raised, effect.raised_by),
    ]


def _changed(title: str, tokens: Sequence[str], changes: Sequence[float]) -> list[Any]:
    return [title, cut_tokens(tokens[:CHANGED]), [number(change) for change in changes[:CHANGED]]]


def _aligned(direction_D: NDArray[np.float32] | None) -> list[list[float | None]]:
    """List the hook point's own directions nearest to a decoder row: index and cosine, largest magnitude first."""
    if direction_D is None or not (norm := float(np.linalg.norm(direction_D.astype(np.float64)))):
        return []
    order = np.argsort(-np.abs(direction_D), kind="stable")[:ALIGNED].tolist()
    return [[index, number(float(direction_D[index]) / norm)] for index in order]


def _trimmed(histogram: Sequence[int]) -> list[Any]:
    """Return the first bin that is not empty, and the counts from there to the last; both empty: [0, []]."""
    filled = [index for index, count in enumerate(histogram) if count]
    return [filled[0], list(histogram[filled[0] : filled[-1] + 1])] if filled else [0, []]


def _record(record: ActivationRecord) -> Row:
    row = {
        "source": record.source,
        "document": record.document,
        "tokens": cut_tokens(record.tokens),
        "acts": packed(record.activations),
    }
    return row | ({"weight": number(record.weight)} if record.source == "weighted" else {})


def _explanation(result: FeatureResult, explainer: int) -> Row:
    explanation = result.explanation
    return {
        "explainer": explainer,
        "status": STATUSES.index(result.status),
        "text": explanation and cut(explanation.text),
        "prompt": explanation and explanation.prompt,
        "model": explanation and explanation.model,
        "scores": {name: number(value) for name, value in result.scores.items()},
        "intervals": {name: [number(end) for end in ends] for name, ends in result.intervals.items()},
        "failed": list(result.failed),
        "errors": {name: cut(reason) for name, reason in result.errors.items()},
        "controls": {kind: _control(control) for kind, control in result.controls.items()},
        "usage": {name: result.usage.get(name) for name in ("calls", "tokens_in", "tokens_out", "cost_usd")},
        "predicted": {item.record: packed(item.predicted) for item in result.simulations},
        "says": _says(result),
        "judged_tokens": _judged_tokens(result),
    }


def _control(control: Control) -> Mapping[str, float | None]:
    return {name: number(value) for name, value in control.scores.items()}


def _judged_tokens(result: FeatureResult) -> list[int]:
    """List the tokens that a judge calls promoted, of the promoted and then the unpromoted ones."""
    return [item.record for item in result.judgements.get("logits", ()) if item.answer]


def _says(result: FeatureResult) -> dict[int, str]:
    """Say how a judge answered about each record, and how often, with the probability of that answer if it has one."""
    by_record: dict[int, Counter[str]] = {}
    for scorer, items in result.judgements.items():
        for item in () if is_about_tokens(scorer) else items:
            by_record.setdefault(item.record, Counter())[f"{scorer}: {_answer(scorer, item)}"] += 1
    return {
        record: " \u00b7 ".join(text if times == 1 else f"{text} \u00d7{times}" for text, times in answers.items())
        for record, answers in by_record.items()
    }


def _answer(scorer: str, judgement: Judgement) -> str:
    words = SAYS.get(scorer, ("0", "1"))[judgement.answer]
    if judgement.probability is None:
        return words
    return f"{words} ({judgement.probability if judgement.answer else 1 - judgement.probability:.2f})"
