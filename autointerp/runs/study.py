"""Does a study: one run of the studied dictionary and the neurons beside it, then each part, kept as it is finished."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from autointerp.config import Config
from autointerp.runs import identity, pipeline
from autointerp.runs.plan import Plan, make_plan
from autointerp.store import RunFolder, as_json
from autointerp.studies import NEURONS, STUDIES, NotApplicable, Session, Study
from sae.common.errors import UserError
from sae.common.files import alone, sha256_of, write_atomic
from sae.common.progress import Report
from sae.common.resources import path_of
from sae.common.settings import cache_folder

SCORERS = ("simulation", "logits", "effect")
EFFECTS = 3
"""Records of each kind on which a feature is ablated, unless the config says."""
OFFLINE_FEATURES = 2_048
"""Features that are studied where nobody says and no language model is asked: all of the demo's dictionary."""
RUN = "run"
"""The folder of the study's run, in the study's."""


def study(config: Config, names: Sequence[str], n_features: int | None, out: Path | None, report: Report) -> Path:
    """Do parts of a study, or continue it where it stopped; write study.json, study.md, pictures; return the folder.

    Args:
        config: as `autointerp run` takes it; its baselines, scorers and all explainers but the first are replaced.
        names: parts; empty: all.
        n_features: features of each dictionary; None: all (without language models), else the config's number.
        out: the folder; None: runs/study-IDENTITY here.
        report: makes a progress display from a title.

    Raises UserError for an unknown part, a config without a trained dictionary, and whatever a run raises.
    """
    parts = [STUDIES.get(name)() for name in dict.fromkeys(names or STUDIES.names)]
    plan = make_plan(_as_studied(config, n_features))
    folder = out or path_of(f"runs/study-{plan.identity[:8]}")
    with alone(folder):
        runtime = plan.config.runtime.model_copy(update={"out": str(folder / RUN)})
        plan = replace(plan, config=plan.config.model_copy(update={"runtime": runtime}))
        run = pipeline.run(plan.config, report)
        session = _session(plan, run, report)
        done = {part.name: _done(part, session, folder) for part in parts}
        _write_report(folder, session, done, config.runtime.pictures)
    return folder


def _session(plan: Plan, run: RunFolder, report: Report) -> Session:
    """Study the run's first dictionary, beside the neurons at its hook point."""
    first, *others = run.about["dictionaries"]
    here = [one["name"] for one in others if (one["kind"], one["hook_point"]) == (NEURONS, first["hook_point"])]
    return Session(plan, run, first["name"], (*here, "")[0], cache_folder("autointerp"), report)


def _as_studied(config: Config, n_features: int | None) -> Config:
    """Return the config of the study's run. Raises UserError if it names no dictionary but baselines."""
    if not config.dictionaries.load and not config.dictionaries.train:
        raise UserError("nothing to study: the config has baselines only; give --dictionary PATH")
    sampling, runtime = config.sampling, {"site": False, "pictures": ()}
    is_offline = {config.explainers[0].partition("-")[0], config.simulator, config.judge} <= {"rules", None}
    features = n_features or (OFFLINE_FEATURES if is_offline else sampling.features)
    changed = {"features": features, "effects": sampling.effects or EFFECTS}
    dictionaries = config.dictionaries.model_copy(update={"baselines": (NEURONS,)})
    return config.model_copy(
        update={
            "name": "study",
            "explainers": config.explainers[:1],
            "scorers": SCORERS,
            "control_kinds": ("mismatched",),
            "dictionaries": dictionaries,
            "sampling": sampling.model_copy(update=changed),
            "runtime": config.runtime.model_copy(update=runtime),
        }
    )


def _done(part: Study, session: Session, folder: Path) -> dict[str, Any]:
    """Return what a part measured, now or before; or why it means nothing here."""
    path = folder / "parts" / f"{part.name}.json"
    key = sha256_of([json.dumps([session.plan.identity, part.name, part.version]).encode()])
    kept = _kept(path)
    if kept.get("key") == key:
        return dict(kept["outcome"])
    try:
        outcome: dict[str, Any] = {"measured": part.measure(session)}
    except NotApplicable as reason:
        outcome = {"reason": str(reason)}
    path.parent.mkdir(exist_ok=True)
    write_atomic(path, as_json({"key": key, "outcome": outcome}))
    return dict(json.loads(path.read_text("utf-8"))["outcome"])  # as it is read when the study is continued


def _kept(path: Path) -> dict[str, Any]:
    """Return what is kept of a part; nothing if it is not there or damaged, and then it is measured again."""
    try:
        kept = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return kept if isinstance(kept, dict) and {"key", "outcome"} <= set(kept) else {}


def _write_report(
    folder: Path, session: Session, done: Mapping[str, Mapping[str, Any]], formats: Sequence[str]
) -> None:
    """Write study.json, study.md and the pictures of all parts: those of this call, and those that were done before."""
    from autointerp.reporting import study_pictures
    from autointerp.reporting.study import to_json, to_text

    outcomes = dict(done)
    for name in STUDIES.names:
        part = STUDIES.get(name)()
        path = folder / "parts" / f"{name}.json"
        if name not in outcomes and path.is_file():
            outcomes[name] = _done(part, session, folder)
    about = _about(session.plan, session.dictionary)
    outcomes = {name: outcomes.get(name, {}) for name in STUDIES.names}
    study_pictures.write(folder, outcomes, formats)
    values = to_json(about, outcomes, study_pictures.linked(outcomes, formats))
    write_atomic(folder / "study.json", as_json(values))
    write_atomic(folder / "study.md", to_text(values))


def _about(plan: Plan, dictionary: str) -> dict[str, Any]:
    config = plan.config
    return {
        "identity": plan.identity,
        "model": str(config.subject.model),
        "corpus": str(config.corpus.source),
        "dictionary": dictionary,
        "explainer": config.explainers[0],
        "simulator": config.simulator,
        "judge": config.judge or config.simulator,
        "seed": config.seed,
        "versions": {name: identity.version_of(name) for name in ("autointerp", "torch", "transformer-lens")},
    }
