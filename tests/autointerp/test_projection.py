"""What `autointerp plan` foretells against what many small shards really produce; the command and its mistakes."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autointerp.config import build
from autointerp.runs.judging_cost import usd_per_feature
from autointerp.sampling import projection, select
from autointerp.sampling.build import build as build_records
from autointerp.sampling.follow import Followed
from autointerp.sampling.projection import Rates, Size, project
from sae.common.progress import Silent
from tests.autointerp.test_engines import COUNTS, FEATURES, Sharded, experiment
from tests.autointerp.test_sampling import prepared, wide_dictionary
from tests.conftest import autointerp

RATES = Rates(product=1e12, count=1e9, follow=1e8, merge=1e9, record=1e5)
LARGE = Size(10**9, 131_072, 26, 8, 2304, 2 * 10**9, 100)


def n_bytes(value: Any) -> int:
    """All arrays inside a value."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, dict | tuple | list):
        return sum(map(n_bytes, value.values() if isinstance(value, dict) else value))
    return n_bytes(list(vars(value).values())) if dataclasses.is_dataclass(value) else 0


class Weighed(Sharded):
    """Keeps how many bytes the shards of each pass return."""

    def __init__(self, n_shards: int) -> None:
        super().__init__(n_shards, 0)
        self.bytes: list[int] = []

    def merged(self, read: list[dict[int, Followed]]) -> dict[int, Followed]:
        self.bytes.append(sum(map(n_bytes, read)))
        return super().merged(read)


@pytest.mark.parametrize("followed", [0, 10**9])
def test_many_small_shards_produce_what_is_foretold(followed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes that passes merge within 3%, the records exactly (none are silent ones, which dense features lack).

    Where all features are counted first, the second pass follows at most all sampled ones, and here fewer.
    """
    monkeypatch.setattr(select, "FOLLOWED", followed)
    monkeypatch.setattr(projection, "FOLLOWED", followed)
    sides = {"sampling.explain": COUNTS | {"inactive": 0}, "sampling.score": COUNTS | {"weighted": 3, "inactive": 0}}
    config = experiment({"corpus.context": 16, "sampling.population": 500} | sides)
    ready = prepared(60)
    ready.dictionaries[0].dictionary = wide_dictionary(FEATURES)
    engine = Weighed(4 * 3)
    drawn = build_records(ready, select.select(ready, config, engine, Silent), config)
    tokens = ready.text.ids_NC.size
    density = float(np.mean([one.density for one in drawn.features]))
    foretold = project(config, Size(tokens, FEATURES, 1, 3, 6, 100, density * FEATURES), RATES)
    assert len(engine.bytes) == len(foretold.passes) == 2
    assert [one.shards for one in foretold.passes] == [12, 12]
    assert engine.bytes[0] == pytest.approx(foretold.passes[0].bytes_merged, rel=0.03)
    share = engine.bytes[1] / foretold.passes[1].bytes_merged
    assert share == pytest.approx(1, rel=0.03) if followed else 0.5 < share < 1
    assert foretold.sampled == len(drawn.features)
    assert foretold.records == sum(len(one.explain) + len(one.score) for one in drawn.features)


def test_time_follows_the_sizes_and_the_rates() -> None:
    """Twice the tokens or half the workers take twice as long to read; one worker merges nothing."""
    config = build({}, {}, "test")
    base, *others = (
        project(config, dataclasses.replace(LARGE, **change), RATES)
        for change in ({}, {"tokens": 2 * 10**9}, {"gpus": 4}, {"gpus": 1})
    )
    seconds = [sum(one.compute_seconds for one in each.passes) for each in (base, *others)]
    assert seconds == pytest.approx([seconds[0], 2 * seconds[0], 2 * seconds[0], 8 * seconds[0]])
    flops = 2 * 2e9 + 26 * 2 * 2304 * 131_072
    by_hand = 1e9 / 8 * (flops / 1e12 + 26 * (131_072 / 1e9 + 200 / 1e8))
    assert base.passes[0].compute_seconds == pytest.approx(by_hand)
    assert [one.bytes_merged for one in others[2].passes] == [0, 0]
    merging = sum(one.merge_seconds for one in base.passes)
    assert base.seconds - seconds[0] - merging == pytest.approx(base.records / RATES.record)
    assert [(one.followed, one.counts_all) for one in base.passes] == [(200, True), (100, False)]
    assert base.worker_bytes > 4 * (2e9 + 26 * 2 * 2304 * 131_072)


def test_the_command_prints_json_and_a_table(tmp_path: Path) -> None:
    rates = ("--product-rate", "1e12", "--count-rate", "1e9", "--follow-rate", "1e8", "--merge-rate", "1e9")
    rates = (*rates, "--record-rate", "1e5")
    words = ("plan", "demo", "--tokens", "1e9", "--features", "131072", "--layers", "26", "--gpus", "8", *rates)
    values = json.loads(autointerp(*words, "--json", cwd=tmp_path).stdout)
    assert values["size"] | {"parameters": 0} == dataclasses.asdict(LARGE) | {"parameters": 0}
    assert values["judging_usd"] == 0
    assert values["sampled"] == 26 * 100
    table = autointerp(*words, cwd=tmp_path).stdout
    assert "2,600" in table
    assert "given" in table
    assert "measured here" not in table
    measured = autointerp("plan", "demo", "--device", "cpu", "--usd-per-feature", "0.5", "--json", cwd=tmp_path)
    values = json.loads(measured.stdout)
    assert all(rate > 0 for rate in values["rates"].values())
    assert values["rates_given"] == []
    assert values["judging_usd"] == 0.5 * values["sampled"]


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--tokens", "0"), ("--features", "-5"), ("--layers", "many"), ("--gpus", "1.5"), ("--tokens", "nan"),
        ("--width", "1e30"), ("--l0", "0"), ("--merge-rate", "fast"), ("--usd-per-feature", "-1"),
    ],
)  # fmt: skip
def test_nonsense_is_one_line(flag: str, value: str, tmp_path: Path) -> None:
    done = autointerp("plan", "demo", flag, value, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"{flag} is {value!r}; give a" in done.stderr


def test_judging_costs_what_real_prompts_cost() -> None:
    """Rules cost nothing; twice the excerpts to judge cost more; a model without a price has no cost."""
    assert usd_per_feature(build({}, {}, "test")) == 0
    model = "openai/gpt-4o-mini"
    changes = {"explainers": [model], "simulator": model, "sampling.fragment": 16}
    few, many = (
        usd_per_feature(build({}, changes | {"sampling.score": {"weighted": n, "top": 2, "random": 2}}, "test"))
        for n in (2, 8)
    )
    assert few is not None
    assert many is not None
    assert 0 < few < many
    unknown = changes | {"simulator": "openai/unheard-of"}
    assert usd_per_feature(build({}, unknown, "test")) is None


def test_more_active_features_than_there_are_is_one_line(tmp_path: Path) -> None:
    done = autointerp("plan", "demo", "--features", "50", cwd=tmp_path)
    assert done.returncode == 2
    assert "--l0 100 is more than all --features 50" in done.stderr
