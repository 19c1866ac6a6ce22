"""Suites: what a file stands for, its mistakes in one line, and a whole one that is killed, resumed and verified."""

import asyncio
import json
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas
import pytest
import yaml

import autointerp as package
from autointerp import config, suites
from autointerp.cli.suites import _sum, _summed
from autointerp.llm.budget import Budget, BudgetReached
from autointerp.llm.estimate import Stage
from autointerp.llm.pricing import load_prices
from autointerp.llm.resolver import LiveResolver
from autointerp.llm.types import Usage
from autointerp.records import FeatureResult
from autointerp.reporting.merging import merge_named, subjects_of
from autointerp.runs import suite as runner
from autointerp.runs.savings import Estimate
from autointerp.runs.stability import measure_over_seeds
from autointerp.sections import Runtime
from autointerp.store import RunFolder
from autointerp.suite_folder import SuiteFolder, runs_in
from sae.common.errors import UserError
from sae.common.progress import Silent
from tests.conftest import autointerp, make_once

RECIPE = {"architecture": "topk", "expansion": 1, "k": 2, "lr": 0.003}


def settings(planted: Path) -> dict[str, Any]:
    return {
        "corpus": {"source": str(planted / "corpus.jsonl"), "context": 32, "held_out": 0.5},
        "subject": {"model": str(planted / "model"), "prepend_bos": False, "hook_points": ["hook_embed"]},
        "dictionaries": {
            "train": [RECIPE | {"seed": 0}, RECIPE | {"seed": 1}],
            "baselines": ["neurons"],
            "steps": 12,
            "batch": 256,
        },
        "sampling": {"features": 3, "fragment": 16, "population": 1000},
        "explainers": ["rules-1"],
        "runtime": {"pictures": [], "site": False},
    }


def write(path: Path, values: dict[str, Any], **axes: Any) -> str:
    path.write_text(yaml.safe_dump(values | ({"suite": axes} if axes else {}), sort_keys=False))
    return str(path)


@pytest.fixture(scope="session")
def done(planted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished suite of two seeds in the folder `out`, whose second member was killed after its first results."""

    def make(folder: Path) -> None:
        values = settings(planted)
        values["runtime"] |= {"out": str(folder / "out")}
        suite = suites.load(write(folder / "two.yaml", values, seeds={"s0": {}, "s1": {"seed": 1}}))
        append = RunFolder.append

        def killed(self: RunFolder, results: Iterable[FeatureResult]) -> None:
            append(self, results)
            if self.path.name == "s1":
                raise KeyboardInterrupt

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(RunFolder, "append", killed)
            with pytest.raises(KeyboardInterrupt):
                runner.run(suite, Silent)
        stopped = SuiteFolder(folder / "out")
        assert [run.about["status"] for run in stopped.runs.values()] == ["complete", "scoring"]
        assert not stopped.is_complete
        kept = (folder / "out" / "s0" / "run.json").stat().st_mtime_ns
        first = next(iter(stopped.runs["s1"].results()))
        runner.run(suite, Silent)
        assert (folder / "out" / "s0" / "run.json").stat().st_mtime_ns == kept
        assert next(iter(stopped.runs["s1"].results())) == first

    return make_once(tmp_path_factory, "suite", make)


@pytest.fixture
def copy(done: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(done / "out", tmp_path / "out"))


def test_every_combination_of_variants_is_a_member(tmp_path: Path) -> None:
    file = write(
        tmp_path / "four.yaml",
        {"sampling": {"features": 5}, "dictionaries": {"train": [RECIPE]}},
        models={"narrow": {"subject.toy.d_mlp": 64}, "wide": {"subject.toy.d_mlp": 128}},
        dictionaries={"k2": {}, "k4": {"dictionaries.train.0.k": 4}},
    )
    suite = suites.load(file, {"sampling.features": 7, "runtime.max_cost": 3.0})
    assert list(suite.members) == ["narrow-k2", "narrow-k4", "wide-k2", "wide-k4"]
    seen = {name: (one.subject.toy.d_mlp, one.dictionaries.train[0].k) for name, one in suite.members.items()}  # type: ignore[attr-defined]
    assert seen == {"narrow-k2": (64, 2), "narrow-k4": (64, 4), "wide-k2": (128, 2), "wide-k4": (128, 4)}
    assert {one.sampling.features for one in suite.members.values()} == {7}
    assert suite.max_cost == 3.0
    assert {one.runtime.out for one in suite.members.values()} == {f"{suite.path}/{name}" for name in suite.members}
    assert re.fullmatch(r"runs/four-[0-9a-f]{8}", suite.path)


def test_a_suite_that_grows_keeps_its_folder_and_one_with_other_settings_gets_another(tmp_path: Path) -> None:
    paths = [
        suites.load(write(tmp_path / "a.yaml", {"seed": seed}, models={name: {} for name in names})).path
        for seed, names in ((0, "a"), (0, "ab"), (1, "a"))
    ]
    assert paths[0] == paths[1] != paths[2]


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        (
            {"models": {"a": {"subject.toy.d_mpl": 3}}},
            "unknown key 'subject.toy.d_mpl'; did you mean subject.toy.d_mlp",
        ),
        ({"models": {"a-b": {}, "a": {}}, "ks": {"c": {}, "b-c": {}}}, "two members are called 'a-b-c'"),
        ({"models": {"a": {}, "A": {}}}, "two members are called 'A'"),
        ({"models": {"a": {"seed": 1}}, "ks": {"b": {"seed": 2}}}, "suite.models and suite.ks both change seed"),
        ({"models": {"a": {"subject": {}}}, "ks": {"b": {"subject.model": "m"}}}, "both change subject"),
        ({"models": {"a": {"runtime.max_cost": 1}}}, "suite.models.a: runtime.max_cost is for all members"),
        ({"models": ["a"]}, "suite.models: write settings, each as NAME: VALUE"),
        ({"models": {"a/b": {}}}, "suite.models"),
        ({"models": {}}, "suite.models"),
    ],
)
def test_mistakes_in_the_section_are_one_line(axes: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        suites.load(write(tmp_path / "s.yaml", {}, **axes))
    assert message in str(caught.value)
    assert str(tmp_path / "s.yaml") in str(caught.value)


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("suite:\n  models:\n    a: {}\n    a: {}\n")
    with pytest.raises(UserError, match="key 'a' stands there twice"):
        suites.load(str(tmp_path / "s.yaml"))


def test_a_dictionary_that_does_not_fit_a_model_is_refused_before_anything_starts(
    planted: Path, tmp_path: Path
) -> None:
    values = settings(planted) | {"dictionaries": {"load": [str(planted / "dictionary")], "baselines": []}}
    models = {"fits": {}, "toy": {"subject.model": "toy", "subject.toy.d_model": 24}}
    done = autointerp("run", write(tmp_path / "s.yaml", values, models=models), cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        "autointerp: member toy: dictionary words reads vectors of width 16, but hook_embed of toy is 24 wide; give it "
        "with the model that it was trained on\n"
    )
    assert not (tmp_path / "runs").exists()


def test_two_members_that_are_the_same_run_are_refused(planted: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "s.yaml", settings(planted), models={"a": {}, "b": {"seed": 0}})
    with pytest.raises(UserError, match="member b: it is the same run as a"):
        runner.run(suites.load(file), Silent)


def test_other_commands_say_what_takes_a_suite(tmp_path: Path) -> None:
    file = write(tmp_path / "s.yaml", {}, models={"a": {}})
    with pytest.raises(UserError, match="only the command `autointerp run` takes"):
        config.load(file)
    done = autointerp("run", file, "--seeds", "3", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_the_shipped_suite_is_two_subjects() -> None:
    suite = suites.load("suites/toys")
    assert {name: len(one.subject.hook_points) for name, one in suite.members.items()} == {
        "one_layer": 1,
        "two_layers": 2,
    }


def test_the_suite_of_faults_switches_on_one_at_a_time_beside_its_preset() -> None:
    members = suites.load("suites/faults").members
    switched = {name: one.peer_faults for name, one in members.items() if one.peer_faults}  # type: ignore[attr-defined]
    assert {len(faults) for faults in switched.values()} == {1}
    for name, faults in switched.items():
        alone = members[name.partition("_")[0]]
        assert members[name] == config.build(
            alone.model_dump(mode="json"),
            {"name": name, "runtime.out": members[name].runtime.out, "peer_faults": faults},
            "test",
        )


def test_members_are_merged_with_model_corpus_and_hook_point(done: Path) -> None:
    folder = SuiteFolder(done / "out")
    rows = merge_named(folder.runs)
    assert json.loads((folder.path / "leaderboard.json").read_text()) == rows
    table = pandas.read_csv(folder.path / "leaderboard.csv")
    assert list(table.columns[:5]) == ["dictionary", "kind", "hook_point", "model", "corpus"]
    assert set(table.dictionary) == {
        f"{m}:{d}" for m in ("s0", "s1") for d in ("topk_1x_k2", "topk_1x_k2_seed1", "neurons")
    }
    own = folder.runs["s1"].read_leaderboard()
    mine = [row for row in rows if row["dictionary"].startswith("s1:")]
    assert [row["mean"] for row in mine] == [row["mean"] for row in own]
    assert set(subjects_of(folder.runs).values()) == {rows[0]["model"]}
    assert runs_in(folder.path) == [folder.path / "s0", folder.path / "s1"]


def test_commands_take_a_suites_folder_for_its_members(done: Path, tmp_path: Path) -> None:
    board = autointerp("leaderboard", done / "out", cwd=tmp_path)
    assert "s0:topk_1x_k2" in board.stdout
    assert "s1:topk_1x_k2" in board.stdout
    again = autointerp("run", done / "two.yaml", "--quiet", cwd=tmp_path)
    assert (again.returncode, again.stdout) == (0, f"{done / 'out'}\n")
    listed = autointerp("list", done.parent, cwd=tmp_path)
    assert str(done / "out" / "s1") in listed.stdout
    free = autointerp("run", done / "two.yaml", "--dry-run", cwd=tmp_path)
    assert "this suite makes no model calls" in free.stdout


def test_verify_holds_and_finds_a_changed_digit_of_the_suite_or_of_a_member(copy: Path, tmp_path: Path) -> None:
    assert not [check for check in runner.verify_suite(SuiteFolder(copy), Silent) if check.differences]
    board = copy / "leaderboard.csv"
    text = board.read_text()
    at = text.index("0.", text.index("\n")) + 2
    board.write_text(text[:at] + str((int(text[at]) + 1) % 10) + text[at + 1 :])
    changed = autointerp("verify", copy, cwd=tmp_path)
    assert changed.returncode == 1
    assert "leaderboard.csv, line 2" in changed.stderr.splitlines()[-1]
    board.write_text(text)
    results = copy / "s1" / "results.jsonl"
    results.write_text(
        re.sub(r'("scores":\{"[^"]+":0\.)(\d)', lambda m: f"{m[1]}{(int(m[2]) + 1) % 10}", results.read_text())
    )
    wrong = [text for check in runner.verify_suite(SuiteFolder(copy), Silent) for text in check.differences]
    assert wrong[0].startswith("s1: ")


def test_stability_stands_beside_the_scores_of_dictionaries_of_two_seeds(done: Path) -> None:
    """Each of the two recipes has the other seed's as its only other; neurons have none."""
    run = package.open_run(done / "out" / "s0")
    written = json.loads((run.path / "stability.json").read_text())
    assert {name: one["others"] for name, one in written.items()} == {
        "topk_1x_k2": ["topk_1x_k2_seed1"], "topk_1x_k2_seed1": ["topk_1x_k2"]
    }  # fmt: skip
    results, board = run.results, run.leaderboard()
    for name, one in written.items():
        mine = results[results.dictionary == name]
        assert mine.stability.tolist() == [one["features"][str(index)] for index in mine.feature]
        row = board[(board.dictionary == name) & (board.scorer == "simulation/population")].iloc[0]
        scored = mine[mine["simulation/population"].notna()]
        assert row.stability == pytest.approx(scored.stability.mean())
        assert (row.pw_mcc, row.n_seeds) == (one["pw_mcc"], 2)
    assert board[board.dictionary == "neurons"].stability.isna().all()
    assert "stability  PW-MCC" in re.sub(r" +", "  ", autointerp("leaderboard", run.path, cwd=done).stdout)


@pytest.mark.slow
def test_stability_over_runs_of_one_model(copy: Path) -> None:
    """Neurons are the same in both; the tables are made again, hold, and nothing is done twice."""
    runs = [RunFolder(copy / name) for name in ("s0", "s1")]
    measure_over_seeds(runs, Silent)
    written = [json.loads((run.path / "seeds.json").read_text()) for run in runs]
    assert written[0]["runs"] == [run.about["identity"] for run in runs]
    assert (written[0]["dictionaries"]["neurons"]["mean"], written[0]["dictionaries"]["neurons"]["pw_mcc"]) == (1, 1)
    board = runs[0].read_leaderboard()
    assert {row["n_seeds"] for row in board} == {2}
    assert not runs[0].damaged()
    before = (runs[0].path / "run.json").stat().st_mtime_ns
    measure_over_seeds(runs, Silent)
    assert (runs[0].path / "run.json").stat().st_mtime_ns == before


def test_members_share_one_budget(planted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "s.yaml", settings(planted), seeds={"a": {}, "b": {"seed": 1}})
    seen: list[Budget] = []
    monkeypatch.setattr(runner.pipeline, "run", lambda config, report, budget: seen.append(budget))
    monkeypatch.setattr(runner, "_merge", lambda folder, suite: None)
    runner.run(suites.load(file, {"runtime.max_cost": 2.0, "runtime.out": str(tmp_path / "out")}), Silent)
    assert len(seen) == 2
    assert seen[0] is seen[1]
    assert seen[0].limit == 2.0
    with LiveResolver([], Runtime(), tmp_path, budget=seen[0]) as resolver:
        assert resolver.client.budget is seen[0]


@pytest.mark.slow
def test_a_dry_run_is_of_all_members(done: Path, tmp_path: Path) -> None:
    model = "anthropic/claude-haiku-5-5"
    words = ("--explainer", model, "--simulator", model, "--out", "dry", "--dry-run")
    dry = autointerp("run", done / "two.yaml", *words, cwd=tmp_path)
    assert dry.returncode == 0, dry.stderr
    rows = [line.split() for line in dry.stdout.splitlines() if line.split()[:1] in (["s0"], ["s1"], ["all"])]
    s0, s1, total = ([float(cell.replace(",", "")) for cell in row[1:]] for row in rows)
    assert total == pytest.approx([a + b for a, b in zip(s0, s1, strict=True)], abs=1e-4)
    assert min(total[0], total[4]) > 0
    assert "--max-cost" in dry.stdout.splitlines()[-1]


def test_one_budget_serves_several_event_loops_until_it_is_spent() -> None:
    """Two crowds of calls of 0.3, each in a loop of its own, most of which wait for others to end."""
    budget = Budget(2.0)

    async def call() -> bool:
        try:
            reserved = await budget.reserve(0.9)
        except BudgetReached:
            return False
        await asyncio.sleep(0)
        budget.settle(reserved, 0.3)
        return True

    async def crowd(n: int) -> list[bool]:
        return list(await asyncio.gather(*(call() for _ in range(n))))

    assert all(asyncio.run(crowd(3)))
    assert sum(asyncio.run(crowd(5))) == 1
    assert budget.spent == pytest.approx(1.2)


def test_a_dry_run_adds_up_stages_and_knows_no_sum_without_every_price() -> None:
    stages = [Stage("explain", "m", 2, 1, Usage(2, 10, 20, cost_usd=0.5), most_usd=1.0)]
    stages.append(Stage("simulate", "m", 3, 0, Usage(3, 1, 2, cost_usd=0.25), most_usd=2.0))
    assert _summed(Estimate(stages, load_prices(), 4, [])) == [5, 1, 11, 22, 0.75, 3.0]
    assert _summed(Estimate([], load_prices(), 4, [])) == [0, 0, 0, 0, 0, 0]
    assert _sum([1.0, None]) is None


def test_a_misspelt_name_leads_to_the_shipped_suite() -> None:
    with pytest.raises(UserError, match=r"suites/toy: no such file.* did you mean suites/toys"):
        suites.is_suite("suites/toy")
