"""Reads a suite: a config whose section `suite` makes several runs of it.

    subject: {model: toy, hook_points: [blocks.0.mlp.hook_post]}
    suite:
      models:
        narrow: {subject.toy.d_mlp: 64}
        wide: {subject.toy.d_mlp: 128}
      dictionaries:
        k8: {dictionaries.train.0.k: 8}
        k16: {dictionaries.train.0.k: 16}

The section holds axes, an axis named variants, and a variant settings by dotted name. Every combination of variants is
a member: a run of its own, here narrow-k8, narrow-k16, wide-k8 and wide-k16. A variant may name a preset, as in
`{preset: bills}`. Hook points and dictionaries that one run can hold are better listed in one: they share the pass of
the model, the baselines and the comparisons.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations, pairwise, product
from typing import Annotated, Any

from pydantic import Field

from autointerp import config as configs
from autointerp import presets
from autointerp.config import Config
from sae.common.errors import UserError
from sae.common.field_types import FileName
from sae.common.files import sha256_of
from sae.common.settings import Section, build, read

SUITE = "suite"
"""The section of a config that makes it a suite."""
OF_THE_SUITE = ("name", "runtime", "runtime.out", "runtime.max_cost")
"""Settings that are the whole suite's, and no variant's."""
Variant = Annotated[FileName, Field(pattern=r"^[\w.=+-]+$")]
Variants = Annotated[dict[Variant, dict[str, Any]], Field(min_length=1)]


class _Axes(Section):
    """Checks the form of the section."""

    suite: Annotated[dict[str, Variants], Field(min_length=1)]


@dataclass(frozen=True)
class Suite:
    """Holds the runs of a suite, ready to be planned."""

    path: str
    """Its folder."""
    members: Mapping[str, Config]
    """By name; each has a folder of its own in the suite's, of this name."""
    max_cost: float | None
    """USD that all members together may spend in one invocation; None: no limit."""


def is_suite(name_or_path: str) -> bool:
    """Tell whether a config has the section. Raises UserError if there is no such config, or if it is not YAML."""
    return SUITE in read(name_or_path)[1]


def load(name_or_path: str, changes: Mapping[str, Any] | None = None) -> Suite:
    """Read a suite by path or by name (./eval_configs, then the shipped ones).

    The settings of the file hold for all members, those of their variants go over them, and `changes` over both.
    `runtime.out` is the suite's folder; by default runs/NAME-HASH here, where the hash is of what all members share.

    Raises UserError for an unknown key, a value of the wrong kind, two members of one name, and variants of two axes
    that change the same setting.
    """
    path, values = read(name_or_path)
    axes = build(_Axes, {SUITE: values.pop(SUITE)}, {}, str(path)).suite
    axes = {axis: _written_out(variants, f"{path}, {SUITE}, {axis}") for axis, variants in axes.items()}
    values, changes = {"name": path.stem} | presets.written_out(values, str(path)), dict(changes or {})
    common = configs.build(values, changes, str(path))
    folder = common.runtime.out or f"runs/{common.name}-{_digest(common)}"
    members = {
        name: configs.build(
            values,
            settings | changes | {"name": name, "runtime.out": f"{folder}/{name}"},
            f"{path}, {SUITE}, {name}",
        )
        for name, settings in _combined(axes, str(path)).items()
    }
    return Suite(folder, members, common.runtime.max_cost)


def _written_out(variants: Variants, where: str) -> Variants:
    return {name: presets.in_variant(settings, f"{where}, {name}") for name, settings in variants.items()}


def _digest(common: Config) -> str:
    """Hash what all members share, and nothing of the members: a suite that grows keeps its folder."""
    shared = common.model_dump(mode="json", exclude={"runtime", "name"})
    return sha256_of([json.dumps(shared, sort_keys=True).encode()])[:8]


def _combined(axes: Mapping[str, Mapping[str, dict[str, Any]]], where: str) -> dict[str, dict[str, Any]]:
    """Return the settings of every member, by name. Raises UserError as `load` does."""
    for (one, variants), (other, others) in combinations(axes.items(), 2):
        _refuse_overlap(one, variants, other, others, where)
    members: dict[str, dict[str, Any]] = {}
    for axis, name, settings in ((axis, name, s) for axis, variants in axes.items() for name, s in variants.items()):
        if taken := next((key for key in settings if key in OF_THE_SUITE), None):
            raise UserError(f"{where}: {SUITE}.{axis}.{name}: {taken} is for all members; set it outside of {SUITE}")
    for variants_of_member in product(*(axis.items() for axis in axes.values())):
        name = "-".join(name for name, _ in variants_of_member)
        if name.casefold() in map(str.casefold, members):
            raise UserError(f"{where}: {SUITE}: two members are called {name!r}; rename a variant")
        members[name] = {key: value for _, settings in variants_of_member for key, value in settings.items()}
    return members


def _refuse_overlap(
    one: str, variants: Mapping[str, dict[str, Any]], other: str, others: Mapping[str, dict[str, Any]], where: str
) -> None:
    """Raise UserError if variants of two axes change the same setting: one of them would have no effect."""
    mine, theirs = ({name for settings in axis.values() for name in settings} for axis in (variants, others))
    for name, following in pairwise(sorted([*mine, *theirs])):
        if name == following or (following.startswith(f"{name}.") and (name in mine) != (following in mine)):
            raise UserError(
                f"{where}: {SUITE}.{one} and {SUITE}.{other} both change {name}; leave it out of one, or make one axis"
            )
