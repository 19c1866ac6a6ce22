"""The whole calibration on a small seed: the marks that the rules reach by themselves, files, the ordinary door."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from autointerp.calibration import calibrate, report
from autointerp.calibration.measure import ALL_TOKENS, Grid
from autointerp.calibration.report import Calibration
from autointerp.calibration.trained import measure_agreement
from sae.common.errors import UserError
from sae.common.progress import Silent
from tests.autointerp.llm.conftest import EXPLAINER, KEY, SIMULATOR
from tests.conftest import autointerp
from tests.fakes import FakeApis

CONFIG = calibrate.config_for("rules-5", "rules", None, 0)


def test_any_setting_can_be_calibrated() -> None:
    config = calibrate.config_for("rules-5", "rules", None, 0, changes={"simulation.format": "lines"})
    assert config.model_dump()["simulation"]["format"] == "lines"
    with pytest.raises(UserError, match=r"did you mean simulation\.format"):
        calibrate.config_for("rules-5", "rules", None, 0, changes={"simulation.formt": "lines"})
    with pytest.raises(UserError, match="unknown simulator 'rule'"):
        calibrate.config_for("rules-5", "rule", "rules", 0)


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    grid = replace(calibrate.QUICK.grid, noises=(0.0, 0.5, 0.9), copies=1)
    return calibrate.calibrate(CONFIG, replace(calibrate.QUICK, grid=grid), Silent)


def mark(calibration: Calibration, name: str, score: str) -> report.Mark:
    return next(one for one in calibration.marks if (one.name, one.score) == (name, score))


def test_over_all_tokens_the_score_is_what_it_must_be(calibration: Calibration) -> None:
    for name in (
        "rises with noise", "slope in noise", "mismatched - chance", "position only - chance", "true text, no noise",
        "true text - closed form", "its root mean square error", "false orderings", "the same, true text",
    ):  # fmt: skip
        assert mark(calibration, name, ALL_TOKENS).reached, name
    assert mark(calibration, "planted token named", "explainer").reached


def test_on_the_same_records_the_truth_scores_one_without_noise(calibration: Calibration) -> None:
    assert mark(calibration, "true text, no noise", calibration.main).reached
    without = [row for row in calibration.rows if row.noise == 0 and row.closed_form is not None]
    assert {row.closed_form for row in without} == {1.0}
    assert [row.oracle_all for row in without] == pytest.approx([1.0] * len(without))


def test_the_four_numbers_fall_together_with_noise(calibration: Calibration) -> None:
    means = []
    for noise in (0.0, 0.5, 0.9):
        rows = [row for row in calibration.rows if row.noise == noise and row.closed_form is not None]
        numbers = np.array([report.numbers_of(row, calibration.main)[1:] for row in rows], np.float64)
        means.append(numbers.mean(0))
        assert numbers[:, 2] == pytest.approx(numbers[:, 3], abs=1e-6), "true text on all tokens; closed form"
        assert (numbers[:, 0] <= numbers[:, 2] + 0.02).all(), "no text predicts better than the true one"
    assert (np.diff(means, axis=0) < 0).all()


def test_a_calibration_is_written_as_its_tables_and_rows(calibration: Calibration, tmp_path: Path) -> None:
    report.write(calibration, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "calibration.json", "calibration.md", "noise.png", "orderings.png",
    }  # fmt: skip
    content = json.loads((tmp_path / "calibration.json").read_text("utf-8"))
    assert len(content["cells"]) == len(calibration.rows)
    assert len(content["attacks"]) == len(calibration.attacked)
    assert all({"name", "score", "value", "bound", "reached"} <= set(row) for row in content["summary"])
    text = (tmp_path / "calibration.md").read_text("utf-8")
    assert "false orderings" in text
    assert "mixture of 5" in text
    assert {row["family"] for row in content["cells"]} >= {"token", "set", "pair", "near", "position"}


def test_a_mark_that_is_not_reached_is_shown_as_it_is(calibration: Calibration) -> None:
    changed = replace(calibration, marks=(report.Mark("m", "s", 0.5, 0.4, 0.6, ">= 0.9", False),))
    assert report.summary_table(changed).rows[0] == ["m", ">= 0.9", "0.500 ±0.100 !"]


def test_the_models_records_are_the_labels() -> None:
    """A dictionary on disk, read by the ordinary sampling from a model whose residual stream holds the truth."""
    assert measure_agreement(8_000, CONFIG, Silent) < 1e-5


def test_language_models_are_calibrated_by_the_same_cells(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The fake judge explains by the strongest token and finds it again: its sentences are prose, not rules."""
    grid = Grid(("token",), (1e-2,), (0.0,), (1.0,), 2)
    size = replace(calibrate.QUICK, tokens=20_000, grid=grid, attacked=replace(grid, copies=0))
    with FakeApis(script="tests.autointerp.llm.judge", key=KEY) as server:
        for name, value in {
            "ANTHROPIC_BASE_URL": server.url, "OPENAI_BASE_URL": server.openai_url, "ANTHROPIC_API_KEY": KEY,
            "OPENAI_API_KEY": KEY, "AUTOINTERP_CACHE": str(tmp_path),
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        config = calibrate.config_for(EXPLAINER, SIMULATOR, None, 0, 10.0)
        measured = calibrate.calibrate(config, size, Silent)
    assert {"detection", "fuzzing", "intruder"} <= set(config.scorers)
    assert mark(measured, "planted token named", "explainer").value == 1
    for row in measured.rows:
        assert (row.harness_all, row.sensitivity) == (None, None), "a sentence in prose cannot be applied by rules"
        assert row.harness[measured.main] is not None
        assert row.oracle_all == pytest.approx(1)
        assert row.tokens > 0
    assert "detection" in measured.scores
    assert "intruder" not in measured.scores, "it judges no explanation"


@pytest.mark.slow
def test_the_command_with_a_trained_dictionary(tmp_path: Path) -> None:
    done = autointerp("calibrate", "--out", "c", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "next: autointerp run" in done.stdout
    content = json.loads((tmp_path / "c" / "calibration.json").read_text("utf-8"))
    assert content["agreement"] < 1e-5
    assert len(content["trained"]) > 50
    assert content["coverage"] > 0.3
