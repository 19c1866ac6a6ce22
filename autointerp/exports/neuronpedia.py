"""Writes features, activations and explanations as Neuronpedia's API takes them: the body of a call per file.

The schema is `uploadBatchSchema` of apps/webapp/app/api/feature/upload-batch/route.tsx in hijohnnylin/neuronpedia at
commit ebb8426 (20 August 2026): at most 128 features a call, each with at least one activation of 1 to 1,024 tokens
that are not empty, explanations of 1 to 512 characters, names in lower case. NUL is left out because its database
cannot hold it (apps/webapp/lib/db/import.ts). A source is named LAYER-SET (lib/utils/source.ts).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from autointerp.exports import EXPORTS, Export
from autointerp.exports.content import Content, active, counted, layer_of
from autointerp.records import ActivationRecord, DictionarySummary, FeatureRecord, FeatureResult
from sae.common.errors import UserError

MOST_FEATURES, MOST_TOKENS, LONGEST_EXPLANATION = 128, 1024, 512
"""Limits of one call, of an activation, and of an explanation in characters."""


class Neuronpedia(Export):
    """Writes a folder per dictionary with the bodies of its calls, batch-000.json and so on.

    The run keeps which tokens a feature promotes, without their logits; those fields are null.
    """

    about = "bodies for Neuronpedia's /api/feature/upload-batch, a folder per dictionary"
    is_folder = True
    options = {  # noqa: RUF012  # as the base class declares it
        "model_id": "Neuronpedia's id of the model; default: the end of the model's name",
        "source": "Neuronpedia's id of the source, LAYER-SET; default: LAYER-DICTIONARY",
        "method_name": "Neuronpedia's name of the way of explaining, which must exist there; default: none",
        "model_name": "Neuronpedia's name of the explaining model, which must exist there; default: none, in the CSV "
        "the explainer's",
    }
    onward = (
        "send each file of {out} to https://www.neuronpedia.org/api/feature/upload-batch with the header x-api-key; "
        "model and source set must exist there"
    )

    def write(self, content: Content, path: Path) -> Sequence[str]:
        """Write every dictionary's features; return what was left out."""
        lost: Counter[str] = Counter()
        for dictionary, source in sources(content, self.given).items():
            features = [one for one in self._features(content, dictionary, lost) if one["activations"]]
            (path / source).mkdir()
            for number, start in enumerate(range(0, len(features), MOST_FEATURES)):
                part = features[start : start + MOST_FEATURES]
                body = {"modelId": model_id(content, self.given), "source": source, "features": part}
                text = json.dumps(body, ensure_ascii=False, allow_nan=False)
                (path / source / f"batch-{number:03}.json").write_text(text, "utf-8")
        return [line for what, n in lost.items() for line in counted(n, *what.split(": ", 1))]

    def _features(
        self, content: Content, dictionary: DictionarySummary, lost: Counter[str]
    ) -> Iterator[dict[str, Any]]:
        for feature in content.features_of(dictionary):
            activations = _activations(feature, lost)
            lost["features are left out: no text on which they are active can be sent"] += not activations
            top = _logits(feature.promoted, feature.promoted_logits)
            bottom = _logits(feature.suppressed, feature.suppressed_logits)
            lost["features go without logits: the run has none that can be sent"] += bool(activations and not top)
            yield {
                "index": feature.id.index,
                "density": feature.density,
                "topLogits": top,
                "bottomLogits": bottom,
                "explanations": self._explanations(content.results.get(feature.id, ()), lost),
                "activations": activations,
            }

    def _explanations(self, results: Sequence[FeatureResult], lost: Counter[str]) -> list[dict[str, Any]]:
        """Return the different texts; one that is too long is left out, not cut."""
        texts = list(dict.fromkeys(result.explanation.text for result in results if result.explanation))
        fitting = [text for text in texts if 0 < length(text) <= LONGEST_EXPLANATION and "\0" not in text]
        lost[f"explanations are left out: empty, longer than {LONGEST_EXPLANATION} characters, or with a NUL"] += len(
            texts
        ) - len(fitting)
        lost["features go without an explanation: they have none that can be sent"] += not fitting
        names = {"methodName": self.given.get("method_name"), "modelName": self.given.get("model_name")}
        return [{"text": text} | names for text in fitting]


def _logits(tokens: Sequence[str], logits: Sequence[float]) -> list[dict[str, Any]] | None:
    """Return tokens with what the decoder adds to their logits; None where there are none, or a run kept no figures."""
    pairs = zip(tokens, logits, strict=True) if len(tokens) == len(logits) else ()
    return [{"token": token, "value": value} for token, value in pairs if token and "\0" not in token] or None


def _activations(feature: FeatureRecord, lost: Counter[str]) -> list[dict[str, Any]]:
    records = active([*feature.explain, *feature.score])
    sent = list(dict.fromkeys(record for record in records if _can_be_sent(record)))
    lost["texts are left out: empty tokens, tokens with a NUL, or more than 1,024 tokens"] += sum(
        not _can_be_sent(record) for record in records
    )
    return [{"tokens": list(record.tokens), "values": list(record.activations)} for record in sent]


def _can_be_sent(record: ActivationRecord) -> bool:
    return len(record.tokens) <= MOST_TOKENS and all(token and "\0" not in token for token in record.tokens)


def length(text: str) -> int:
    """Count characters as JavaScript does: in units of UTF-16."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def model_id(content: Content, given: Mapping[str, str]) -> str:
    """Return Neuronpedia's id of the model: the given one, else the end of its name, in lower case."""
    return given.get("model_id", content.model.rstrip("/").rpartition("/")[2]).lower()


def sources(content: Content, given: Mapping[str, str]) -> dict[DictionarySummary, str]:
    """Return Neuronpedia's id of each dictionary: the given one, else LAYER-NAME of small letters, digits and dashes.

    Raises UserError if one is given for several dictionaries or is no name, if two would be called alike, or without a
    layer.
    """
    dictionaries = content.dictionaries
    if "source" in given:
        if len(dictionaries) > 1:
            raise UserError("--set source is for one dictionary, and these are several; add --dictionary NAME")
        source = given["source"].lower()
        if not re.fullmatch(r"\w[\w.-]*", source):  # it names a folder, too
            raise UserError("--set source is no name of a source; write LAYER-SET, such as 6-res-jb")
        return {dictionaries[0]: source}
    for one in dictionaries:
        if layer_of(one) is None:
            raise UserError(f"{one.name} reads {one.hook_point}, which is of no one layer; give --set source=LAYER-SET")
    named = {one: f"{layer_of(one)}-{_plain(one.name)}" for one in dictionaries}
    twice = [name for name, n in Counter(named.values()).items() if n > 1]
    if twice:
        raise UserError(f"two dictionaries would be called {twice[0]}; export them apart, with --dictionary NAME")
    return named


def _plain(name: str) -> str:
    """Spell a name in small letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "dictionary"


EXPORTS.register("neuronpedia", Neuronpedia)
