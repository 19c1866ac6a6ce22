"""Calibrates the harness: runs it on planted truth, and compares what it says with what is so."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from autointerp import config as configs
from autointerp import simulators
from autointerp.calibration.attacks import attack
from autointerp.calibration.catalogue import Catalogue
from autointerp.calibration.concepts import EXACT, FAMILIES
from autointerp.calibration.harness import Harness, available_scorers, opened
from autointerp.calibration.language import LENGTH, generate
from autointerp.calibration.marks import Evidence, all_marks
from autointerp.calibration.measure import ALL_TOKENS, Grid, Row, Session, make_session, measure
from autointerp.calibration.report import Calibration
from autointerp.calibration.trained import Trained, train_and_measure
from autointerp.config import Config
from sae.common.progress import Progress, Report


@dataclass(frozen=True)
class Size:
    """Says how much is planted."""

    tokens: int
    grid: Grid
    attacked: Grid
    """The features whose labels are attacked."""
    trained_tokens: int
    """Tokens of the text that a dictionary is trained and measured on; 0: none is."""


FULL = Size(
    tokens=640_000,
    grid=Grid(FAMILIES, (1e-4, 1e-3, 1e-2, 1e-1), (0.0, 0.1, 0.3, 0.5, 0.7, 0.9), (1.0, 0.3), 2),
    attacked=Grid(EXACT, (1e-3, 1e-2), (0.0, 0.3), (1.0,), 3),
    trained_tokens=80_000,
)
QUICK = Size(
    tokens=120_000,
    grid=Grid(FAMILIES, (1e-2,), (0.0, 0.3, 0.7), (1.0,), 2),
    attacked=Grid(EXACT, (1e-2,), (0.0,), (1.0,), 2),
    trained_tokens=0,
)
"""For models that cost money, and to look at the output in seconds."""


MOST_TOKENS = 10**9
"""No limit to the population: scores over all tokens are exact."""


def config_for(
    explainer: str,
    simulator: str,
    judge: str | None,
    seed: int,
    max_cost: float | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Config:
    """Make the config of a calibration: the records of `autointerp run --dictionary`, every scorer that works.

    Args:
        changes: further settings, such as {"simulation.format": "lines"}.

    Raises:
        UserError: an unknown explainer, simulator, judge or setting.
    """
    own: dict[str, Any] = {
        "seed": seed,
        "sampling.fragment": LENGTH,
        "sampling.population": MOST_TOKENS,
        "sampling.score.quantile": 5,
        "sampling.score.inactive": 10,
        "explainers": [explainer],
        "simulator": simulator,
        "runtime.batch_blocks": 1024,
        "runtime.max_cost": max_cost,
    } | ({} if judge is None else {"judge": judge})
    config = configs.load("dictionary", own | dict(changes or {}))
    simulators.part_of(config)  # an unknown one would only leave scorers out
    scorers = list(available_scorers(config))
    return configs.build(config.model_dump(), {"scorers": scorers}, "calibrate")


def calibrate(config: Config, size: Size = FULL, report: Report = Progress) -> Calibration:
    """Plant features, measure them, attack their labels, train a dictionary, and judge every score by its marks.

    Raises UserError for missing keys and unknown models.
    """
    started = time.monotonic()
    text = generate(size.tokens, config.seed)
    with opened(config, report) as harness:
        session = make_session(text, harness, config, report)
        catalogue = Catalogue(text, config.seed)
        rows = tuple(measure(session, size.grid.plant(catalogue), config.seed))
        attacked = tuple(attack(session, size.attacked.plant(catalogue), catalogue, config.seed))
        trained = train_and_measure(session, size.trained_tokens) if size.trained_tokens else Trained()
    scores = (*(name for name in harness.compared_scores if _is_defined(name, rows)), ALL_TOKENS)
    evidence = Evidence(rows, attacked, trained.features, harness.method.chances)
    return Calibration(
        about=_about(session, config, harness, time.monotonic() - started),
        main=harness.main,
        scores=scores,
        rows=rows,
        attacked=attacked,
        trained=trained.features,
        coverage=trained.coverage,
        agreement=trained.agreement,
        marks=tuple(all_marks(evidence, scores)),
    )


def _is_defined(score: str, rows: Iterable[Row]) -> bool:
    """Tell whether some feature has this score: planted ones have no output that `logits` could be about."""
    return any(row.harness.get(score) is not None for row in rows)


def _about(session: Session, config: Config, harness: Harness, seconds: float) -> dict[str, Any]:
    return {
        "explainer": config.explainers[0],
        "simulator": config.simulator,
        "judge": config.judge,
        "scorers": list(config.scorers),
        "seed": config.seed,
        "tokens": int(session.text.ids_ML.size),
        "seconds": round(seconds, 1),
        "config": config.model_dump(mode="json", exclude={"runtime"}),
    }
