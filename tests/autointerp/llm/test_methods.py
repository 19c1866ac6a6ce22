"""Every way to explain, simulate and score, run whole from Python through the real SDKs and a model in this process."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

import autointerp as package
from sae.common.errors import UserError
from sae.common.progress import Silent
from tests.autointerp.llm.conftest import EXPLAINER, SIMULATOR
from tests.fakes import FakeApis

SMALL = {
    "sampling.features": 2, "sampling.explain.inactive": 3, "sampling.score.inactive": 5, "sampling.score.quantile": 4,
    "dictionaries.baselines": ["neurons"], "dictionaries.steps": 10, "subject.toy.steps": 20,
    "corpus.max_tokens": 80_000, "runtime.pictures": [], "runtime.site": False,
}  # fmt: skip
COMPATIBLE = "{url}#local"
METHODS: dict[str, dict[str, Any]] = {
    "all at once, from an echoing server": {"simulator": COMPATIBLE, "simulation.method": "all_at_once"},
    "lines with log-probabilities": {"simulator": SIMULATOR, "simulation.samples": 2},
    "numbered, all of a feature at once": {"simulator": EXPLAINER},
    "numbered, one fragment a question": {"simulator": COMPATIBLE, "simulation.fragments": 1},
    "structured text": {"simulator": EXPLAINER, "simulation.format": "json"},
    "lines of text": {"simulator": COMPATIBLE, "simulation.format": "lines"},
    "highlighted, with everything": {
        "simulator": SIMULATOR, "explanation.style": "highlighted", "explanation.contrast": True,
        "explanation.logits": True, "explanation.candidates": 2,
    },
    "judges with log-probabilities": {
        "simulator": SIMULATOR, "scorers": ["detection", "fuzzing", "logits"], "detection.logprobs": True,
        "fuzzing.logprobs": True, "logits.logprobs": True, "controls": 0.5,
    },
    "without explanations": {"simulator": EXPLAINER, "scorers": ["intruder"], "intruder.texts": 3},
}  # fmt: skip


def run(changes: dict[str, Any], out: Path) -> package.Run:
    return package.run("smoke", SMALL | {"explainers": [EXPLAINER]} | changes, out=out, report=Silent)


QUICK = ("numbered, all of a feature at once", "judges with log-probabilities")
"""The others differ in how they ask and read, which test_true_path.py tries without a run around it."""


@pytest.mark.parametrize("method", [pytest.param(m, marks=[pytest.mark.slow] * (m not in QUICK)) for m in METHODS])
def test_every_method_ends_without_an_error(method: str, judged: FakeApis, tmp_path: Path) -> None:
    changes = METHODS[method] | {"simulator": METHODS[method]["simulator"].format(url=judged.openai_url)}
    done = run(changes, tmp_path / "run")
    results = done.results
    assert len(results) == 4
    assert set(results.status) <= {"ok", "failed", "undefined"}
    scorers = changes.get("scorers", ["simulation"])
    assert {name.split("/")[0] for name in done.leaderboard().scorer} == set(scorers)
    assert (results.status == "ok").any()


def test_explanation_free_scores_do_not_depend_on_the_explainer(judged: FakeApis, tmp_path: Path) -> None:
    changes = {"simulator": EXPLAINER, "scorers": ["simulation", "intruder"], "intruder.texts": 3}
    two = run(changes | {"explainers": [EXPLAINER, SIMULATOR]}, tmp_path / "two").leaderboard()
    assert set(two[two.scorer == "intruder"].explainer) == {EXPLAINER}
    assert set(two[two.scorer == "simulation/top"].explainer) == {EXPLAINER, SIMULATOR}


@pytest.mark.slow
def test_rules_explain_and_a_language_model_simulates(judged: FakeApis, tmp_path: Path) -> None:
    done = run({"explainers": ["rules-5"], "simulator": SIMULATOR}, tmp_path / "run")
    assert set(done.results.status) <= {"ok", "failed", "undefined"}
    assert {call["path"] for call in judged.calls()} == {"/v1/chat/completions"}


@pytest.mark.slow
def test_a_notebook_that_runs_a_loop_of_its_own(judged: FakeApis, tmp_path: Path) -> None:
    async def cell() -> package.Run:
        return run({"simulator": SIMULATOR}, tmp_path / "run")

    assert len(asyncio.run(cell()).results) == 4


@pytest.mark.slow
def test_batches_give_the_same_results_at_half_the_price(judged: FakeApis, tmp_path: Path) -> None:
    changes = {
        "simulator": SIMULATOR,
        "scorers": ["simulation", "detection"],
        "runtime.poll_seconds": 0.05,
        "runtime.check": False,
    }
    judged.configure(batch_seconds=0.2)
    batch = run(changes | {"runtime.batch": True}, tmp_path / "batch")
    live = [call for call in judged.calls() if call["path"] in ("/v1/messages", "/v1/chat/completions")]
    assert not live
    package.api.answers().clear()
    direct = run(changes, tmp_path / "direct")
    same = [name for name in batch.results.columns if name != "cost_usd"]
    assert batch.results[same].equals(direct.results[same])
    assert batch.results.cost_usd.sum() == pytest.approx(direct.results.cost_usd.sum() / 2)


def test_an_unknown_embedder_is_one_line(judged: FakeApis, tmp_path: Path) -> None:
    changes = {"simulator": SIMULATOR, "scorers": ["embedding"], "embedding.model": str(tmp_path / "absent")}
    with pytest.raises(UserError) as caught:
        run(changes, tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()
