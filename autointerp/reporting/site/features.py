"""Describes features as the pages read them: a row of the list, and everything that the run holds of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from autointerp.records import ActivationRecord, Control, FeatureRecord, FeatureResult, Status
from autointerp.reporting.site import population
from autointerp.reporting.site.chunks import cut, cut_tokens, number, packed
from autointerp.reporting.terminal import is_about_tokens

STATUSES: tuple[str, ...] = get_args(Status)
ROW_TEXT = 1000
"""Characters of an explanation in the list, where it is searched."""
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
        "unpromoted": cut_tokens(feature.unpromoted),
        "explain": [_record(record) for record in feature.explain],
        "score": [_record(record) for record in feature.score],
        "population": population.summary(feature.population) if feature.population else None,
        "explanations": [_explanation(result, explainers.index(result.explainer)) for result in results],
    }


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
        "judged": _judged(result, about_records=True),
        "judged_tokens": _judged(result, about_records=False),
    }


def _control(control: Control) -> Mapping[str, float | None]:
    return {name: number(value) for name, value in control.scores.items()}


def _judged(result: FeatureResult, about_records: bool) -> Row:
    """List a judge's answers by scorer: record, answer, and its probability where there is one."""
    return {
        scorer: [[item.record, item.answer, number(item.probability)] for item in items]
        for scorer, items in result.judgements.items()
        if is_about_tokens(scorer) != about_records
    }
