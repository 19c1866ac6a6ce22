"""Lists the baselines that trained dictionaries are compared with: one file of this package each, or a plugin.

Reading names, colours and what a baseline needs imports no torch: a baseline's file imports it inside `fit`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sae.common.errors import UserError, near
from sae.common.registry import Registry

if TYPE_CHECKING:
    from sae.dictionary import Dictionary

TRAINED = "sae"
"""The kind of a dictionary that was trained; that of a baseline is the baseline's name."""
TRAINED_COLOUR, UNKNOWN_COLOUR = "#D55E00", "#F0E442"
"""These and the baselines' colours are Okabe and Ito's (2008), which colour-blind readers tell apart."""


@dataclass(frozen=True)
class Baseline:
    """Describes one baseline: how it is made from activation vectors [B, D], and how it is shown."""

    name: str
    """Also the `kind` of the dictionaries it makes."""
    colour: str
    """Colour of its points and lines in plots, as #rrggbb; its top-k version has the same."""
    fit: Callable[..., Dictionary]
    """`fit(x_BD, seed)`; of a matched baseline `fit(x_BD, seed, target, target_density_F)`."""
    matched: bool = False
    """It is made once for every trained dictionary of a run, to match that one."""
    has_top_k: bool = True
    """`NAME-topK` keeps its K largest features of each vector."""
    reports_convergence: bool = False
    """It is fitted iteratively: `metadata["converged"]` says whether it converged before its limit."""
    label: str = ""
    """Its name in words, for pictures; empty: its name."""

    def __post_init__(self) -> None:
        """Raise ValueError if a matched baseline claims to have top-k versions."""
        if self.matched and self.has_top_k:
            raise ValueError(f"baseline {self.name} is matched: set has_top_k=False")


BASELINES: Registry[Baseline] = Registry(
    "baseline",
    "sae.baselines",
    order=("neurons", "pca", "ica", "nmf", "random", "random_matched"),
    shared=("registry", "directions", "top_k"),
)


def kinds() -> tuple[str, ...]:
    """Return every kind of dictionary: the trained one and the baselines."""
    return (TRAINED, *BASELINES.names)


def colour_of(kind: str) -> str:
    """Return a kind's colour as #rrggbb; a kind that is not installed here has a colour of its own."""
    if kind == TRAINED:
        return TRAINED_COLOUR
    return BASELINES.get(kind).colour if kind in BASELINES else UNKNOWN_COLOUR


def in_words(dictionary: str, kind: str) -> str:
    """Name a dictionary of a kind for a picture: `PCA, top 32`, `random, density-matched (topk 2x)`, `topk 4x`."""
    if kind not in BASELINES:
        return dictionary.replace("_", " ")
    base, _, target = dictionary.partition("[")
    k = base_and_k(base)[1]
    label = BASELINES.get(kind).label or kind.replace("_", " ")
    return label + (f", top {k}" if k else "") + (f" ({target.removesuffix(']').replace('_', ' ')})" if target else "")


def base_and_k(name: str) -> tuple[str, int | None]:
    """Split a baseline's name: ("pca", 32) of `pca-top32`, ("pca", None) of `pca`."""
    top = re.fullmatch(r"(.+)-top([1-9][0-9]*)", name)
    return (top[1], int(top[2])) if top else (name, None)


def check_name(name: str) -> str:
    """Return the name of a baseline or of its top-k version. Raises UserError if there is none of that name."""
    base, k = base_and_k(name)
    if base not in BASELINES:
        examples = [f"{known}-top32" for known, baseline in BASELINES.all().items() if baseline.has_top_k]
        raise UserError(f"unknown baseline {name!r}{near(name, [*BASELINES.names, *examples])}")
    if k and not BASELINES.get(base).has_top_k:
        raise UserError(f"{base} has no top-k version")
    return name
