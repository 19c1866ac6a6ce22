"""Reads an experiment from one YAML file: changes fields, refuses unknown ones, and lists what its identity is.

Every field is annotated with the role it has in a run's identity: I (IDENTITY), C (CONTENT) or R (RUNTIME), see
`autointerp.parts`. The sections of explainers, simulators and scorers, plugins included, come from their files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BaseModel, Field, create_model

from autointerp import judges
from autointerp.explainers import EXPLAINERS
from autointerp.judges import JUDGES
from autointerp.parts import I, Part, R, Role
from autointerp.peer_faults import require as require_fault
from autointerp.scorers import SCORERS
from autointerp.sections import ControlKind, Corpus, Dictionaries, Effort, Runtime, Sampling, Stopping, Subject
from autointerp.simulators import SIMULATORS
from sae.common.errors import UserError, near
from sae.common.field_types import Different, FileName, Seed, Text
from sae.common.settings import AnySection, Section, read, sections_in
from sae.common.settings import build as build_section


def _known_scorer(name: str) -> str:
    if name not in SCORERS:
        raise ValueError(f"unknown scorer {name!r}{near(name, list(SCORERS.names))}")
    return name


def _known_judge(spec: str) -> str:
    try:
        judges.part_of(spec)
    except UserError as error:
        raise ValueError(str(error)) from error
    return spec


class Config(Section):
    """Describes one experiment."""

    name: Annotated[FileName, R] = "run"
    """The run folder's name begins with it; by default the config file's name."""
    seed: Annotated[Seed, I] = 0
    """Seed of all random choices."""
    corpus: Corpus = Corpus()
    subject: Subject = Subject()
    dictionaries: Dictionaries = Dictionaries()
    sampling: Sampling = Sampling()
    explainers: Annotated[tuple[Text, ...], I, Field(min_length=1), Different] = ("rules-5",)
    """Explainers, the main one first: `rules-N` (at most N rules), `rules-unlimited`, `token-table`, `file:PATH`
    (explanations that are there already; with #AUTHOR those of one author), or the spec of a language model, such as
    anthropic/MODEL."""
    simulator: Annotated[Text, I] = "rules"
    """Predicts activations from explanations: `rules`, or the spec of a language model."""
    judge: Annotated[Annotated[str, AfterValidator(_known_judge)] | None, I] = None
    """Answers the questions of detection, fuzzing, intruder, logits and effect: `rules`, or the spec of a language
    model; null: the simulator."""
    effort: Effort = Effort()
    extra_body: Annotated[dict[str, dict[str, Any]], I] = Field(default_factory=dict)
    """Further fields of the requests to a model of an API, by its spec; they override all others, but none may change
    prompts, or lengths and numbers of answers: {anthropic/MODEL: {service_tier: standard_only}}."""
    scorers: Annotated[tuple[Annotated[str, AfterValidator(_known_scorer)], ...], I, Field(min_length=1), Different] = (
        "simulation",
    )
    """Scorers, the main one first."""
    stopping: Stopping = Stopping()
    controls: Annotated[float, I, Field(ge=0, le=1)] = 1.0
    """Share of features that are also scored with uninformed explanations (see control_kinds)."""
    control_kinds: Annotated[tuple[ControlKind, ...], I, Different] = ("mismatched",)
    """What the controls are. `mismatched`: the explanation of a feature of like density; `permuted`: one learnt from
    the feature's own fragments with the activations in another order; `exchanged`: the feature's own explanation with
    its words exchanged for others as frequent. The last two are made for the main explainer only."""
    peer_faults: Annotated[tuple[Annotated[str, AfterValidator(require_fault)], ...], I, Different] = ()
    """Faults of the published protocols' own code that are switched on, to measure what they do; every table and page
    of the run names them. delphi-split-leak, delphi-fuzz-cue, delphi-literal-failure, saebench-unchecked-negatives,
    saebench-plain-accuracy, saebench-pca-transposed, drop-failures, failures-as-zeros, missing-numbers-as-zeros,
    undefined-as-zero."""
    runtime: Runtime = Runtime()

    def identity_fields(self) -> dict[str, Any]:
        """Return the values of all IDENTITY fields, by dotted name."""
        roles = field_roles(type(self))
        return {name: value for name, value in _leaves(self) if roles[name] is I}

    def section(self, kind: type[AnySection]) -> AnySection:
        """Return the section of this class: the settings of an explainer, a simulator or a scorer."""
        return next(value for value in vars(self).values() if type(value) is kind)


def load(name_or_path: str, changes: Mapping[str, Any] | None = None) -> Config:
    """Read a config by path or by name, with some fields changed.

    Args:
        name_or_path: an explicit path, `NAME` in ./eval_configs, or a shipped one. `preset: NAME` in it is a preset.
        changes: dotted names to new values, such as {"sampling.features": 50}.

    Raises:
        UserError: no such config, not YAML, an unknown key (with the near one), or a value of the wrong kind.
    """
    from autointerp import presets  # which are checked as configs

    path, values = read(name_or_path)
    if "suite" in values:
        raise UserError(f"{path} is a suite of several runs, which only the command `autointerp run` takes")
    return build({"name": path.stem} | presets.written_out(values, str(path)), changes or {}, str(path))


def build(values: dict[str, Any], changes: Mapping[str, Any], where: str) -> Config:
    """Build a config from changed values and validate it. Raises UserError in one line."""
    return build_section(Config, values, changes, where)


def field_roles(section: type[BaseModel], prefix: str = "") -> dict[str, Role]:
    """Return the role of every leaf field, by dotted name; a section with a role of its own is a leaf.

    Raises TypeError if a field has none or several.
    """
    roles: dict[str, Role] = {}
    for name, info in section.model_fields.items():
        inner = sections_in(info.annotation)
        own_roles = [item for item in info.metadata if isinstance(item, Role)]
        if inner and not own_roles:
            for choice in inner:
                roles |= field_roles(choice, f"{prefix}{name}.")
            continue
        if len(own_roles) != 1:
            raise TypeError(f"config field {prefix}{name} has {len(own_roles)} roles; give it one of I, C, R")
        roles[prefix + name] = own_roles[0]
    return roles


def _leaves(section: BaseModel, prefix: str = "") -> Iterable[tuple[str, Any]]:
    """List values by dotted name, as plain data; a section with a role of its own is one value."""
    roles = field_roles(type(section))
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, BaseModel) and name not in roles:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, _plain(value)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


SHARED_FIELDS = frozenset(Config.model_fields)
"""The fields of every config; all others are the sections of parts."""


def part_sections() -> dict[str, type[Section]]:
    """Collect the sections of all registered parts, plugins included, by name.

    Raises UserError if two parts have different sections of one name, or one has the name of another config field.
    """
    sections: dict[str, type[Section]] = {}
    parts: list[type[Part]] = [
        part for kind in (EXPLAINERS, SIMULATORS, SCORERS, JUDGES) for part in kind.all().values()
    ]
    for part in parts:
        for name, section in part.settings.items():
            if sections.setdefault(name, section) is not section or name in SHARED_FIELDS:
                raise UserError(f"{part.__module__}: the config has other settings called {name!r}; rename the section")
            field_roles(section, f"{name}.")
    return sections


if not TYPE_CHECKING:  # type checkers know the shared fields; parts get their sections by `Config.section`
    Config = create_model("Config", __base__=Config, **{n: (kind, kind()) for n, kind in part_sections().items()})
