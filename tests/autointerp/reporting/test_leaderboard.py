"""Leaderboard rows from results made by hand, and the rows of several runs in one table."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas
import pytest
from scipy import stats

from autointerp.llm.types import LLMTask
from autointerp.records import Control, Explanation, FeatureId, FeatureRecord, FeatureResult
from autointerp.reporting import leaderboard, merging, tables
from autointerp.reporting.dependence import INDEPENDENT, Dependence
from autointerp.reporting.leaderboard import COLUMNS
from autointerp.reporting.merging import MERGED_COLUMNS
from autointerp.scorers import SCORERS, Scored, Scorer
from autointerp.store import SCHEMA_VERSION, RunFolder
from sae.common.errors import UserError
from tests.autointerp.reporting.rows import simulated
from tests.conftest import autointerp

JUDGE, SIMULATOR = "anthropic/judge", "openai/simulator"
SUMMARY = {"kind": "sae", "hook_point": "blocks.0.mlp.hook_post", "l0": 8.0, "fvu": 0.2}


def about(**config: Any) -> dict[str, Any]:
    return {"dictionaries": [SUMMARY | {"name": "d"}], "config": {"simulator": SIMULATOR} | config}


def result(index: int, scores: dict[str, float | None], **values: Any) -> FeatureResult:
    return FeatureResult(FeatureId("d", index), "rules-5", "ok", Explanation("e", "p", "m"), (), scores, **values)


def rows(described: dict[str, Any], results: list[FeatureResult], *scores: str) -> dict[str, dict[str, Any]]:
    made = leaderboard.make_rows(described, {"d": [0.1, 0.9, 0.2]}, results, dict.fromkeys(scores, 0.5))
    return {row["scorer"]: row for row in made}


def test_a_row_has_the_contracts_columns_and_counts() -> None:
    results = [
        result(0, {"detection": 0.9}, controls=known(0.5, 0.6), usage={"cost_usd": 0.25, "tokens_in": 3}),
        result(1, {"detection": 0.7}, controls=known(None, 0.2)),
        result(2, {"detection": None}),
        result(3, {}, errors={"detection": "no answer"}),
        result(4, {"detection": 0.0}, controls={"mismatched": Control({"detection": 0.0}, {}, ("detection",))},
               failed=("detection",)),
    ]  # fmt: skip
    (row,) = rows(about(), results, "detection").values()
    assert tuple(row) == COLUMNS
    assert (row["n_ok"], row["n_undefined"], row["n_failed"], row["n_error"]) == (2, 1, 1, 1)
    assert (row["n_control"], row["n_control_undefined"], row["n_control_failed"]) == (2, 1, 1)
    assert (row["mean"], row["mean_undefined_as_zero"]) == (pytest.approx(1.6 / 3), pytest.approx(1.6 / 4))
    assert (row["control_mean"], row["density_median"], row["cost_usd"], row["tokens_in"]) == (0.25, 0.2, 0.25, 3)
    assert row["se_features"] == pytest.approx(stats.sem([0.9, 0.7, 0.0]))
    (unpriced,) = rows(about(), [*results, result(5, {}, usage={"cost_usd": None})], "detection").values()
    assert unpriced["cost_usd"] is None


def test_a_chance_level_is_the_mean_over_the_features_that_have_the_score() -> None:
    results = [result(index, {"detection": value}) for index, value in enumerate([1.0, 0.8, None])]
    own = {FeatureId("d", 0): {"detection": 0.9}, FeatureId("d", 2): {"detection": 0.1}}
    (row,) = leaderboard.make_rows(about(), {"d": [0.1]}, results, {"detection": 0.5}, Dependence(chances=own))
    assert row["chance"] == pytest.approx(0.7)


def known(mismatched: float | None, permuted: float) -> dict[str, Control]:
    return {"mismatched": Control({"detection": mismatched}), "permuted": Control({"detection": permuted})}


def test_the_lead_is_over_the_best_control_feature_by_feature() -> None:
    """Against scipy's paired interval, to which ours comes down where the differences are symmetric."""
    own, permuted = [0.9, 0.7, 0.8], [0.6, 0.2, 0.4]
    results = [
        result(i, {"detection": a}, controls=known(0.1, b)) for i, (a, b) in enumerate(zip(own, permuted, strict=True))
    ]
    (row,) = rows(about(), results, "detection").values()
    assert (row["best_control"], row["permuted_mean"]) == ("permuted", pytest.approx(1.2 / 3))
    interval = stats.ttest_rel(own, permuted).confidence_interval(0.95)
    assert (row["lead_low"], row["lead_high"]) == (pytest.approx(interval.low), pytest.approx(interval.high))
    swapped = [
        result(i, {"detection": a}, controls=known(0.1, b)) for i, (a, b) in enumerate(zip(permuted, own, strict=True))
    ]
    (behind,) = rows(about(), swapped, "detection").values()
    assert (behind["lead_low"], behind["lead_high"]) == (pytest.approx(-interval.high), pytest.approx(-interval.low))


def test_dictionaries_share_a_letter_unless_they_differ_after_the_adjustment_for_all_pairs() -> None:
    compared = [
        {"dictionary": "a", "against": "b", "p": 0.03, "p_holm": 0.06},
        {"dictionary": "a", "against": "c", "p": 0.01, "p_holm": 0.03},
        {"dictionary": "b", "against": "c", "p": 0.02, "p_holm": 0.06},
    ]
    assert leaderboard.ranks_of(compared) == {"a": "a", "b": "ab", "c": "b"}


def test_features_of_unknown_directions_are_paired_with_none() -> None:
    """As in the pages of an unfinished run. The scores are symmetric, so that the p-value is that of Welch's test."""
    own, other = [0.2, 0.3, 0.7, 0.8], [0.19, 0.31, 0.69, 0.81]
    results = [result(index, {"detection": value}) for index, value in enumerate(own)]
    results += [replace(one, feature=FeatureId("e", one.feature.index), scores={"detection": value + 0.1})
                for one, value in zip(results, other, strict=True)]  # fmt: skip
    (row,) = leaderboard.make_comparisons(results, "detection", INDEPENDENT)
    assert (row["dictionary"], row["against"], row["n_matched"]) == ("e", "d", 0)
    assert row["p"] == pytest.approx(stats.ttest_ind(own, [value + 0.1 for value in other], equal_var=False).pvalue)


class Plugin(Scorer):
    """A scorer whose range is not known."""

    name = "plugin"

    def score(self, feature: FeatureRecord, explanation: Explanation) -> LLMTask[Scored]:
        raise AssertionError("its scores are made up below")


def test_intervals_stay_within_the_scores_range_and_a_plugins_are_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCORERS._parts, "plugin", Plugin)
    results = [
        result(index, dict.fromkeys(("simulation/top", "intruder", "plugin"), value))
        for index, value in enumerate((0.99, 0.1))
    ]
    made = rows(about(), results, "simulation/top", "intruder", "plugin")
    ends = {name: (row["ci_low"], row["ci_high"]) for name, row in made.items()}
    assert (ends["simulation/top"], ends["intruder"]) == ((-1.0, 1.0), (0.0, 1.0))
    assert ends["plugin"][1] > 1
    near_chance = [result(i, dict.fromkeys(("detection", "plugin"), 0.5 + 0.04 * (i % 2))) for i in range(10)]
    made = rows(about(), near_chance, "detection", "plugin")
    above, below = ([abs(row[end] - row["mean"]) for row in made.values()] for end in ("ci_high", "ci_low"))
    assert above[0] > 1.05 * below[0], "between chance and 1 the score is skewed, though the sample is not"
    assert above[1] == pytest.approx(below[1])


@pytest.mark.parametrize(
    ("config", "judge"),
    [({}, SIMULATOR), ({"judge": None}, SIMULATOR), ({"judge": JUDGE}, JUDGE), ({"simulator": "rules"}, "rules")],
)
def test_a_row_names_the_models_that_its_scorer_asks(config: dict[str, Any], judge: str | None) -> None:
    scores = ("simulation/top", "detection/f1", "intruder", "embedding")
    made = rows(about(**config), [result(0, dict.fromkeys(scores, 0.5))], *scores)
    simulator = config.get("simulator", SIMULATOR)
    models = {name: (row["simulator"], row["judge"]) for name, row in made.items()}
    assert models == {
        "simulation/top": (simulator, None),
        "detection/f1": (None, judge),
        "intruder": (None, judge),
        "embedding": (None, None),
    }


def run_folder(path: Path, rows: list[dict[str, Any]], model: str = "toy", status: str = "complete") -> Path:
    config = {"subject": {"model": model}, "corpus": {"source": f"{model}.txt"}}
    RunFolder(path).begin({"status": status, "config": config})
    RunFolder(path).write_json("leaderboard.json", rows)
    return path


def test_one_run_is_merged_into_its_own_rows(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "a", simulated("sae"))
    assert merging.merge([run, tmp_path / "." / "a"]) == simulated("sae")


def test_rows_of_several_runs_name_run_model_and_corpus(tmp_path: Path) -> None:
    runs = [run_folder(tmp_path / name, simulated(name), f"model-{name}") for name in "ab"]
    done = autointerp("leaderboard", *runs, "--csv", "all.csv", "--markdown", "all.md", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["dictionary", "model", "corpus", "population"] in [line[:4] for line in lines]
    for name in "ab":
        assert [f"{name}:{name}", f"model-{name}", f"model-{name}.txt", "0.50"] in [line[:4] for line in lines]
        assert f"| {name}:{name}" in (tmp_path / "all.md").read_text()
    table = pandas.read_csv(tmp_path / "all.csv")
    assert tuple(table.columns) == MERGED_COLUMNS
    assert list(table.dictionary) == ["a:a"] * 4 + ["b:b"] * 4
    assert (tmp_path / "all.csv").read_text().splitlines()[1].startswith("a:a,a,blocks.0.mlp.hook_post,model-a,")


def test_runs_of_one_name_are_told_apart_by_their_paths(tmp_path: Path) -> None:
    runs = [run_folder(tmp_path / folder / "run", simulated("pca")) for folder in "ab"]
    assert {row["dictionary"] for row in merging.merge(runs)} == {f"{run}:pca" for run in runs}


def test_the_main_explainers_come_first_and_a_missing_score_is_a_dash(tmp_path: Path) -> None:
    both = [*simulated("sae"), *simulated("sae", explainer="token-table")]
    runs = [run_folder(tmp_path / "a", both), run_folder(tmp_path / "b", simulated("sae"))]
    merged = merging.merge(runs)
    assert [row["explainer"] for row in merged] == ["rules-5"] * 8 + ["token-table"] * 4
    by_explainer = tables.all_tables(merged, [])[-1]
    assert [list(line) for line in by_explainer.rows][1] == ["b:sae", "0.50 [0.40, 0.60]", "-"]


def test_an_unfinished_run_and_an_old_one_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not finished"):
        merging.merge([run_folder(tmp_path / "a", [], status="scoring")])
    old = run_folder(tmp_path / "b", simulated("sae"))
    (old / "run.json").write_text(json.dumps(json.loads((old / "run.json").read_text()) | {"schema_version": 3}))
    done = autointerp("leaderboard", old, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"has schema 3, but this version reads {SCHEMA_VERSION}" in done.stderr
