"""Renders a text of the user's own with the features that are active on each token, as a page without scripts."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import jinja2

from autointerp.records import FeatureId
from autointerp.reporting.lists import main_score
from autointerp.reporting.site import pages
from autointerp.reporting.site.chunks import cut, cut_tokens
from autointerp.reporting.trial import nearest_to_largest
from autointerp.trials import ActiveFeature, Trial
from sae.common.tables import number

SHADES = 9
"""Steps of shading in style.css, beside none."""
POLICY = (
    "default-src 'none'; script-src {script}; style-src {style}; img-src data:; base-uri 'none'; form-action {form}"
)


def saved_page(trial: Trial) -> str:
    """Return a page that needs no other file."""
    style = (pages.STATIC / "style.css").read_text("utf-8")
    digest = b64encode(sha256(style.encode()).digest()).decode()
    policy = POLICY.format(script="'none'", style=f"'sha256-{digest}'", form="'none'")
    return _render(policy=policy, style=style, served=False, **_words(trial, {}))


def served_page(
    runs: Sequence[str],
    run: int = 0,
    text: str = "",
    trial: Trial | None = None,
    numbers: Mapping[FeatureId, int] | None = None,
    error: str | None = None,
) -> str:
    """Return the page with a box for a text, and what is known of the last one.

    Args:
        runs: what each run is called.
        run: which of them the text was read with.
        text: what the box holds.
        trial: what was read; None before the first text, and if it could not be read.
        numbers: the features' numbers in the site, to which names are linked.
        error: why the text could not be read.
    """
    policy = POLICY.format(script="'self'", style="'self'", form="'self'")
    shown = _words(trial, numbers or {}) if trial else {"dictionaries": [], "tokens": []}
    return _render(policy=policy, style=None, served=True, runs=runs, run=run, text=text, error=error, **shown)


def _render(**values: Any) -> str:
    template = pages.environment(jinja2.FileSystemLoader(pages.TEMPLATES)).get_template("tried.html.j2")
    return template.render(**values)


def _words(trial: Trial, numbers: Mapping[FeatureId, int]) -> dict[str, Any]:
    texts = cut_tokens([token.text for token in trial.tokens])
    tokens = [
        {
            "text": text,
            "n_active": token.n_active,
            "shade": round(SHADES * nearest_to_largest(trial, token)),
            "features": [_feature(trial, feature, numbers) for feature in token.features],
        }
        for text, token in zip(texts, trial.tokens, strict=True)
    ]
    return {"dictionaries": trial.dictionaries, "tokens": tokens}


def _feature(trial: Trial, feature: ActiveFeature, numbers: Mapping[FeatureId, int]) -> dict[str, Any]:
    result, largest = trial.results.get(feature.id), trial.largest.get(feature.id)
    return {
        "name": str(feature.id),
        "number": numbers.get(feature.id),
        "activation": f"{feature.activation:.3g}",
        "share": f"{feature.activation / largest:.0%}" if largest else "",
        "score": number(main_score(result)) if result else "",
        "explanation": cut(result.explanation.text) if result and result.explanation else "",
        "promoted": cut_tokens([word for word, _ in feature.promoted]),
    }
