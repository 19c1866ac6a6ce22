"""Two processes learn what one does, by data and by features; who may join; what is measured is of the whole."""

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import Tensor

from sae.common.errors import UserError
from sae.training import trainer
from sae.training.flat import Flat
from sae.training.ranks import Ranks, join
from tests.conftest import make_once
from tests.sae.training import ranks_worker as worker

ROOT = Path(__file__).parents[3]
Results = dict[str, Tensor]
NAMES = [recipe.label for recipe in worker.RECIPES]
pytestmark = pytest.mark.slow


def together(folder: Path) -> None:
    """Let two processes write what they found, started as `torchrun --nproc_per_node 2` does."""
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.sae.training.ranks_worker", str(folder), *free_ports(2)]
    started = [
        subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        outputs = [process.communicate(timeout=900)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 0], "\n".join(outputs)


def free_ports(count: int) -> list[str]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for free in sockets:
            free.bind(("127.0.0.1", 0))
        return [str(free.getsockname()[1]) for free in sockets]


@pytest.fixture(scope="module")
def alone() -> Results:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "LOOK_EVERY", worker.LOOK_EVERY)
        return worker.run(Ranks())


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_once(tmp_path_factory, "ranks", together)


@pytest.fixture(scope="module")
def by_data(pair: Path) -> list[Results]:
    return [load_file(pair / f"data-{rank}.safetensors") for rank in range(2)]


@pytest.fixture(scope="module")
def by_features(pair: Path) -> list[Results]:
    return [load_file(pair / f"features-{rank}.safetensors") for rank in range(2)]


def assert_close(result: Results, expected: Results, prefix: str) -> None:
    """As far as sums in float64 agree that are taken in another order."""
    names = [name for name in expected if name.startswith(prefix)]
    assert names
    for name in names:
        torch.testing.assert_close(result[name], expected[name], rtol=1e-9, atol=1e-11, equal_nan=True, msg=name)


def test_what_is_tested_happens(alone: Results) -> None:
    """Features die, AuxK and resampling bring them back, gradients are clipped, batches are measured."""
    assert all(len(alone[f"{name}/measured"]) == worker.STEPS // worker.EVERY for name in NAMES)
    assert alone["relu/resampled"][0] >= len(worker.SILENCED)
    for name, silenced in (("topk", worker.SILENCED), ("batch_topk", worker.SILENCED_FIRST)):
        assert alone[f"{name}/measured"][:, 3].max() >= len(silenced) / 96
        taught = alone[f"{name}/made/W_enc_DF"].norm(dim=0)[list(silenced)] > 3 * worker.FAINT
        assert taught.sum() > 1, name


@pytest.mark.parametrize("name", [name for name in NAMES if name != "batch_topk"])
def test_halves_of_the_batch_teach_as_the_whole(name: str, alone: Results, by_data: list[Results]) -> None:
    assert_close(by_data[0], alone, f"{name}/")


@pytest.mark.parametrize("name", NAMES)
def test_processes_that_share_the_batch_stay_bitwise_equal(name: str, by_data: list[Results]) -> None:
    for key in by_data[0]:
        if key.startswith(f"{name}/"):
            assert torch.equal(by_data[0][key], by_data[1][key]), key


def test_batch_topk_keeps_k_in_each_half(by_data: list[Results], alone: Results) -> None:
    l0 = by_data[0]["batch_topk/measured"][:, 1]
    assert (l0 <= 3).all()
    assert (l0 > 2.5).all()
    threshold, whole = by_data[0]["batch_topk/state/threshold"], alone["batch_topk/state/threshold"]
    assert float(threshold) == pytest.approx(float(whole), rel=0.1)


@pytest.mark.parametrize("name", NAMES)
def test_halves_of_the_features_learn_as_all_together(name: str, alone: Results, by_features: list[Results]) -> None:
    for kind in ("made", "measured", "resampled"):
        assert_close(by_features[0], alone, f"{name}/{kind}")


@pytest.mark.parametrize("name", NAMES)
def test_processes_that_share_the_features_give_one_dictionary(name: str, by_features: list[Results]) -> None:
    for key in by_features[0]:
        shared = "/state/" not in key or key.endswith(("/threshold", "/floor"))
        if key.startswith(f"{name}/") and shared:
            assert torch.equal(by_features[0][key], by_features[1][key]), key


def test_one_process_exchanges_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    ranks = join("data")
    value = torch.arange(3.0)
    for exchange in (
        ranks.own_features, ranks.gather_features, ranks.sum_over_features, ranks.least_over_features,
        ranks.gather_parts, ranks.sum_over_parts, ranks.average_over_parts, ranks.same,
    ):  # fmt: skip
        assert exchange(value) is value
    assert ranks.kept(value, 1) is value
    assert ranks.first
    assert ranks.any(True)
    assert not ranks.any(False)
    flat = Flat({"a": (2,)}, "cpu")
    flat["a"].copy_(torch.tensor([3.0, 4.0]))
    assert float(ranks.square_norm(flat)) == 25
    ranks.barrier()
    ranks.leave()


ENVIRONMENT = {"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"MASTER_ADDR": ""}, "WORLD_SIZE is 2, but not set: MASTER_ADDR; start"),
        ({"RANK": "", "MASTER_PORT": ""}, "not set: RANK, MASTER_PORT;"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two', not a number"),
        ({"RANK": "2"}, "RANK is 2 of WORLD_SIZE 2"),
        ({"WORLD_SIZE": "0", "RANK": "0"}, "RANK is 0 of WORLD_SIZE 0"),
        ({"MASTER_PORT": "http"}, "MASTER_PORT is 'http', not a number"),
    ],
)
def test_a_wrong_environment_is_said_in_a_line(
    changed: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (ENVIRONMENT | changed).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=message) as raised:
        join("data", "cpu")
    assert "\n" not in str(raised.value)
    assert not dist.is_initialized()


def test_processes_that_do_not_meet_are_said_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)

    def refuse(backend: str, timeout: object) -> None:
        raise dist.DistNetworkError("The client socket has timed out.\nmore\nlines")

    monkeypatch.setattr(dist, "init_process_group", refuse)
    with pytest.raises(
        UserError, match=r"^process 1 met no others at 127.0.0.1:29500: The client socket has timed out\.$"
    ):
        join("features", "cpu")


def test_a_process_without_a_gpu_of_its_own_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (ENVIRONMENT | {"LOCAL_RANK": "1"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match="process 1 of this machine has no GPU, there are 1; start at most 1"):
        join("data", experimental=True)
    with pytest.raises(UserError, match=r"several GPUs has never been tried; set runtime\.experimental=true"):
        join("data")
