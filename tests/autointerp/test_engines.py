"""Shards merged in any order against the undivided text; Ray against this process, with a worker killed."""

import os
import signal
import sys
from collections.abc import Mapping
from functools import reduce
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autointerp import api
from autointerp.cluster import Cluster
from autointerp.config import Config, build
from autointerp.runs import on_ray
from autointerp.sampling import engines, priorities, select
from autointerp.sampling.build import build as build_records
from autointerp.sampling.engines import kept
from autointerp.sampling.engines.kept import KeptPasses
from autointerp.sampling.engines.local import LocalEngine
from autointerp.sampling.engines.ray import _Worker, _Workers
from autointerp.sampling.follow import Followed, Follower, Pass, Reader, merged
from autointerp.sampling.shards import SampledText, Shard, boundaries
from sae.common.errors import UserError
from sae.common.progress import Report, Silent
from tests.autointerp.test_sampling import prepared, wide_dictionary
from tests.conftest import PLANTED_SETTINGS, autointerp

COUNTS = {"top": 3, "quantile": 2, "importance": 2, "random": 2, "inactive": 2}
SCHEMES: dict[str, dict[str, Any]] = {
    **{name: {"sampling.explain": {name: n}, "sampling.score": {name: n}} for name, n in COUNTS.items()},
    "random_active": {"sampling.explain": {"random": 3, "random_active": True}},
    "weighted": {"sampling.score": {"weighted": 4, "top": 0, "random": 0}},
    "hard": {"sampling.score": {"top": 2, "hard": 3, "hard_by": "coactivation"}},
    "centred": {"sampling.centred": True},
    "all": {"sampling.explain": COUNTS, "sampling.score": COUNTS | {"weighted": 3}},
    "few fragments": {"sampling.most_fragments": 150, "sampling.population": 300},
}
FEATURES, DOCUMENTS = 60, 30
SHARDS, WIDE, ALL_FOLLOWED = 9, 0, 10**9


@pytest.fixture(autouse=True)
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits to be merged is held from the beginning; that of a hundred shards would take long to clear."""
    monkeypatch.setattr(priorities, "WAITING_ENTRIES", 512)


def experiment(changes: Mapping[str, Any]) -> Config:
    sides = {"sampling.explain": COUNTS, "sampling.score": COUNTS}
    return build(
        {}, {"sampling.features": 9, "sampling.fragment": 8, "runtime.batch_blocks": 5} | sides | changes, "test"
    )


class Sharded:
    """An engine that reads shard after shard and merges them in a given order, pair by pair in a random tree."""

    def __init__(self, n_shards: int, seed: int) -> None:
        self.n_shards, self.rng = n_shards, np.random.default_rng(seed)

    def follow(self, text: SampledText, one: Pass, config: Config, report: Report) -> dict[int, Followed]:
        reader = Reader(text.prepared.subject, [m.dictionary for m in text.prepared.dictionaries], config)
        cuts = boundaries(text.n_blocks, config.runtime.batch_blocks, self.n_shards)
        read = [reader.read(text.shard(*cut), one, lambda n_read, now: None) for cut in cuts]
        return self.merged(read)

    def merged(self, read: list[dict[int, Followed]]) -> dict[int, Followed]:
        while len(read) > 1:
            left, right = (read.pop(int(self.rng.integers(len(read)))) for _ in range(2))
            read.append(merged(left, right))
        return read[0]


def sampled(engine: engines.Engine, config: Config) -> Any:
    ready = prepared(DOCUMENTS)
    ready.dictionaries[0].dictionary = wide_dictionary(FEATURES)
    return build_records(ready, select.select(ready, config, engine, Silent), config)


@pytest.mark.parametrize(
    ("scheme", "followed", "n_shards"),
    [*((scheme, WIDE, SHARDS) for scheme in SCHEMES), ("all", ALL_FOLLOWED, 2), ("all", ALL_FOLLOWED, 10**6)],
)
def test_shards_in_any_order_give_what_the_undivided_text_gives(
    scheme: str, followed: int, n_shards: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a wide dictionary all features are counted first; of the others, a second pass follows the rest."""
    monkeypatch.setattr(select, "FOLLOWED", followed)
    config = experiment(SCHEMES[scheme])
    expected, found = (sampled(engine, config) for engine in (LocalEngine(), Sharded(n_shards, len(scheme))))
    assert expected.features
    assert found.features == expected.features
    assert found.dictionaries == expected.dictionaries
    for one, other in zip(found.features, expected.features, strict=True):
        assert np.array_equal(one.population.acts_ML, other.population.acts_ML)


class Stopped(Exception):
    """Stands for Ctrl-C."""


def test_a_sampling_that_is_stopped_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Stopped in both passes, three times in all, each block is read once; a damaged file is told, and starts over."""
    monkeypatch.setattr(select, "FOLLOWED", WIDE)
    monkeypatch.setattr(kept, "SECONDS", 0.0)
    monkeypatch.setattr(kept, "MOST_WRITING", 1e9)
    config, read = experiment(SCHEMES["all"]), list[int]()
    stops = set[int]()
    one_batch = Follower.add

    def counted(self: Follower, acts: Mapping[str, Any], number_M: Any) -> None:
        if len(read) in stops:
            stops.remove(len(read))
            raise Stopped
        read.append(int(number_M[0]))
        one_batch(self, acts, number_M)

    monkeypatch.setattr(Follower, "add", counted)
    expected = sampled(LocalEngine(), config)
    expected_read = len(read)
    read.clear()
    stops = {3, 4, expected_read - 2}
    engine = LocalEngine(KeptPasses(tmp_path / "passes"))
    for _ in range(3):
        with pytest.raises(Stopped):
            sampled(engine, config)
    found = sampled(engine, config)
    assert len(read) == expected_read
    assert found.features == expected.features
    for one, other in zip(found.features, expected.features, strict=True):
        assert np.array_equal(one.population.acts_ML, other.population.acts_ML)
    read.clear()
    assert sampled(engine, config).features == expected.features
    assert not read
    for path in (tmp_path / "passes").iterdir():
        path.write_bytes(path.read_bytes()[:100])
    assert sampled(engine, config).features == expected.features
    assert len(read) == expected_read
    assert caplog.text.count("so the text is read from its beginning") == 2
    engine = LocalEngine(KeptPasses(tmp_path / "passes"))
    assert sampled(engine, experiment(SCHEMES["all"] | {"runtime.batch_blocks": 4})).features
    assert len(read) > expected_read
    KeptPasses(tmp_path / "passes").clear()
    assert not list(tmp_path.iterdir())


@given(blocks=st.integers(1, 500), at_once=st.integers(1, 64), n_shards=st.integers(1, 90))
@settings(max_examples=200, deadline=None)
def test_shards_cover_the_text_and_begin_with_a_batch(blocks: int, at_once: int, n_shards: int) -> None:
    cuts = boundaries(blocks, at_once, n_shards)
    assert reduce(lambda end, cut: cut[1] if cut[0] == end else -1, cuts, 0) == blocks
    assert all(start % at_once == 0 and start < stop for start, stop in cuts)
    assert len(cuts) == min(n_shards, -(-blocks // at_once))


def test_without_the_package_one_line_says_how_to_install_it(
    planted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    done = run(planted, tmp_path / "run", "--engine", "ray")
    assert done.returncode == 2
    assert done.stderr.strip().endswith("runtime.engine=ray needs the ray package; run: pip install 'autointerp[ray]'")
    assert not (tmp_path / "run" / "run.json").exists()


def run(planted: Path, out: Path, *words: str) -> Any:
    flags = [
        "--dictionary",
        planted / "dictionary",
        "--corpus",
        planted / "corpus.jsonl",
        "--baselines",
        "neurons,random",
    ]
    changes = [word for change in PLANTED_SETTINGS for word in ("--set", change)]
    shape = ["--features", "6", "--set", "runtime.batch_blocks=3", "--out", out, "--quiet"]
    return autointerp("run", *flags, *changes, *shape, *words, cwd=out.parent)


class MortalWorker(_Worker):
    """Is killed, once in a run, while it reads a shard."""

    def read(self, shard: Shard, one: Pass) -> dict[int, Followed]:
        if shard.first_block:
            mark = Path(os.environ["MORTAL"])
            try:
                mark.touch(exist_ok=False)
                os.kill(os.getpid(), signal.SIGKILL)
            except FileExistsError:
                pass
        return super().read(shard, one)


completed = on_ray._complete


def mortal_complete(tasks: Any) -> list[Any]:
    """Is killed, once in a run, while it completes tasks of rules."""
    mark = Path(f"{os.environ['MORTAL']}_tasks")
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return completed(tasks)


@pytest.mark.slow
def test_ray_gives_the_same_files_though_a_worker_is_killed(
    planted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The finished run of one engine is also the other's: the engine is no part of its identity."""
    pytest.importorskip("ray")
    from autointerp.sampling.engines import ray as ray_engine

    monkeypatch.setattr(ray_engine, "_Worker", MortalWorker)
    monkeypatch.setattr(on_ray, "_complete", mortal_complete)
    monkeypatch.setenv("MORTAL", str(tmp_path / "killed"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))  # for the workers, which import this file
    for engine in ("local", "ray"):
        monkeypatch.setenv("AUTOINTERP_CACHE", str(tmp_path / engine))  # nothing is copied from the other run
        done = run(planted, tmp_path / f"{engine}_run", "--engine", engine)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "killed").exists()
    assert (tmp_path / "killed_tasks").exists()
    for name in ("records.parquet", "population.parquet", "features.parquet", "results.jsonl", "leaderboard.json"):
        one, other = ((tmp_path / f"{engine}_run" / name).read_bytes() for engine in ("local", "ray"))
        assert one == other, name
    assert "a Ray worker died on blocks" in (tmp_path / "ray_run" / "run.log").read_text("utf-8")
    assert api.open_run(tmp_path / "ray_run").about["status"] == "complete"
    again = run(planted, tmp_path / "ray_run", "--engine", "local")
    assert again.returncode == 0, again.stderr


@pytest.mark.slow
def test_a_cluster_that_is_not_there_is_one_line(planted: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    done = run(planted, tmp_path / "run", "--engine", "ray", "--set", "runtime.ray_address=127.0.0.1:1")
    assert done.returncode == 2
    assert "cannot use Ray (127.0.0.1:1)" in done.stderr
    assert done.stderr.count("\n") <= 3


def test_a_worker_that_cannot_boot_the_model_says_on_which_machine(tmp_path: Path) -> None:
    from autointerp.sampling.engines.ray import _Setup

    worker = _Worker(_Setup((str(tmp_path / "nothing"), "cpu", False, {}), 1, [], build({}, {}, "test")))
    with pytest.raises(UserError, match=r"Ray worker on .* shared disk"):
        worker.open()


class Nodes:
    """What sizing workers asks of Ray."""

    def __init__(self, *resources: dict[str, float]) -> None:
        self.resources = resources

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": one} for one in self.resources] + [
            {"Alive": False, "Resources": {"CPU": 64}}
        ]

    def put(self, value: Any) -> Any:
        return value


def test_workers_take_a_gpu_each_or_this_process_s_number_of_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of the cluster that is gone, or too small for one worker, has none."""
    monkeypatch.setattr("torch.get_num_threads", lambda: 2)

    def workers(device: str, *resources: dict[str, float]) -> _Workers:
        subject = SimpleNamespace(device=device, name="gpt2", prepend_bos=True)
        text: Any = SimpleNamespace(prepared=SimpleNamespace(subject=subject, dictionaries=[]))
        cluster = object.__new__(Cluster)
        cluster.ray = Nodes(*resources)
        return _Workers.of(cluster, text, build({}, {}, "test"), {})

    large, small, smallest = {"CPU": 8.0, "GPU": 2.0}, {"CPU": 3.0}, {"CPU": 1.0}
    on_cpu, on_gpu = workers("cpu", large, small, smallest), workers("cuda:1", large, small)
    assert (on_cpu.n, on_cpu.options, on_cpu.setup.threads) == (4 + 1, {"num_cpus": 2}, 2)
    assert (on_gpu.n, on_gpu.options, on_gpu.setup.model[1]) == (2, {"num_cpus": 1, "num_gpus": 1}, "cuda")
    with pytest.raises(UserError, match="the Ray cluster has no GPU"):
        workers("cuda", small)
