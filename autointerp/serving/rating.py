"""Asks a person about features, one after the other, without saying which dictionary they are of.

The features of all dictionaries come in one random order, which the run and the rater's name decide. Every answer is
on disk before the next page is sent, and the same command goes on where it stopped.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

import jinja2

from autointerp import ratings
from autointerp.ratings import RUBRIC, TEXTS, Rating, Scale, Task
from autointerp.records import ActivationRecord, FeatureRecord, FeatureResult
from autointerp.reporting.site import pages
from autointerp.reporting.site.chunks import cut, cut_tokens
from autointerp.serving.pages import SCRIPTS
from autointerp.serving.server import Reply
from autointerp.store import RunFolder
from sae.common.errors import UserError
from sae.common.seeds import numpy_generator

POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; base-uri 'none'; form-action 'self'"
SHADES, SHOWN = 9, 8
"""Steps of shading, and texts of each kind that are shown for the rubric."""


@dataclass(frozen=True)
class Item:
    """Holds one feature as it is asked about."""

    feature: FeatureRecord
    explainer: str
    """Empty where no explanation is shown."""
    explanation: str
    texts: tuple[ActivationRecord, ...]
    intruder: int
    """Index of the text that does not belong; -1 for the rubric."""

    @property
    def scales(self) -> tuple[Scale, ...]:
        """What is asked; nothing about output tokens where the feature has none."""
        if self.intruder >= 0:
            return (Scale("intruder", "", tuple(str(number + 1) for number in range(len(self.texts)))),)
        return tuple(scale for scale in RUBRIC if scale.name != "tokens" or self.feature.promoted)


def items_of(folder: RunFolder, task: Task, rater: str) -> list[Item]:
    """List a run's features in the order in which a rater sees them. Raises UserError if none can be asked about."""
    main = folder.about["config"]["explainers"][0]
    results = {result.feature: result for result in folder.results() if result.explainer == main}
    features = folder.read_features()
    order = numpy_generator(0, "order of ratings", folder.about["identity"], rater, task).permutation(len(features))
    made = [_item(features[index], results.get(features[index].id), task) for index in order.tolist()]
    items = [item for item in made if item]
    if not items:
        other = "rubric" if task == "intruder" else "intruder"
        raise UserError(f"{folder.path} has no feature that can be rated by {task}; try --task {other}")
    return items


def _item(feature: FeatureRecord, result: FeatureResult | None, task: Task) -> Item | None:
    active = sorted((one for one in feature.score if max(one.activations) > 0), key=lambda one: -max(one.activations))
    if task == "rubric":
        if result is None or result.explanation is None or not active:
            return None
        rest = active[SHOWN:]
        n = min(SHOWN, len(rest))
        spread = [rest[index * len(rest) // n] for index in range(n)]
        return Item(feature, result.explainer, result.explanation.text, (*active[:SHOWN], *spread), -1)
    silent = [one for one in feature.score if max(one.activations) == 0]
    if len(active) < TEXTS - 1 or not silent:
        return None
    rng = numpy_generator(0, "intruder to rate", feature.id.dictionary, feature.id.index)
    texts = [*active[: TEXTS - 1], silent[int(rng.integers(len(silent)))]]
    order = rng.permutation(TEXTS).tolist()
    return Item(feature, "", "", tuple(texts[index] for index in order), order.index(TEXTS - 1))


class RatingApp:
    """Shows one feature after the other, and writes what a person says of each."""

    def __init__(self, folder: RunFolder, task: Task, rater: str) -> None:
        self._folder, self._task, self._rater = folder, task, rater
        self._items = items_of(folder, task, rater)
        self._writing = threading.Lock()
        loader = jinja2.FileSystemLoader(SCRIPTS.parent / "templates")
        self._page = pages.environment(loader).get_template("rate.html.j2")

    @property
    def left(self) -> list[Item]:
        """The items that this rater has not rated yet."""
        done = {rating.id for rating in self._own(ratings.read(self._folder.path))}
        return [item for item in self._items if item.feature.id not in done]

    def get(self, path: str) -> Reply | None:
        """Return the page of the next feature, or one of its files."""
        if path == "static/style.css":
            return Reply((pages.STATIC / "style.css").read_bytes(), "text/css")
        if path in ("static/common.js", "static/rate.js"):
            folder = SCRIPTS if path == "static/rate.js" else pages.STATIC
            return Reply((folder / path.removeprefix("static/")).read_bytes(), "text/javascript")
        if path:
            return None
        left = self.left
        item = _shown(left[0]) if left else None
        counts = {"done": len(self._items) - len(left), "all": len(self._items)}
        text = self._page.render(item=item, task=self._task, run=self._folder.path.name, **counts)
        return Reply(
            text.encode("utf-8", "replace"), "text/html; charset=utf-8", 200, {"Content-Security-Policy": POLICY}
        )

    def post(self, path: str, body: bytes) -> Reply | None:
        """Write an answer, or take the last one back; then the next page is shown."""
        answers = {name: values[0] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}
        with self._writing:
            every = list(ratings.read(self._folder.path))
            if path == "rate":
                every += [rating for rating in [self._rating(answers)] if rating]
            elif path == "undo":
                own = self._own(every)
                every = [rating for rating in every if not own or rating is not own[-1]]
            else:
                return None
            ratings.write(self._folder.path, every)
        return Reply(b"", status=303, headers={"Location": "./"})

    def _own(self, every: Sequence[Rating]) -> list[Rating]:
        return [one for one in every if (one.task, one.rater) == (self._task, self._rater)]

    def _rating(self, answers: dict[str, str]) -> Rating | None:
        """Read an answer to the page that is shown; None if it is of an older page or not whole."""
        left = self.left
        if not left or answers.get("item") != key_of(left[0]):
            return None
        item, given = left[0], dict[str, int]()
        for scale in item.scales:
            if (answer := answers.get(scale.name, "")) not in map(str, range(len(scale.answers))):
                return None
            given[scale.name] = int(answer)
        largest = sum(len(scale.answers) - 1 for scale in item.scales)
        if item.intruder >= 0:
            given, largest = {"intruder": int(given["intruder"] == item.intruder)}, 1
        return Rating(
            task=self._task,
            rater=self._rater,
            dictionary=item.feature.id.dictionary,
            feature=item.feature.id.index,
            explainer=item.explainer,
            answers=given,
            score=sum(given.values()) / largest,
        )


def key_of(item: Item) -> str:
    """Name an item without naming its dictionary."""
    from sae.common.files import sha256_of

    return sha256_of([str(item.feature.id).encode("utf-8", "surrogatepass")])[:16]


def _shown(item: Item) -> dict[str, Any]:
    """Describe an item to the template: nothing of it says which dictionary it is of."""
    is_blind = item.intruder >= 0
    largest = item.feature.max_activation or 1.0
    texts = [
        [
            (token, 0 if is_blind else round(SHADES * min(1.0, act / largest)))
            for token, act in zip(cut_tokens(text.tokens), text.activations, strict=True)
        ]
        for text in item.texts
    ]
    tokens = {"promoted": cut_tokens(item.feature.promoted), "suppressed": cut_tokens(item.feature.suppressed)}
    return {"key": key_of(item), "explanation": cut(item.explanation), "texts": texts, "scales": item.scales} | tokens
