"""What a dry run says that other settings would save, against whole estimates with these settings."""

from pathlib import Path
from typing import Any

import pytest

import autointerp as package
from autointerp import config as configs
from autointerp.runs.savings import CHEAPEST, MOST, savings
from autointerp.store import RunFolder
from sae.common.progress import Silent

MODELS = {"explainers": ["anthropic/claude-haiku-4-5"], "simulator": "openai/gpt-4o-mini"}
SMALL = MODELS | {"control_kinds": ["mismatched"], "sampling.features": 2, "scorers": ["simulation", "detection"]}


def saved(smoke: Path, **changes: Any) -> dict[str, float]:
    """The savings by flags, over some features of the smoke run."""
    config = configs.load("smoke", SMALL | changes)
    return {saving.flags: saving.share for saving in savings(config, RunFolder(smoke).read_features()[::12])}


def usd(changes: dict[str, Any], out: Path) -> float:
    stages = package.api.estimate("smoke", SMALL | changes, out, Silent).stages
    return sum(stage.usage.cost_usd or 0.0 for stage in stages)


def test_the_three_largest_savings_are_named(smoke: Path) -> None:
    given = saved(smoke)
    assert len(given) == MOST
    assert list(given.values()) == sorted(given.values(), reverse=True)
    assert given["--batch"] == pytest.approx(0.5)


@pytest.mark.slow
def test_savings_are_the_differences_of_whole_estimates(smoke: Path, tmp_path: Path) -> None:
    """Of a run whose features are all among those that are rendered again."""
    estimate = package.api.estimate("smoke", SMALL, tmp_path / "now", Silent)
    now = sum(stage.usage.cost_usd or 0.0 for stage in estimate.stages)
    assert estimate.features == 12
    assert len(estimate.savings) == MOST
    flags = {
        "--batch": {"runtime.batch": True},
        "--set controls=0.2": {"controls": 0.2},
        "--set simulation.method=text": {"simulation.method": "text"},
        "--set detection.texts=20": {"detection.texts": 20},
        "--explainer anthropic/claude-haiku-5-5 --simulator openai/gpt-6-luna": {
            "explainers": ["anthropic/claude-haiku-5-5"], "simulator": "openai/gpt-6-luna",
        },
    }  # fmt: skip
    for number, saving in enumerate(estimate.savings):
        then = usd(flags[saving.flags], tmp_path / str(number))
        assert saving.share == pytest.approx(1 - then / now, rel=1e-6)
    shares = [saving.share for saving in estimate.savings]
    assert shares == sorted(shares, reverse=True)


def test_what_is_in_force_is_not_proposed(smoke: Path) -> None:
    cheapest = {"explainers": [CHEAPEST["anthropic"]], "simulator": CHEAPEST["anthropic"]}
    given = saved(smoke, **cheapest, **{"runtime.batch": True, "controls": 0.1, "detection.texts": 20})
    assert not given
    assert "--batch" not in saved(smoke, **{"runtime.batch": True})


def test_no_price_no_savings(smoke: Path) -> None:
    unknown = {"explainers": ["openai/unheard-of"], "simulator": "openai/unheard-of"}
    assert saved(smoke, **unknown) == {}
