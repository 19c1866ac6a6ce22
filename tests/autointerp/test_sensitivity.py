"""What a ranking depends on: specifications against what their runs hold, ranks by hand, an interruption."""

import json
import shutil
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from autointerp import config
from autointerp.config import Config
from autointerp.records import FeatureResult
from autointerp.reporting import sensitivity as reporting
from autointerp.reporting.sensitivity import FAILURES, Multiverse, Specification
from autointerp.runs import sensitivity as runner
from autointerp.runs import suite
from autointerp.statistics.intervals import Interval
from autointerp.store import RunFolder
from autointerp.suite_folder import SuiteFolder
from sae.common.errors import UserError
from sae.common.progress import Silent
from tests.autointerp.test_suites import settings
from tests.conftest import autointerp, make_once

FLAGS = ("--presets", "bills,saebench", "--explainers", "rules-1,rules-2", "--records", "1,0.5")
RECORDS = {"explain": {"top": 4}, "score": {"top": 2, "random": 4}}
SMALL = {
    "sampling": {"features": 3, "fragment": 16, "population": 1000} | RECORDS,
    "control_kinds": ["mismatched", "permuted"],
}


def small(planted: Path) -> Config:
    return config.build(settings(planted) | SMALL, {"runtime.pictures": ["svg"]}, "test")


@pytest.fixture(scope="session")
def done(planted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished multiverse, which was killed in its second member and continued."""

    def make(folder: Path) -> None:
        made, append = small(planted), RunFolder.append
        choices = runner.choices_of(made, ["bills", "saebench"], ["rules-2", "rules-1"], ["0.5", "1"])

        def killed(self: RunFolder, results: Iterable[FeatureResult]) -> None:
            append(self, results)
            if self.path.name == "own-0.5x":
                raise KeyboardInterrupt

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(RunFolder, "append", killed)
            with pytest.raises(KeyboardInterrupt):
                runner.run(made, choices, str(folder / "out"), Silent)
        first = folder / "out" / "own-1x" / "run.json"
        assert SuiteFolder(folder / "out").runs["own-0.5x"].about["status"] == "scoring"
        before = first.stat().st_mtime_ns
        runner.run(made, choices, str(folder / "out"), Silent)
        assert first.stat().st_mtime_ns == before

    return make_once(tmp_path_factory, "sensitivity", make) / "out"


def test_every_combination_is_a_specification_of_what_its_run_holds(done: Path) -> None:
    written = json.loads((done / "sensitivity.json").read_text())
    assert [one["protocol"] for one in written[:12:6]] == ["own", "own"]
    seen = {tuple(one[name] for name in reporting.CHOICES) for one in written}
    assert len(seen) == len(written) == 3 * 2 * 2 * len(FAILURES)
    assert written[0] | {"means": {}} == {
        "protocol": "own", "records": "1x", "explainer": "rules-1", "failures": "failed 0", "means": {},
        "score": "simulation/population", "chance": 0.0,
    }  # fmt: skip
    assert {(one["protocol"], one["score"]) for one in written} == {
        ("own", "simulation/population"), ("bills", "simulation/top_and_random"), ("saebench", "detection/accuracy"),
    }  # fmt: skip
    for one in written:
        board = RunFolder(done / f"{one['protocol']}-{one['records']}").read_leaderboard()
        if one["failures"] == "failed 0":
            rows = [row for row in board if (row["explainer"], row["scorer"]) == (one["explainer"], one["score"])]
            means = {row["dictionary"]: row["mean"] for row in rows if row["mean"] is not None}
            assert {name: mean["mean"] for name, mean in one["means"].items()} == pytest.approx(means)


def test_members_keep_text_and_dictionaries_and_change_what_they_say(done: Path) -> None:
    abouts = {path.parent.name: json.loads(path.read_text()) for path in done.glob("*/run.json")}
    assert len(abouts) == 6
    configs = {name: about["config"] for name, about in abouts.items()}
    for section in ("corpus", "subject", "dictionaries", "seed"):
        assert len({json.dumps(one[section], sort_keys=True) for one in configs.values()}) == 1, section
    assert {name: one["sampling"]["fragment"] for name, one in configs.items() if name.endswith("-1x")} == {
        "own-1x": 16, "bills-1x": 32, "saebench-1x": 16,
    }  # fmt: skip
    halves = configs["saebench-0.5x"]["sampling"]["score"]
    assert (halves["top"], halves["importance"], halves["inactive"]) == (1, 1, 5)
    assert {(one["simulator"], one["controls"], one["sampling"]["features"]) for one in configs.values()} == {
        ("rules", 0, 3)
    }


def test_a_multiverse_is_verified_as_a_suite_and_drawn(done: Path) -> None:
    assert not [check for check in suite.verify_suite(SuiteFolder(done), Silent) if check.differences]
    assert not [check for check in runner.verify_curve(SuiteFolder(done)) if check.differences]
    picture = (done / "pictures" / "sensitivity.svg").read_text("utf-8")
    assert picture.startswith("<?xml")
    assert "specifications" in (done / "sensitivity.md").read_text("utf-8")


def test_a_changed_digit_of_the_curve_is_seen(done: Path, tmp_path: Path) -> None:
    shutil.copytree(done, tmp_path / "out")
    for name in ("sensitivity.json", "sensitivity.md"):
        path = tmp_path / "out" / name
        text = path.read_text("utf-8")
        at = text.rindex("0.") + 2
        path.write_text(text[:at] + str((int(text[at]) + 1) % 10) + text[at + 1 :], "utf-8")
        (only,) = [one for check in runner.verify_curve(SuiteFolder(tmp_path / "out")) for one in check.differences]
        assert only.startswith(f"{name}, line ")
        path.write_text(text, "utf-8")


def specification(protocol: str, chance: float, failures: str = "failed 0", **means: float) -> Specification:
    made = {name: Interval(mean, mean - 0.1, mean + 0.1) for name, mean in means.items()}
    return Specification(protocol, "1x", "rules-1", failures, "simulation/top", chance, made)


def test_ranks_and_orders_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    names = ["a", "b", "c", "d", "e"]
    made = [specification(f"p{i}", 0.0, **dict(zip(names, rng.permutation(5) / 10, strict=True))) for i in range(8)]
    every = Multiverse(tuple(made), dict.fromkeys(names, "sae"))
    for one in made:
        tau = stats.kendalltau(
            *([spec.means[name].mean for name in names] for spec in (every.reference, one))
        ).statistic
        assert every.kept(one) == pytest.approx((tau + 1) / 2)
    ranks, options, pairs = reporting.tables(every)
    for row in ranks.rows:
        values = [stats.rankdata([-one.means[name].mean for name in names])[names.index(row[0])] for one in made]
        assert row[3] == f"{np.median(values):g}"
        assert row[4] == f"{min(values):g} to {max(values):g}"
        assert row[5] == f"{np.mean([value == 1 for value in values]):.0%}"
    assert len([row for row in options.rows if row[0] == "protocol"]) == 8
    kept = [
        all(one.means[a].mean > one.means[b].mean for one in made) for a, b in combinations(every.reference.order, 2)
    ]
    assert pairs.title is not None
    assert pairs.title.startswith(f"{sum(kept)} of 10 pairs")
    assert len(pairs.rows) == 10 - sum(kept)


def test_leads_are_above_chance_and_a_missing_dictionary_has_none() -> None:
    one = specification("p", 0.5, a=0.9, b=0.7)
    assert one.lead("a") == pytest.approx(0.8 - 0.4)
    assert one.lead("b") == pytest.approx(-0.4)
    assert (one.lead("c"), specification("p", 0.5, a=0.9).lead("a")) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--records", "0"), "--records 0: write factors"),
        (("--records", ","), "--records : write factors"),
        (("--presets", "bils"), "did you mean bills"),
        (("--explainers", "anthropic/claude-haiku-5-5"), "is a language model; write rules-1,rules-5,rules-10"),
    ],
)
def test_mistakes_are_one_line(flags: tuple[str, ...], message: str, tmp_path: Path) -> None:
    done = autointerp("sensitivity", "smoke", *flags, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert message in done.stderr


@pytest.mark.slow
def test_the_command_opens_a_run_folder_and_what_is_finished_is_not_done_again(done: Path, tmp_path: Path) -> None:
    """The run's own protocol is its reference: the member that it becomes holds the same text."""
    before = {path: path.stat().st_mtime_ns for path in done.glob("*/results.jsonl")}
    printed = autointerp("sensitivity", done / "own-1x", *FLAGS, "--out", done, cwd=tmp_path)
    assert printed.returncode == 0, printed.stderr
    assert "pairs are in the run's order" in printed.stdout
    assert f"next: autointerp verify {done}" in printed.stdout
    assert {path: path.stat().st_mtime_ns for path in done.glob("*/results.jsonl")} == before


def test_runs_that_are_the_same_are_one_and_factors_are_numbers(planted: Path) -> None:
    made = small(planted)
    choices = runner.choices_of(made, [], ["rules-1"], ["1", "1.01"])
    assert list(runner._members(made, choices)) == ["own-1x"]
    with pytest.raises(UserError, match="--records x"):
        runner.choices_of(made, [], ["rules-1"], ["x"])
