"""When a step runs, is recorded and is replayed, with a stand-in for CUDA; on a GPU, that a recording does the same."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import pytest
import torch
from torch import Tensor

from sae.training import capture, trainer
from sae.training.architectures.base import Workspace
from sae.training.capture import WARM_UP, Captured
from sae.training.flat import Scratch
from sae.training.ranks import Ranks
from tests.sae.training import recipes
from tests.sae.training.superposition import batches, workspace


@dataclass(frozen=True)
class Result:
    total: Tensor


class FakeCuda:
    """Streams that are names, and graphs that count their replays; what is recorded is run, on whatever is there."""

    def __init__(self) -> None:
        self.stream = "main"
        self.waits: list[tuple[str, str]] = []
        self.recorded: list[tuple[Any, Any, str]] = []
        """Graph, pool, stream of every recording."""

    def graph_class(self) -> type:
        class Graph:
            replays = 0

            def pool(self) -> tuple[str, int]:
                return "pool of", id(self)

            def replay(self) -> None:
                self.replays += 1

        return Graph

    def stream_class(self) -> type:
        waits = self.waits

        class Stream:
            def __init__(self, name: str) -> None:
                self.name = name

            def wait_stream(self, other: "Stream") -> None:
                waits.append((self.name, other.name))

        return Stream

    @contextmanager
    def on(self, stream: Any) -> Iterator[None]:
        before, self.stream = self.stream, stream.name
        yield
        self.stream = before

    @contextmanager
    def graph(self, graph: Any, pool: Any, stream: Any, capture_error_mode: str) -> Iterator[None]:
        self.recorded.append((graph, pool, stream.name))
        with self.on(stream):
            yield


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCuda]:
    fake = FakeCuda()
    stream = fake.stream_class()
    for name, value in {
        "CUDAGraph": fake.graph_class(), "graph": fake.graph, "stream": fake.on,
        "Stream": lambda device: stream("side"), "current_stream": lambda device: stream("main"),
    }.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, value)
    capture.side_stream.cache_clear()
    capture._ALIVE.clear()
    yield fake
    capture.side_stream.cache_clear()
    capture._ALIVE.clear()


class Step:
    """Sums a batch; remembers what it was called with, and on which stream."""

    def __init__(self, cuda: FakeCuda | None = None) -> None:
        self.cuda = cuda
        self.calls: list[Tensor] = []
        self.streams: list[str] = []

    def __call__(self, x_BD: Tensor) -> Result:
        self.calls.append(x_BD)
        self.streams.append(self.cuda.stream if self.cuda else "")
        return Result(x_BD.sum())


def on_gpu(ranks: Ranks | None = None) -> Workspace:
    return Workspace(3, "cuda", torch.float32, Scratch("cuda"), ranks or Ranks(), experimental=True)


def batch(value: float, b: int = 2) -> Tensor:
    return torch.full((b, 3), value)


def test_elsewhere_every_step_runs() -> None:
    step = Step()
    captured: Captured[Result] = Captured(step, workspace())
    sums = [float(captured(batch(n), replay=True).total) for n in range(10)]
    assert sums == [6.0 * n for n in range(10)]
    assert len(step.calls) == 10


def test_steps_run_beside_then_one_is_recorded_then_all_are_replayed(cuda: FakeCuda) -> None:
    step = Step(cuda)
    captured = Captured(step, on_gpu())
    for n in range(WARM_UP):
        assert float(captured(batch(n), replay=True).total) == 6 * n
    assert step.streams == ["side"] * WARM_UP
    assert cuda.waits == [("side", "main"), ("main", "side")] * WARM_UP
    assert not cuda.recorded

    results = [captured(batch(10 + n), replay=True) for n in range(5)]
    ((graph, pool, stream),) = cuda.recorded
    assert (pool, stream, graph.replays) == (None, "side", 5)
    assert len(step.calls) == WARM_UP + 1
    assert all(result is results[0] for result in results)
    assert torch.equal(step.calls[-1], batch(14))  # what it was recorded with is where later batches are put
    assert float(results[0].total) == 60  # of the recording's first run, copied to where the result was before


def test_what_must_not_be_replayed_runs_where_it_is(cuda: FakeCuda) -> None:
    step = Step(cuda)
    captured = Captured(step, on_gpu())
    for _ in range(WARM_UP + 2):
        captured(batch(1), replay=False)
    assert step.streams == ["main"] * (WARM_UP + 2)
    for _ in range(WARM_UP):
        captured(batch(1), replay=True)
    assert not cuda.recorded
    kept = captured(batch(1), replay=True)
    other = captured(batch(2), replay=False)
    assert float(other.total) == 12
    assert other is not kept
    assert captured(batch(1), replay=True) is kept
    assert len(cuda.recorded) == 1


def test_each_shape_is_recorded_once_and_all_share_memory(cuda: FakeCuda) -> None:
    first, second = Captured(Step(cuda), on_gpu()), Captured(Step(cuda), on_gpu())
    for _ in range(WARM_UP + 2):
        for b in (2, 4):
            first(batch(1, b), replay=True)
        second(batch(1), replay=True)
    graphs, pools, _ = zip(*cuda.recorded, strict=True)
    assert len(graphs) == 3
    assert pools[0] is None
    assert set(pools[1:]) <= {graph.pool() for graph in graphs}


def test_memory_of_recordings_that_are_gone_is_not_asked_for(cuda: FakeCuda) -> None:
    """A pool without a graph cannot be shared: torch stops with an internal error."""
    for _ in range(2):
        captured = Captured(Step(cuda), on_gpu())
        for _ in range(WARM_UP + 1):
            captured(batch(1), replay=True)
        del captured
        cuda.recorded[-1] = (None, cuda.recorded[-1][1], "side")
    assert [pool for _, pool, _ in cuda.recorded] == [None, None]


def test_several_processes_are_not_recorded(cuda: FakeCuda) -> None:
    ranks = Ranks()
    ranks.world = 2
    step = Step(cuda)
    captured = Captured(step, on_gpu(ranks))
    for _ in range(WARM_UP + 3):
        captured(batch(1), replay=True)
    assert len(step.calls) == WARM_UP + 3
    assert not cuda.recorded


RECIPES: list[Callable[[], recipes.Recipe]] = [
    lambda: recipes.ReLU(l1=0.05, clip=1, expansion=4),
    lambda: recipes.Tied(l1=0.05, expansion=4),
    lambda: recipes.Gated(l1=0.05, expansion=4),
    lambda: recipes.JumpReLU(l0=0.01, bandwidth=0.1, threshold=0.1, expansion=4),
    lambda: recipes.TopK(k=3, expansion=4),
    lambda: recipes.BatchTopK(k=3, expansion=4),
    lambda: recipes.Matryoshka(k=3, expansion=4),
]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("make", RECIPES)
def test_a_recorded_step_does_the_same(make: Callable[[], recipes.Recipe], monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve steps, with and without recording, of which nine are replays."""
    made = []
    for warm_up in (WARM_UP, 1000):
        monkeypatch.setattr(capture, "WARM_UP", warm_up)
        steps = [x_BD.cuda() for x_BD in islice(batches(0, 256), 12)]
        where = replace(workspace(), device="cuda", scratch=Scratch("cuda"), experimental=True)
        learner = trainer.Trainer(make(), len(steps), steps[0], where)
        for x_BD in steps:
            learner.step(x_BD)
        made.append((learner.autoencoder.params.buffer.clone(), learner.measure(steps[-1])))
    (recorded, measured), (eager, expected) = made
    torch.testing.assert_close(recorded, eager, rtol=1e-3, atol=1e-4)
    assert measured.loss == pytest.approx(expected.loss, rel=1e-3)
