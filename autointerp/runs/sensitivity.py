"""Runs one experiment under many choices: protocols, numbers of records, lengths of explanations; resumes as a suite.

Model, text and dictionaries stay the run's own; explanations and answers are those of rules, so that nothing is paid
for. A member is a run under one protocol with one number of records, and holds all lengths; ways to treat failures are
told apart afterwards (`reporting.sensitivity`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autointerp import config as configs
from autointerp import explainers, presets
from autointerp.config import Config
from autointerp.llm import specs
from autointerp.peer_faults import OF_MEANS
from autointerp.reporting import sensitivity as reporting
from autointerp.runs import suite, verify
from autointerp.scorers import SCORERS
from autointerp.sections import Records
from autointerp.suite_folder import SuiteFolder
from autointerp.suites import Suite
from sae.common.errors import UserError
from sae.common.files import sha256_of
from sae.common.progress import Report

OWN = "own"
"""The protocol that the run itself follows."""
KEPT = ("corpus", "subject", "dictionaries")
"""Sections of a preset that are left out: they would change what is measured, not how."""
SIZE = ("sampling.features", "sampling.tokens")
"""Its settings that are left out because they only say how much is measured."""
COUNTS = ("top", "quantile", "importance", "random", "inactive", "hard", "weighted")
"""The numbers of records of a side."""


@dataclass(frozen=True)
class Choices:
    """Holds what is varied; of each the first is the one that the others are compared with."""

    protocols: tuple[str, ...]
    """Names of presets, beside the run's own protocol."""
    lengths: tuple[str, ...]
    """Explainers that ask no language model, such as rules-5."""
    records: tuple[float, ...]
    """Factors of all numbers of records."""


def run(config: Config, choices: Choices, out: str | None, report: Report) -> tuple[SuiteFolder, reporting.Multiverse]:
    """Run every protocol with every number of records, or continue where that stopped, and put the outcomes together.

    Args:
        config: the run whose dictionaries are ranked.
        out: the folder; None: runs/sensitivity-HASH here.

    Raises UserError as a run does, with the member's name.
    """
    members = _members(config, choices)
    path = out or f"runs/sensitivity-{_digest(members)}"
    placed = {name: _placed(one, f"{path}/{name}") for name, one in members.items()}
    folder = suite.run(Suite(path, placed, None), report)
    multiverse = reporting.multiverse(folder, [(name, *_parts(name)) for name in placed])
    reporting.write(folder.path, multiverse, config.runtime.pictures)
    return folder, multiverse


def verify_curve(folder: SuiteFolder) -> list[verify.Check]:
    """Compare what is written of the specifications with what the members give; nothing of another suite's folder."""
    if not (folder.path / reporting.SPECIFICATIONS).is_file():
        return []
    every = reporting.multiverse(folder, [(name, *_parts(name)) for name in folder.runs])
    return [verify.table_check(folder.path, name, text) for name, text in reporting.texts(every).items()]


def _members(config: Config, choices: Choices) -> dict[str, Config]:
    """Return every member's config by its name; of two that are the same run only the first."""
    members: dict[str, Config] = {}
    seen: list[dict[str, Any]] = []
    for protocol in (OWN, *choices.protocols):
        for factor in choices.records:
            made = _member(config, protocol, factor, choices.lengths)
            if made.identity_fields() not in seen:
                members[f"{protocol}-{factor:g}x"] = made
                seen.append(made.identity_fields())
    return members


def _parts(name: str) -> tuple[str, str]:
    protocol, _, factor = name.rpartition("-")
    return protocol, factor


def _member(config: Config, protocol: str, factor: float, lengths: Sequence[str]) -> Config:
    settings = {} if protocol == OWN else _method_of(protocol, config)
    under = configs.build(config.model_dump(mode="json"), settings, protocol)
    changes = {
        "explainers": list(lengths),
        "simulator": "rules",
        "judge": None,
        "scorers": [_offline(under)],
        "controls": 0,
        "control_kinds": ["mismatched"],
        "sampling.effects": 0,
        "sampling.explain": _scaled(under.sampling.explain, factor),
        "sampling.score": _scaled(under.sampling.score, factor),
        "stopping.until_resolved": False,
        "peer_faults": [name for name in under.peer_faults if name not in OF_MEANS],
    }
    return configs.build(under.model_dump(mode="json"), changes, protocol)


def _method_of(protocol: str, config: Config) -> dict[str, Any]:
    """Return a preset's settings without what it measures; its fragments fit into the run's context."""
    settings = presets.load(protocol).settings
    context = config.corpus.context
    fragment = settings.get("sampling.fragment", config.sampling.fragment)
    fits = max(length for length in range(1, context + 1) if context % length == 0 and length <= fragment)
    kept = {name: value for name, value in settings.items() if name.split(".")[0] not in KEPT and name not in SIZE}
    return kept | {"sampling.fragment": fits}


def _offline(config: Config) -> str:
    """Return the first scorer that rules can answer."""
    needs = {name: SCORERS.get(name).needs for name in config.scorers}
    answered = [name for name, need in needs.items() if (need.simulator or need.judge) and not need.effects]
    return answered[0] if answered else "simulation"


def _scaled(records: Records, factor: float) -> dict[str, Any]:
    """Return the records of a side with all numbers multiplied, none of them to 0."""
    values: Mapping[str, Any] = records.model_dump(mode="json")
    counts = {name: max(1, round(values[name] * factor)) for name in COUNTS if values.get(name)}
    return {**values, **counts}


def _placed(config: Config, out: str) -> Config:
    runtime = {"out": out, "site": False, "pictures": (), "max_cost": None, "batch": False}
    return config.model_copy(update={"runtime": config.runtime.model_copy(update=runtime)})


def _digest(members: Mapping[str, Config]) -> str:
    fields = {name: one.model_dump(mode="json", exclude={"runtime", "name"}) for name, one in members.items()}
    return sha256_of([json.dumps(fields, sort_keys=True).encode()])[:8]


def choices_of(config: Config, protocols: Sequence[str], lengths: Sequence[str], records: Sequence[str]) -> Choices:
    """Read the choices as a user writes them; the run's own explainer comes first if it is among the lengths.

    Raises UserError for a factor that is no number above 0, and an explainer that asks a language model.
    """
    factors = tuple(_factor(text) for text in records or ("",))  # no factor is no number, either
    for name in lengths:
        if specs.is_spec(name):
            raise UserError(f"sensitivity is offline, and {name} is a language model; write rules-1,rules-5,rules-10")
        explainers.make(name, config.model_copy(update={"simulator": "rules"}))
    own = config.explainers[0]
    ordered = sorted(dict.fromkeys(lengths), key=lambda name: name != own)
    by_nearness = sorted(dict.fromkeys(factors), key=lambda factor: factor != 1)
    return Choices(tuple(dict.fromkeys(protocols)), tuple(ordered), tuple(by_nearness))


def _factor(text: str) -> float:
    try:
        factor = float(text)
    except ValueError:
        factor = 0.0
    if not 0 < factor < 1000:
        raise UserError(f"--records {text}: write factors of the numbers of records, such as 0.5,1,2")
    return factor
