"""The run folder: results keep their bytes when they are read and written again; what cannot be read is one line."""

import json
import math
from pathlib import Path

import pytest

from autointerp.records import Explanation, FeatureId, FeatureResult, Judgement, Simulation
from autointerp.store import RunFolder
from sae.common.errors import UserError

AWKWARD = FeatureResult(
    FeatureId("d", 3),
    "rules-5",
    "ok",
    Explanation("a \u2028 sentence\nwith “signs”", "p@1", "m"),
    (Simulation(0, (0.0, None, 1e-05, 0.1 + 0.2)), Simulation(1, ())),
    {"small": 1e-05, "large": 1e22, "none": None, "minus": -0.0},
    usage={"calls": 3, "cost_usd": 1e-07, "tokens_in": 10**12},
    errors={"detection": "no answer"},
    judgements={"fuzzing": (Judgement(0, 1), Judgement(2, 0, 0.25))},
)


def test_results_read_and_written_again_are_the_same_bytes(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_results([AWKWARD, AWKWARD])
    written = (tmp_path / "results.jsonl").read_bytes()
    assert list(folder.results()) == [AWKWARD, AWKWARD]
    folder.write_results(list(folder.results()))
    assert (tmp_path / "results.jsonl").read_bytes() == written
    row = json.loads(written.splitlines()[0])
    assert (row["usage"]["calls"], row["scores"]["small"], math.copysign(1, row["scores"]["minus"])) == (3, 1e-05, -1)
    assert b'"calls":3,' in written


def test_an_unreadable_result_is_named_by_its_line(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_results([AWKWARD])
    with (tmp_path / "results.jsonl").open("a") as stream:
        stream.write('{"feature":{}}\n{"torn')
    with pytest.raises(UserError, match=r"line 2 of .* is not a result; .* another --out"):
        list(folder.results())


def test_a_folder_of_another_schema_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"schema_version": 3, "identity": "i"}))
    for opened in (lambda: RunFolder(tmp_path).about, lambda: RunFolder(tmp_path).find("i")):
        with pytest.raises(UserError) as caught:
            opened()
        assert "has schema 3" in str(caught.value)
        assert "\n" not in str(caught.value)
