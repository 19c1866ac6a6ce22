"""Searches SAELens' registry of published dictionaries, a dated copy of which lies beside this file.

`tests/benchmarks/saelens_registry.py` writes the copy, whose first line names the version and the date.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from sae.common.errors import UserError, near, shortened

FILE = Path(__file__).with_name("saelens.json")


@dataclass(frozen=True)
class Entry:
    """Describes one dictionary of the registry."""

    release: str
    id: str
    repo: str
    path: str
    model: str
    hook_point: str
    """What it reads, as SAELens names it."""
    width: int | None
    """Its number of features, where the registry's names say it."""
    l0: float | None
    """Its mean number of active features per token, where the registry says it."""
    normalisation: str | None = None
    """How SAELens normalises the input whatever the dictionary's own files say."""

    @property
    def layer(self) -> int:
        """The layer of the hook point; 0 for the embedding."""
        match = re.search(r"\d+", self.hook_point)
        return int(match[0]) if match else 0

    @property
    def spec(self) -> str:
        """What `--dictionary` takes."""
        return f"saelens:{self.release}/{self.id}"


def source() -> str:
    """Return where the registry was copied from, with its version and the date."""
    return str(_registry()["source"])


def entries() -> Iterator[Entry]:
    """Yield every dictionary, in the registry's order."""
    for release in _registry()["releases"]:
        yield from _of(release)


def repositories() -> list[str]:
    """Return the names of all repositories."""
    return list(dict.fromkeys(about["repo"] for about in _registry()["releases"].values()))


def lookup(name: str) -> Entry:
    """Return the dictionary called RELEASE/SAE_ID.

    Raises UserError with the near names if there is none, and for one that our readers would read differently.
    """
    release, _, sae_id = name.partition("/")
    if release not in _registry()["releases"]:
        unknown = near(release, list(_registry()["releases"])).split("; known")[0]
        raise UserError(f"saelens:{shortened(name)}: no release {shortened(release)!r}{unknown}; next: sae find WORDS")
    known = {entry.id: entry for entry in _of(release)}
    if sae_id not in known:
        raise UserError(f"saelens:{shortened(name)}: {release} has no dictionary {sae_id!r}{near(sae_id, list(known))}")
    if known[sae_id].normalisation:
        raise UserError(
            f"saelens:{name}: SAELens reads it with {known[sae_id].normalisation} instead of its own file's "
            f"normalisation, which is not supported; hf:{known[sae_id].repo}/{known[sae_id].path} reads it as it is"
        )
    return known[sae_id]


def find(words: Sequence[str]) -> list[Entry]:
    """Return the dictionaries in which every word occurs.

    A word of letters is looked for in the release, the id, the model and the hook point. `layer=12`, `width=16k` and
    `l0=50` compare numbers; `l0=40-60` and `width=16k-65k` are ranges.

    Raises UserError for a number that cannot be read, and with the near names where there is no such dictionary.
    """
    tests = [_test(word) for word in words]
    matching = [entry for entry in entries() if all(test(entry) for test in tests)]
    if not matching:
        raise UserError(f"no dictionary of the registry has {shortened(' '.join(words))}{_near(words)}")
    return matching


def _near(words: Sequence[str]) -> str:
    """Return the registry's words that are nearest to those that occur nowhere."""
    texts = {text for about in _registry()["releases"].values() for text in (about["model"], about["hook_point"])}
    texts |= set(_registry()["releases"])
    known = sorted({part.lower() for text in texts for part in (text, text.split("/")[-1])})
    unknown = [word for word in words if "=" not in word and not any(word.lower() in text for text in known)]
    close = [each for word in unknown for each in difflib.get_close_matches(word.lower(), known, n=3, cutoff=0.5)]
    return f"; did you mean {' or '.join(close)}?" if close else "; give fewer words, or none: sae find"


def _test(word: str) -> Callable[[Entry], bool]:
    name, equals, value = word.partition("=")
    if not equals:
        return lambda entry: word.lower() in _text(entry)
    if name not in ("layer", "width", "l0"):
        raise UserError(f"{shortened(word)}: numbers are layer=N, width=N and l0=N, or ranges such as l0=40-60")
    low, high = _range(word, value)
    return lambda entry: getattr(entry, name) is not None and low <= getattr(entry, name) <= high


def _range(word: str, value: str) -> tuple[float, float]:
    """Read `12`, `16k` or `40-60`. Widths are rounded in names (65k is 65,536): k is taken 5% wide."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([km]?)(?:-(\d+(?:\.\d+)?)([km]?))?", value.lower())
    if not match:
        raise UserError(f"{shortened(word)}: write a number or a range, such as l0=50, l0=40-60 or width=16k")
    factor = {"": 1.0, "k": 1000.0, "m": 1e6}
    low, high = float(match[1]) * factor[match[2]], float(match[3] or match[1]) * factor[match[4] or match[2]]
    return low, high * (1.05 if match[4] or match[2] else 1)


@cache
def _text(entry: Entry) -> str:
    return " ".join((entry.release, entry.id, entry.model, entry.repo, entry.hook_point)).lower()


def _of(release: str) -> Iterator[Entry]:
    about = _registry()["releases"][release]
    for sae_id, path, layer, width, l0 in about["saes"]:
        hook_point = about["hook_point"].format(layer) if isinstance(layer, int) else layer
        yield Entry(
            release, sae_id, about["repo"], path or about["folder"] + sae_id, about["model"], hook_point, width, l0,
            about.get("normalisation"),
        )  # fmt: skip


@cache
def _registry() -> dict[str, Any]:
    registry: dict[str, Any] = json.loads(FILE.read_text("utf-8"))
    return registry
