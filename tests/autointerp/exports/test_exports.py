"""Exports: what other tools' schemas and loaders take, what cannot be held is counted, nothing is overwritten."""

import gzip
import json
import re
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest

import autointerp as package
from autointerp import exports
from autointerp.explanation_files import read as read_explanations
from autointerp.exports import EXPORTS
from autointerp.exports.content import Content
from autointerp.population import Population, PopulationText
from autointerp.records import (
    ActivationRecord,
    DictionarySummary,
    Explanation,
    FeatureId,
    FeatureRecord,
    FeatureResult,
    Judgement,
    Source,
)
from autointerp.store import RunFolder
from sae.common.errors import UserError
from tests.autointerp.exports.schemas import EvalOutput, TracedFeature, Upload
from tests.conftest import autointerp

COMMIT = re.compile(r"commit [0-9a-f]{7}")


def record(text: str, values: Sequence[float], source: Source = "top") -> ActivationRecord:
    return ActivationRecord(tuple(text.split("|")), tuple(values), 0, source)


ACTIVE = record("a| b|\n", [0.5, 2.0, 0.0])
TEXT = PopulationText(("x",), np.zeros((2, 100), np.int32), np.arange(2, dtype=np.int32))
ALL = Population(TEXT, np.arange(100, dtype=np.int32), np.arange(1, 101, dtype=np.float32))
BOARD = (ACTIVE, record("c|d", [1.0, 0.0], "quantile"), record("e|f", [0, 0], "inactive"), record("g", [3.0], "random"))


def feature(index: int, score: Sequence[ActivationRecord] = BOARD, **changes: Any) -> FeatureRecord:
    plain = FeatureRecord(
        FeatureId("d", index), (ACTIVE,), tuple(score), 0.25, 100.0, (0,) * 64, 1.0, 0.5, ("up",), ("other",),
        promoted_logits=(2.5,), suppressed=("down", "\0"), suppressed_logits=(-1.5, -0.5), population=ALL,
    )  # fmt: skip
    return replace(plain, **changes)


def result(
    index: int, text: str | None = "names of rivers", answers: Sequence[int] = (), **changes: Any
) -> FeatureResult:
    judgements = {"detection": tuple(Judgement(record, answer) for record, answer in enumerate(answers))}
    explained = None if text is None else Explanation(text, "p", "m")
    plain = FeatureResult(
        FeatureId("d", index), "best", "ok", explained, (), {"detection": 0.5}, judgements=judgements,
        intervals={"detection": (0.1, 0.9)},
    )  # fmt: skip
    return replace(plain, **changes)


def content(
    folder: Path,
    features: Sequence[FeatureRecord],
    results: Sequence[FeatureResult],
    hook: str = "blocks.3.hook_mlp_out",
) -> Content:
    """A run of one dictionary `d` of ten features."""
    sides = {"top": 2, "quantile": 0, "importance": 1}
    config = {
        "subject": {"model": "Org/Model-1"}, "scorers": ["detection"], "seed": 3, "dictionaries": {"train": []},
        "corpus": {"source": "hf:some/corpus", "context": 64}, "explanation": {"max_tokens": 500},
        "sampling": {"explain": sides, "score": sides},
    }  # fmt: skip
    (folder / "results.jsonl").touch()
    about = {"config": config, "identity": "0f" * 32, "versions": {"autointerp": "1"}, "status": "complete"}
    nothing = dict.fromkeys(("l0", "fvu", "dead", "ce_recovered", "converged"))
    one = DictionarySummary("d", "sae", hook, 8, 10, len(features), 10, 0, 0, **nothing)
    by_feature = {f.id: tuple(r for r in results if r.feature == f.id) for f in features}
    explainers = tuple(dict.fromkeys(r.explainer for r in results))
    return Content(RunFolder(folder), about, (one,), tuple(features), explainers, by_feature)


def written(name: str, out: Path, run: Content, **options: str) -> list[str]:
    return list(exports.write(exports.make(name, options), run, out))


def traced(folder: Path, layer: int, index: int) -> dict[str, Any]:
    """Read a feature as init-feature-examples.js, local_server.py and util.js of circuit-tracer do together."""
    table = json.loads(gzip.decompress((folder / "index.json.gz").read_bytes()))[str(layer)]
    start, end = table["offsets"][index], table["offsets"][index + 1]  # `bytes=start-end`, the end included
    data = (folder / table["filename"]).read_bytes()[start : end + 1]
    size = data[0] | data[1] << 8 | data[2] << 16 | data[3] << 24
    return dict(json.loads(zlib.decompress(data[4 : 4 + size])))


def test_every_format_says_which_schema_it_follows() -> None:
    assert set(EXPORTS.names) == {"features", "neuronpedia", "neuronpedia_explanations", "circuit_tracer", "saebench"}
    for name, part in EXPORTS.all().items():
        assert name == "features" or COMMIT.search(str(__import__(part.__module__, fromlist=["x"]).__doc__)), name


def test_neuronpedia_takes_what_is_uploaded_and_the_rest_is_counted(tmp_path: Path) -> None:
    silent = feature(1, score=[], explain=())
    hostile = feature(
        2, score=[record("a||b", [1, 0, 0]), record("\0", [1.0]), record("|".join("x" * 1025), [1.0] * 1025)]
    )
    old = feature(3, promoted_logits=(), suppressed=(), suppressed_logits=())  # of a run that kept no logits
    features = [feature(0), silent, hostile, old, *(feature(index) for index in range(4, 140))]
    results = [
        result(0), result(0, "names of rivers", explainer="second"), result(0, "é" * 512, explainer="third"),
        result(0, "😀" * 257, explainer="fourth"), result(2, None),
    ]  # fmt: skip
    notes = written("neuronpedia", tmp_path / "up", content(tmp_path, features, results))
    bodies = [
        Upload.model_validate_json(path.read_text("utf-8")) for path in sorted((tmp_path / "up" / "3-d").iterdir())
    ]
    assert [len(body.features) for body in bodies] == [128, 11]
    assert (bodies[0].modelId, bodies[0].source) == ("model-1", "3-d")
    first, second = bodies[0].features[:2]
    assert first.topLogits is not None
    assert first.bottomLogits is not None
    assert [(one.token, one.value) for one in (*first.topLogits, *first.bottomLogits)] == [("up", 2.5), ("down", -1.5)]
    assert [item.text for item in first.explanations] == ["names of rivers", "é" * 512]
    assert [item.tokens for item in first.activations] == [
        ["a", " b", "\n"],
        ["c", "d"],
        ["g"],
    ]  # the silent one is not there
    assert (second.index, second.explanations, len(second.activations)) == (2, [], 1)
    assert set(notes) == {
        "1 features are left out: no text on which they are active can be sent",
        "1 features go without logits: the run has none that can be sent",
        "1 explanations are left out: empty, longer than 512 characters, or with a NUL",
        "139 features go without an explanation: they have none that can be sent",
        "3 texts are left out: empty tokens, tokens with a NUL, or more than 1,024 tokens",
    }


def test_neuronpedias_names_can_be_given(tmp_path: Path) -> None:
    names = {
        "model_id": "gpt2-small",
        "source": "6-res-jb__x",
        "method_name": "oai_token-act-pair",
        "model_name": "gpt-4",
    }
    written("neuronpedia", tmp_path / "up", content(tmp_path, [feature(0)], [result(0)], "a+b"), **names)
    body = Upload.model_validate_json((tmp_path / "up" / "6-res-jb__x" / "batch-000.json").read_text("utf-8"))
    explanation = body.features[0].explanations[0]
    assert (body.modelId, body.source) == ("gpt2-small", "6-res-jb__x")
    assert (explanation.methodName, explanation.modelName) == ("oai_token-act-pair", "gpt-4")


def test_neuronpedias_explanations_are_read_back(tmp_path: Path) -> None:
    texts = {0: 'with "quotes", commas\nand lines', 2: "=SUM(1)"}
    run = content(tmp_path, [feature(i) for i in range(3)], [result(i, text) for i, text in texts.items()])
    notes = written("neuronpedia_explanations", tmp_path / "x.csv", run)
    assert notes == ["1 features are left out: they have no explanation"]
    table = pandas.read_csv(tmp_path / "x.csv", dtype=str, keep_default_na=False)
    assert list(table) == ["modelId", "layer", "index", "description", "typeName", "explanationModelName"]
    assert read_explanations(str(tmp_path / "x.csv")).by_dictionary == {"3-d": texts}


def test_circuit_tracer_reads_every_feature(tmp_path: Path) -> None:
    twice = feature(9, explain=(ACTIVE, ACTIVE), population=None, promoted=(), suppressed=(), max_activation=2.0)
    notes = written("circuit_tracer", tmp_path / "ct", content(tmp_path, [feature(4), twice], []))
    assert [traced(tmp_path / "ct", 3, index) for index in (0, 8)] == [{"isDead": True}] * 2
    four, nine = (TracedFeature.model_validate(traced(tmp_path / "ct", 3, index)) for index in (4, 9))
    assert (four.transcoder_id, four.index, four.act_max, four.activation_frequency) == ("d", 4, 100.0, 0.25)
    assert four.histogram == [1.0] + [2.0] * 48 + [3.0]  # 1 to 100 in 50 intervals of 2, the last one closed
    assert four.quantile_values == pytest.approx([1 + 0.99 * p for p in range(1, 100)])
    shown = {q.quantile_name: [e.train_token_ind for e in q.examples] for q in four.examples_quantiles}
    assert shown == {
        "top, explained from": [1], "top, scored on": [1], "quantile, scored on": [0], "random, scored on": [0],
    }  # fmt: skip
    assert [e.is_repeated_datapoint for e in nine.examples_quantiles[0].examples] == [False, True]
    assert (four.top_logits, four.bottom_logits) == (["up"], ["down", "\0"])
    assert (nine.histogram, nine.quantile_values, nine.top_logits) == ([], [], [])
    assert set(notes) == {
        "8 features have no data: the run did not sample them",
        "1 features have no tokens that their decoder lowers: the run has none",
        "1 features have no tokens that their decoder raises: the run has none",
        "1 features have no histogram and percentiles: the run kept no population (sampling.population)",
    }


def test_saebench_gets_the_share_of_right_answers(tmp_path: Path) -> None:
    """Record 3 is random, which detection does not show; feature 2 has no answer about record 2."""
    results = [result(0, answers=(1, 0, 0, 0)), result(1, answers=(1, 1, 0, 1)), result(2, answers=(1, 1))]
    results += [replace(one, explainer="other") for one in results]
    run = content(tmp_path, [feature(i) for i in range(3)], results)
    notes = written("saebench", tmp_path / "sb", run)
    path = tmp_path / "sb" / "autointerp" / "d_custom_sae_eval_results.json"
    output = EvalOutput.model_validate_json(path.read_text("utf-8"))
    scores = [2 / 3, 1.0]
    assert output.eval_result_metrics.autointerp.autointerp_score == pytest.approx(np.mean(scores))
    assert output.eval_result_metrics.autointerp.autointerp_std_dev == pytest.approx(np.std(scores, ddof=1))
    assert output.eval_result_unstructured["0"] == {
        "latent": 0, "explanation": "names of rivers", "predictions": [1], "correct seqs": [1, 2],
        "score": pytest.approx(2 / 3),
    }  # fmt: skip
    assert output.sae_cfg_dict is not None
    assert {name: output.sae_cfg_dict[name] for name in ("architecture", "d_sae")} == {
        "architecture": "sae",
        "d_sae": 10,
    }
    assert output.eval_config.n_latents == 2
    assert notes == ["1 features are left out: they have no detection score", "only best is written: other left out"]


def test_a_run_without_what_a_format_needs_is_refused(tmp_path: Path) -> None:
    run = content(tmp_path, [feature(0)], [result(0, answers=(1, 1, 0, 0))], "a+b")
    for name, line in (
        ("saebench", "1 features with a detection score; SAEBench's deviation needs two"),
        ("circuit_tracer", "d reads a+b, which is of no one layer"),
        ("neuronpedia", "give --set source=LAYER-SET"),
    ):
        with pytest.raises(UserError, match=re.escape(line)):
            written(name, tmp_path / "out", run)
    for source in ("../up", "6/res"):  # a folder beside the export would be lost with the temporary one
        with pytest.raises(UserError, match="write LAYER-SET, such as 6-res-jb"):
            written("neuronpedia", tmp_path / "out", run, source=source)
    run.about["config"]["scorers"] = ["simulation"]
    with pytest.raises(UserError, match="run again with --scorers detection"):
        written("saebench", tmp_path / "out", run)
    assert not [path.name for path in tmp_path.iterdir() if path.name != "results.jsonl"]


@pytest.fixture(scope="module")
def table(smoke: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, pandas.DataFrame]:
    """The smoke run's features as the command writes them, read by pandas."""
    folder = tmp_path_factory.mktemp("tables")
    for ending in ("csv", "jsonl", "parquet"):
        done = autointerp("export", smoke, "--format", "features", "--out", f"x.{ending}", cwd=folder)
        assert (done.returncode, done.stdout) == (0, f"the export is in x.{ending}\n"), done.stderr
    return {
        "csv": pandas.read_csv(folder / "x.csv"),
        "jsonl": pandas.read_json(folder / "x.jsonl", lines=True),
        "parquet": pandas.read_parquet(folder / "x.parquet"),
    }


def test_the_table_of_features_says_what_the_run_says(smoke: Path, table: dict[str, pandas.DataFrame]) -> None:
    run = package.open_run(smoke)
    densities = {feature.id: feature.density for feature in run.features}
    for read in table.values():
        known = run.results.drop(columns="error")  # there is none: None here, NaN there
        pandas.testing.assert_frame_equal(read[list(known)], known, check_dtype=False, check_exact=False, rtol=1e-12)
        names = zip(read["dictionary"], read["feature"], strict=True)
        assert read["density"].tolist() == pytest.approx([densities[FeatureId(*name)] for name in names], rel=1e-12)
    promoted = [list(tokens) for tokens in table["parquet"]["promoted"]]
    assert (
        promoted == [json.loads(tokens) for tokens in table["csv"]["promoted"]] == table["jsonl"]["promoted"].tolist()
    )


@pytest.mark.parametrize("text", ["=HYPERLINK(1)", "+1+1", "-1+1", "@SUM(1)", " \t=1", "rivers = water"])
def test_no_cell_of_the_csv_is_a_formula(text: str, tmp_path: Path) -> None:
    run = content(tmp_path, [feature(0)], [result(0, text)])
    written("features", tmp_path / "x.csv", run)
    written("features", tmp_path / "x.jsonl", run)
    cell = str(pandas.read_csv(tmp_path / "x.csv")["explanation"][0])
    assert cell == (text if text.startswith("rivers") else f"'{text}")
    assert json.loads((tmp_path / "x.jsonl").read_text())["explanation"] == text


def test_the_smoke_run_goes_through_every_schema(smoke: Path, tmp_path: Path) -> None:
    one = ("--dictionary", "topk_2x", "--explainer", "rules-5")
    for name, out in (("neuronpedia", "up"), ("neuronpedia-explanations", "x.csv"), ("circuit-tracer", "ct")):
        done = autointerp("export", smoke, "--format", name, "--out", out, *one, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    features = {f.id.index: f for f in package.open_run(smoke).features if f.id.dictionary == "topk_2x"}
    body = Upload.model_validate_json((tmp_path / "up" / "0-topk-2x" / "batch-000.json").read_text("utf-8"))
    assert {one.index: one.density for one in body.features} == {index: f.density for index, f in features.items()}
    for index, known in features.items():
        seen = TracedFeature.model_validate(traced(tmp_path / "ct", 0, index))
        assert known.population is not None
        assert (seen.top_logits, sum(seen.histogram)) == (list(known.promoted), len(known.population.value_A))
    assert list(read_explanations(str(tmp_path / "x.csv")).by_dictionary["0-topk-2x"]) == sorted(features)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--format", "features", "--out", "there.csv"), "there.csv exists already; choose another --out"),
        (("--format", "features", "--out", "x.txt"), "x.txt: its name must end in .csv or .jsonl or .parquet"),
        (("--format", "parket", "--out", "x"), "unknown format 'parket'; known: features, neuronpedia"),
        (("--format", "saebench", "--out", "x", "--set", "a=1"), "--set a: saebench has no such setting; it has none"),
        (("--format", "saebench", "--out", "x"), "run again with --scorers detection"),
        (
            ("--format", "neuronpedia", "--out", "x", "--dictionary", "topk"),
            "no dictionary 'topk'; did you mean topk_2x",
        ),
        (
            ("--format", "neuronpedia", "--out", "x", "--explainer", "me"),
            "the run has no explainer 'me'; known: rules-5",
        ),
        (("--format", "neuronpedia", "--out", "x", "--set", "source=1-a"), "--set source is for one dictionary"),
        (
            ("--format", "circuit-tracer", "--out", "x"),
            "layer 0 has topk_2x and neurons; choose with --dictionary NAME",
        ),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else None,
)
def test_a_mistake_is_one_line(arguments: tuple[str, ...], line: str, smoke: Path, tmp_path: Path) -> None:
    (tmp_path / "there.csv").write_text("mine")
    done = autointerp("export", smoke, *arguments, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert line in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["there.csv"]
    assert (tmp_path / "there.csv").read_text() == "mine"
