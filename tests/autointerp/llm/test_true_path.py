"""Nothing is lost, shifted or cut between a record and its score, whatever the tokens are.

A judge on loopback applies the explanation's rules to what it reads in the prompts: `rules_judge.py` here, which
shares no code with the project. Through prompts, SDKs, HTTP and parsers each score is what rules give offline.
"""

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import autointerp as package
from autointerp import scorers
from autointerp.config import Config
from autointerp.llm.ask import answered_by
from autointerp.llm.resolver import LiveResolver
from autointerp.llm.types import LLMTask
from autointerp.prompting import rules
from autointerp.prompting.rules import Rule
from autointerp.records import ActivationRecord, Explanation, FeatureId, FeatureRecord, Simulation
from autointerp.scorers import Scored, Scorer
from autointerp.sections import Records, Runtime, Sampling, ScoreRecords
from autointerp.simulators import Predicted, Simulator
from autointerp.simulators.rules import RulesSimulator
from autointerp.store import RunFolder
from sae.common.progress import Silent
from tests.fakes import FakeApis

BOS = "<s>"
AWKWARD = (
    "\n", "\t", "\\", "\\n", "<", "<<", ">", ">>", "<<like", " <", '"', "'", "7", "\t7", "10", "<end>", "<start>",
    "unknown", "\tunknown", "Excerpt 2:", "Text 1: ", "Token 1: x", "{", "\u2028", "\x85", "\ufffd", " é", "漢", "😀",
    "; ", " (3.0)", ".",
)  # fmt: skip
"""Tokens that break formats: escapes, marks, numbers, and what prompts write themselves."""
WORDS = tuple(f" w{number}" for number in range(10))


class Case(NamedTuple):
    """A feature, and rules about it in words."""

    feature: FeatureRecord
    explanation: Explanation


def made() -> list[Case]:
    """Features whose texts are made of awkward tokens, with rules about them."""
    cases = []
    for index in range(0, len(AWKWARD), 4):
        key, other = AWKWARD[index], AWKWARD[index + 1]
        named = [Rule("token", (key,), 9.3), Rule("pair", (other, key), 9.9), Rule("after", (other,), 4.6)]
        named += [Rule("near", (AWKWARD[index + 2],), 0.6), Rule("token", (AWKWARD[index + 3],), 2.5)]
        cases.append(Case(made_feature(index, key), Explanation(rules.to_text(named), "p", "rules")))
    return [*cases, Case(cases[0].feature, Explanation(rules.to_text([]), "p", "rules"))]


def made_feature(index: int, key: str) -> FeatureRecord:
    """Active on its key; the texts have other lengths and begin and end with any token."""
    pool = [*AWKWARD, *WORDS]
    sources: list[Any] = ["top", "quantile", "random", "weighted", "inactive"] * 3
    records = []
    for number, source in enumerate(sources):
        tokens = [pool[(7 * index + 3 * number + step * (number + 1)) % len(pool)] for step in range(8 + number % 3)]
        tokens = [WORDS[number % 10] if token == key else token for token in tokens]
        if source != "inactive":
            tokens[number % len(tokens)] = tokens[(number + 3) % len(tokens)] = key
        tokens.append(f" end{number}")
        values = tuple(float(1 + at) if token == key else 0.0 for at, token in enumerate(tokens))
        records.append(ActivationRecord(tuple(tokens), values, number, source, weight=1.0 + number))
    return FeatureRecord(
        FeatureId("made", index), tuple(records[:5]), tuple(records), 0.1, 9.0, (0,) * 64, 1.0, 0.1, AWKWARD, WORDS
    )


def of_run(folder: Path) -> list[Case]:
    """All features of a run, with what its first explainer says of them."""
    opened = RunFolder(folder)
    texts = {}
    for result in opened.results():
        if result.explanation:
            texts.setdefault(result.feature, result.explanation)
    return [Case(feature, texts[feature.id]) for feature in opened.read_features()]


@contextmanager
def knowing(cases: Sequence[Case], folder: Path) -> Iterator[FakeApis]:
    """Start the judge, which is told how the texts of these features fall into tokens."""
    listed = [record.tokens for case in cases for record in case.feature.score]
    (folder / "tokens.json").write_text(json.dumps(listed))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RULES_JUDGE_TOKENS", str(folder / "tokens.json"))
        with FakeApis(script="tests.autointerp.llm.rules_judge", bos=BOS) as server:
            patch.setenv("ANTHROPIC_BASE_URL", server.url)
            patch.setenv("OPENAI_BASE_URL", server.openai_url)
            for variable in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "AUTOINTERP_API_KEY"):
                patch.setenv(variable, "test-key")
            yield server


@pytest.fixture(scope="module")
def few(smoke: Path) -> list[Case]:
    """Some features of the smoke run, and the made ones."""
    return [*of_run(smoke)[::24], *made()]


@pytest.fixture(scope="module")
def judge(few: list[Case], tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeApis]:
    with knowing(few, tmp_path_factory.mktemp("judge")) as server:
        yield server


SAMPLING = Sampling(explain=Records(top=5, inactive=2), score=ScoreRecords(weighted=5, top=5, random=5, inactive=5))


def config(server: FakeApis, **settings: Any) -> Config:
    given = {
        name: value.format(url=server.openai_url) if isinstance(value, str) else value
        for name, value in settings.items()
    }
    return Config(sampling=SAMPLING, intruder={"texts": 4}, **given)  # type: ignore[call-arg]  # a part's section


def live(scorer: Scorer, cases: Sequence[Case], cache: Path) -> list[Scored]:
    """Score through the SDKs and HTTP."""
    results: dict[int, Scored] = {}
    tasks = [scorer.score(case.feature, case.explanation) for case in cases]
    slow_server = Runtime(tries=1, attempt_seconds=3600, call_seconds=3600)  # one process answers for 600 features
    with LiveResolver(scorer.models, slow_server, cache) as session:
        session.resolve(tasks, results.__setitem__, lambda: None)
    return [results[index] for index in range(len(cases))]


def offline(scorer: Scorer, cases: Sequence[Case]) -> list[Scored]:
    return [answered_by(scorer.score(case.feature, case.explanation), lambda _: pytest.fail("asked")) for case in cases]


class Rules(RulesSimulator):
    """The offline simulator where only the records are simulated, as language models do it, perhaps rounded."""

    simulate_all = Simulator.simulate_all

    def __init__(self, is_rounded: bool) -> None:
        super().__init__("rules", Config())
        self._is_rounded = is_rounded

    def simulate(self, explanation: Explanation, fragments: Sequence[tuple[str, ...]]) -> LLMTask[list[Predicted]]:
        values = yield from super().simulate(explanation, fragments)
        return [tuple(float(math.floor(v + 0.5)) for v in one) for one in values] if self._is_rounded else values


SIMULATED: dict[str, tuple[dict[str, Any], bool]] = {
    "numbered": ({"simulator": "anthropic/m"}, True),
    "numbered, by fragment": ({"simulator": "{url}#m", "simulation": {"fragments": 1}}, True),
    "json": ({"simulator": "anthropic/m", "simulation": {"format": "json"}}, True),
    "lines": ({"simulator": "{url}#m", "simulation": {"format": "lines"}}, True),
    "lines with log-probabilities": ({"simulator": "openai/m"}, False),
    "all at once": ({"simulator": "{url}#m", "simulation": {"method": "all_at_once"}}, False),
}
"""Settings, and whether the answers are whole numbers."""
GRADED = ("detection", "fuzzing", "logits")
"""What can be answered with probabilities."""
JUDGED: dict[str, dict[str, Any]] = {
    "detection": {"judge": "anthropic/m", "detection": {"texts": 7}},
    "fuzzing": {"judge": "anthropic/m"},
    "intruder": {"judge": "anthropic/m"},
    "logits": {"judge": "{url}#m"},
    "graded": {"judge": "openai/m"} | {name: {"logprobs": True} for name in GRADED},
}


def same_simulations(form: str, cases: Sequence[Case], server: FakeApis, folder: Path) -> None:
    settings, is_rounded = SIMULATED[form]
    scorer = scorers.make("simulation", config(server, **settings))
    results = live(scorer, cases, folder / "cache")
    scorer._simulator = Rules(is_rounded)  # type: ignore[attr-defined]
    for case, result, truth in zip(cases, results, offline(scorer, cases), strict=True):
        assert not result.errors, (case.feature.id, result.errors)
        assert predictions(result.simulations) == pytest.approx(predictions(truth.simulations), abs=1e-9), (
            case.feature.id
        )
        assert result.scores == pytest.approx(truth.scores, abs=1e-9), case.feature.id
        assert result.failed == truth.failed
        assert set(result.intervals) == set(truth.intervals)


def predictions(simulations: Sequence[Simulation]) -> list[float | None]:
    return [value for one in simulations for value in (float(one.record), *one.predicted)]


def same_judgements(name: str, given: dict[str, Any], cases: Sequence[Case], server: FakeApis, folder: Path) -> None:
    settings = config(server, **given)
    results = live(scorers.make(name, settings), cases, folder / "cache")
    by_rules = scorers.make(name, settings.model_copy(update={"judge": "rules"}))
    for case, result, truth in zip(cases, results, offline(by_rules, cases), strict=True):
        answers = [(judgement.record, judgement.answer) for judgement in result.judgements]
        assert answers == [(judgement.record, judgement.answer) for judgement in truth.judgements], case.feature.id
        assert result.scores == pytest.approx(truth.scores, abs=1e-9), case.feature.id


@pytest.mark.parametrize("form", SIMULATED)
def test_simulations_are_those_of_rules(form: str, few: list[Case], judge: FakeApis, tmp_path: Path) -> None:
    same_simulations(form, few, judge, tmp_path)


@pytest.mark.parametrize("name", JUDGED)
def test_judgements_are_those_of_rules(name: str, few: list[Case], judge: FakeApis, tmp_path: Path) -> None:
    for scorer in GRADED if name == "graded" else (name,):
        same_judgements(scorer, JUDGED[name], few, judge, tmp_path)


@pytest.mark.slow
def test_all_features_of_the_demo(tmp_path: Path) -> None:
    """With five rules each."""
    cases = of_run(package.run("demo", {"explainers": ["rules-5"]}, out=tmp_path / "demo", report=Silent).path)
    assert len(cases) == 600
    with knowing(cases, tmp_path) as judge:
        for form in SIMULATED:
            same_simulations(form, cases, judge, tmp_path)
        for name in JUDGED:
            for scorer in GRADED if name == "graded" else (name,):
                same_judgements(scorer, JUDGED[name], cases, judge, tmp_path)
