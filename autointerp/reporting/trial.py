"""Shows which features are active on a text of the user's own: for a terminal, or as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from autointerp.records import ActivationRecord
from autointerp.reporting.lists import main_score
from autointerp.reporting.terminal import shaded
from autointerp.trials import ActiveFeature, Trial, TriedToken
from sae.common.errors import visible
from sae.common.tables import number

EXPLANATION_CHARACTERS = 200
"""Characters of an explanation that are shown of each feature."""


def trial_page(trial: Trial, colour: bool) -> str:
    """Describe a text token by token: the features that are active there, and what each promotes next.

    The text stands at the top, each token shaded by the explained feature that is nearest to its largest activation.
    """
    shares = tuple(nearest_to_largest(trial, token) for token in trial.tokens)
    text = ActivationRecord(tuple(token.text for token in trial.tokens), shares, 0, "random")
    names = ", ".join(map(visible, trial.dictionaries))
    head = [
        f"features of {names}, those that write most first",
        "shades: the explained feature that is nearest to its largest activation",
        "then: what a feature adds to the next token's logits, before the final layer norm",
    ]
    body = [line for index, token in enumerate(trial.tokens) for line in _token_lines(trial, index, token)]
    return "\n".join([*head, "", shaded(text, 1.0, colour), "", *body])


def nearest_to_largest(trial: Trial, token: TriedToken) -> float:
    """Return the largest share, 0 to 1, that an explained feature's activation here is of its largest in the run."""
    known = [(feature, trial.largest.get(feature.id)) for feature in token.features if feature.id in trial.results]
    return min(1.0, max((feature.activation / largest for feature, largest in known if largest), default=0.0))


def _token_lines(trial: Trial, index: int, token: TriedToken) -> Iterator[str]:
    known = sum(feature.id in trial.results for feature in token.features)
    yield f"{index} {visible(repr(token.text))}   {token.n_active:,} active, {known} of those below explained"
    for feature in token.features:
        yield f"  {visible(str(feature.id)):24} {_strength(trial, feature):24} {_explained(trial, feature)}"
        if feature.promoted:
            promoted = "  ".join(f"{visible(repr(word))} {value:+.2f}" for word, value in feature.promoted)
            yield f"  {'':24} then {promoted}"


def _strength(trial: Trial, feature: ActiveFeature) -> str:
    largest = trial.largest.get(feature.id)
    return f"{feature.activation:.3g}" + (f" ({feature.activation / largest:.0%} of largest)" if largest else "")


def _explained(trial: Trial, feature: ActiveFeature) -> str:
    """Return the score and the explanation; a dash for a feature that the run does not explain."""
    result = trial.results.get(feature.id)
    if result is None or result.explanation is None:
        return "-"
    text = visible(result.explanation.text)
    cut = text if len(text) <= EXPLANATION_CHARACTERS else f"{text[:EXPLANATION_CHARACTERS]} ..."
    return f"{number(main_score(result))}  {cut}"


def trial_json(trial: Trial) -> dict[str, Any]:
    """Return the same, ready for JSON; null where a feature has no explanation, score or largest activation."""
    tokens = [
        {
            "token": token.text,
            "n_active": token.n_active,
            "features": [_feature_json(trial, feature) for feature in token.features],
        }
        for token in trial.tokens
    ]
    return {"dictionaries": list(trial.dictionaries), "tokens": tokens}


def _feature_json(trial: Trial, feature: ActiveFeature) -> dict[str, Any]:
    result = trial.results.get(feature.id)
    explanation = result.explanation if result else None
    return {
        "dictionary": feature.id.dictionary,
        "feature": feature.id.index,
        "activation": feature.activation,
        "largest_activation": trial.largest.get(feature.id),
        "explanation": explanation.text if explanation else None,
        "explainer": result.explainer if result else None,
        "scores": dict(result.scores) if result else {},
        "promotes": [{"token": token, "logit": logit} for token, logit in feature.promoted],
    }
