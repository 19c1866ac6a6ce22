"""A run's dictionaries as they come in: what cannot be measured is refused, what differs is not taken for the same."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import autointerp
from sae import formats
from sae.common.errors import UserError
from sae.dictionary import JumpReLU


def settings(planted: Path, dictionary: Path, out: Path) -> dict[str, object]:
    return {
        "dictionaries.load": [str(dictionary)],
        "dictionaries.baselines": ["random_matched"],
        "corpus.source": str(planted / "corpus.jsonl"),
        "corpus.context": 32,
        "corpus.held_out": 0.5,
        "sampling.fragment": 16,
        "runtime.out": str(out),
        "runtime.pictures": [],
        "runtime.site": False,
    }


def test_a_threshold_that_is_not_finite_is_refused(planted: Path, tmp_path: Path) -> None:
    words = formats.load(planted / "dictionary")
    formats.save(replace(words, activation=JumpReLU(torch.full((8,), torch.nan))), tmp_path / "broken")
    with pytest.raises(UserError, match=r"dictionary words holds weights that are not finite \(threshold_F\)"):
        autointerp.run("dictionary", settings(planted, tmp_path / "broken", tmp_path / "run"))


def test_one_that_does_not_fit_is_named_in_one_line(
    planted: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    words = formats.load(planted / "dictionary")
    far = replace(words, name="far", b_dec_D=torch.full((16,), 50.0), subtract_b_dec=False)
    formats.save(far, tmp_path / "far")
    few = {"dictionaries.baselines": [], "sampling.features": 2}
    autointerp.run("dictionary", settings(planted, tmp_path / "far", tmp_path / "run") | few)
    (line,) = (record.getMessage() for record in caplog.records if "does not fit" in record.getMessage())
    assert line.startswith("far does not fit these activations: FVU ")
    assert line.endswith(f"to try each: sae eval {tmp_path / 'far'} --diagnose")


@pytest.mark.slow
def test_random_directions_are_matched_anew_when_only_thresholds_differ(
    planted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights, bias and name are the same; what fires is not."""
    monkeypatch.setenv("AUTOINTERP_CACHE", str(tmp_path / "cache"))
    words = formats.load(planted / "dictionary")
    for number, threshold in enumerate((0.0, 5.5)):
        folder = tmp_path / str(number)
        formats.save(replace(words, activation=JumpReLU(torch.full((8,), threshold))), folder)
        autointerp.run("dictionary", settings(planted, folder, tmp_path / f"run{number}"))
    matched = [formats.load(path) for path in (tmp_path / "cache" / "dictionaries").iterdir() if path.is_dir()]
    assert [each.name for each in matched] == ["random_matched[words]"] * 2
    assert matched[0].metadata["metrics"]["l0"] != matched[1].metadata["metrics"]["l0"]
