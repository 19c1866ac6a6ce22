"""Lists of a run's features and of the runs of a folder, from results made by hand."""

from dataclasses import replace
from pathlib import Path

import pyarrow
import pyarrow.parquet as parquet
import pytest

from autointerp.records import Explanation, FeatureId, FeatureResult, Status
from autointerp.reporting.lists import Selection, feature_list, run_list
from autointerp.store import RunFolder
from sae.common.errors import UserError
from sae.common.files import LOCK, alone
from tests.autointerp.reporting.rows import simulated

SCORES: dict[tuple[str, int], tuple[float | None, Status]] = {
    ("sae", 3): (0.5, "ok"), ("sae", 1): (None, "undefined"), ("sae", 2): (0.0, "failed"), ("sae", 0): (-0.1, "ok"),
    ("pca", 7): (0.9, "ok"), ("pca", 4): (0.2, "ok"),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run of two explainers; the second's scores are the first's, negated; density falls with the number."""
    folder = RunFolder(tmp_path)
    results = [
        FeatureResult(FeatureId(*name), "rules-5", status, Explanation("on e", "p", "m"), (), {"s": score})
        for name, (score, status) in SCORES.items()
    ]
    negated = [replace(result, explainer="other", scores={"s": -(result.scores["s"] or 0.0)}) for result in results]
    folder.write_results([*results, *negated])
    names, numbers = zip(*SCORES, strict=True)
    table = {"dictionary": names, "feature": numbers, "density": [1 / (1 + number) for number in numbers]}
    parquet.write_table(pyarrow.table(table), tmp_path / "features.parquet")
    return folder


LISTED = {
    "all": (Selection(), "sae/3 sae/2 sae/0 sae/1 pca/7 pca/4"),
    "best": (Selection(sort="best"), "pca/7 sae/3 pca/4 sae/2 sae/0 sae/1"),
    "worst": (Selection(sort="worst"), "sae/0 sae/2 pca/4 sae/3 pca/7 sae/1"),
    "number": (Selection(sort="feature"), "sae/0 sae/1 sae/2 sae/3 pca/4 pca/7"),
    "density": (Selection(sort="density"), "sae/0 sae/1 sae/2 sae/3 pca/4 pca/7"),
    "three": (Selection(sort="worst", limit=3), "sae/0 sae/2 pca/4"),
    "a dictionary": (Selection(dictionaries=["pca"]), "pca/7 pca/4"),
    "below": (Selection(below=0.2), "sae/2 sae/0"),
    "status": (Selection(statuses=["failed", "undefined"]), "sae/2 sae/1"),
    "another explainer": (Selection(explainer="other", sort="best", limit=2), "sae/0 sae/1"),
    "none": (Selection(below=-1.0), ""),
}


@pytest.mark.parametrize("case", LISTED)
def test_features_are_selected_and_sorted(case: str, folder: RunFolder) -> None:
    selection, expected = LISTED[case]
    table = feature_list(folder, selection)
    assert " ".join(row[0] for row in table.rows) == expected
    n = len(expected.split())
    assert table.title.endswith("score: s." if n == 6 else f"score: s. {n} of 6 features.")


def test_no_other_score_stands_for_a_main_one_that_is_an_error(folder: RunFolder) -> None:
    """Such as detection's, where the simulator gave no answer."""
    first, *others = folder.results()
    folder.write_results([replace(first, status="error", scores={"other": 0.9}, errors={"s": "no answer"}), *others])
    table = feature_list(folder, Selection(sort="best"))
    assert table.title == "Explainer rules-5; score: s."
    assert ("sae/3", "-", "error") in [tuple(row[:3]) for row in table.rows[-2:]]
    assert not feature_list(folder, Selection(below=1.0, statuses=["error"])).rows


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (Selection(dictionaries=["pcs"]), "no dictionary 'pcs'; did you mean pca"),
        (Selection(explainer="rules"), "no explainer 'rules'; did you mean rules-5"),
    ],
)
def test_what_the_run_lacks_is_named(selection: Selection, message: str, folder: RunFolder) -> None:
    with pytest.raises(UserError, match=message):
        feature_list(folder, selection)


def begin(path: Path, status: str) -> RunFolder:
    path.mkdir(parents=True)
    config = {"subject": {"model": "toy"}, "corpus": {"source": "stdlib"}, "explainers": ["rules-5", "token-table"]}
    folder = RunFolder(path)
    folder.begin({"status": status, "config": config, "dictionaries": [{"n_sampled": 3}, {"n_sampled": 4}]})
    return folder


def test_runs_are_listed_with_state_and_means(tmp_path: Path, folder: RunFolder) -> None:
    done = begin(tmp_path / "runs" / "a", "complete")
    done.write_json("leaderboard.json", [row for name in "vwxyz" for row in simulated(name)])
    stopped = begin(tmp_path / "runs" / "b", "scoring")
    stopped.write_results(list(folder.results())[:5])
    (stopped.path / LOCK).touch()  # a killed process leaves it behind
    running = begin(tmp_path / "c", "scoring")
    (tmp_path / "runs" / "d").mkdir()
    (tmp_path / "runs" / "d" / "run.json").write_text("{")
    begin(tmp_path / "much" / "too" / "deep" / "e", "scoring")
    with alone(running.path):
        rows = {Path(row[0]).name: row[1:] for row in run_list(tmp_path).rows}
    method = ("toy", "stdlib", "rules-5")
    means = "v 0.50, w 0.50, x 0.50, y 0.50, ..."
    assert rows.pop("d")[0].startswith("cannot be read: is not a run folder")
    assert rows == {
        "a": ("complete", *method, "simulation/population", means),
        "b": ("stopped, 5 of 14 results", *method, "-", "-"),
        "c": ("running, 0 of 14 results", *method, "-", "-"),
    }


def test_a_folder_without_runs(tmp_path: Path) -> None:
    assert run_list(tmp_path).rows == []
    with pytest.raises(UserError, match="is not a folder"):
        run_list(tmp_path / "absent")
