"""Reads presets: a published protocol as settings, each beside what was published and what differs here.

A preset is data (eval_configs/presets/NAME.yaml): a title and aspects of the protocol. An aspect holds its settings, so
that the table of what is matched and what differs cannot say anything else than what a run does.

A config file that begins with `preset: NAME` is that preset with the file's own settings over it; in a variant of a
suite the preset goes over the suite's settings, and the variant's own over the preset.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, Self

import yaml
from pydantic import AfterValidator, Field, model_validator

from autointerp import config, peer_faults
from sae.common.errors import UserError
from sae.common.field_types import Text
from sae.common.settings import Section, build, read
from sae.common.tables import Table

FOLDER = "presets/"
"""The folder of the presets in `eval_configs`."""
PRESET = "preset"
"""The key of a config file, or of a suite's variant, that names one."""


class Aspect(Section):
    """Describes one aspect of a protocol: what was published, and what is done here."""

    aspect: Text
    """What it is about, such as "explain records"."""
    published: Text
    """What the protocol does, with its numbers."""
    source: Text
    """Where that stands: a paper's section, or a repository's file."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """The settings that do the same here, by dotted name."""
    here: Text | None = None
    """What is done here that no setting says; null: nothing else than the settings."""
    differs: Text | None = None
    """What differs from what was published; null: nothing."""
    faults: tuple[Annotated[str, AfterValidator(peer_faults.require)], ...] = ()
    """Faults of the original here, which `peer_faults` switches on."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.settings and self.here is None and self.differs is None:
            raise ValueError(f"{self.aspect!r} says nothing of what is done here; give settings, here or differs")
        return self


class Preset(Section):
    """Describes a protocol by its aspects."""

    title: Text
    """Authors, year and name."""
    aspects: tuple[Aspect, ...] = Field(min_length=1)
    """All that the protocol publishes. No two aspects have a setting in common."""

    @property
    def settings(self) -> dict[str, Any]:
        """All settings, by dotted name."""
        return {name: value for aspect in self.aspects for name, value in aspect.settings.items()}

    @model_validator(mode="after")
    def _each_setting_once(self) -> Self:
        names = sorted(name for aspect in self.aspects for name in aspect.settings)
        for name, following in pairwise(names):
            if name == following or following.startswith(f"{name}."):
                raise ValueError(f"two aspects set {name}; leave one out")
        return self


def load(name_or_path: str) -> Preset:
    """Read a preset by path or by name (./eval_configs/presets, then the shipped ones).

    Raises UserError if there is none, or if it or one of its settings is wrong.
    """
    path, values = read(name_or_path, FOLDER)
    preset = build(Preset, values, {}, str(path))
    config.build({}, preset.settings, str(path))
    return preset


def under(preset: str | None, changes: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the changes of a config that a preset makes, and those of the user after them, which override them."""
    mine = dict(changes or {})
    if preset is None:
        return mine
    return {name: value for name, value in load(preset).settings.items() if name not in mine} | mine


def written_out(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return a config file's values, with the preset that it names under them. Raises UserError as `load` does."""
    own = dict(values)
    name = own.pop(PRESET, None)
    return _over(_nested(load(_named(name, where)).settings), own) if name is not None else own


def in_variant(settings: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Do the same for the settings of a suite's variant, which have dotted names."""
    own = dict(settings)
    name = own.pop(PRESET, None)
    return under(_named(name, where), own) if name is not None else own


def _named(name: object, where: str) -> str:
    if not isinstance(name, str):
        raise UserError(f"{where}: {PRESET} is the name of a preset, such as bills")
    return name


def _nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with dotted names as sections."""
    nested: dict[str, Any] = {}
    for name, value in settings.items():
        *sections, field = name.split(".")
        inner = nested
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[field] = value
    return nested


def _over(below: dict[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Put values over others, section by section."""
    both = {name for name, value in above.items() if isinstance(value, dict) and isinstance(below.get(name), dict)}
    return below | {name: _over(below[name], value) if name in both else value for name, value in above.items()}


def table(preset: Preset) -> Table:
    """List every aspect with what was published, what is done here, what differs ("-": nothing), and the source."""
    rows = [
        [aspect.aspect, aspect.published, _here(aspect), _differs(aspect), aspect.source] for aspect in preset.aspects
    ]
    return Table(["aspect", "published", "here", "differs", "source"], rows, preset.title)


def _here(aspect: Aspect) -> str:
    """Write an aspect's settings as `--set` takes them, and what else is done."""
    settings = [f"{name}={_inline(value)}" for name, value in aspect.settings.items()]
    return "; ".join([*settings, *([aspect.here] if aspect.here else [])]) or "-"


def _differs(aspect: Aspect) -> str:
    """Say what differs, and which faults of the original are left out."""
    faults = [f"without its fault {name}: {peer_faults.FAULTS[name].does}" for name in aspect.faults]
    return "; ".join([*([aspect.differs] if aspect.differs else []), *faults]) or "-"


def _inline(value: Any) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...")
