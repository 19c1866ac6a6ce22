"""What the training benchmarks time: a shape, a way of training at it, ours of every kind, and how rounds are timed.

Knows nothing about other libraries (`training_peers.py`) or what is printed (`training.py`, `training_gpu.py`).

Shape suffixes: B activation vectors, D their width, F features.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor

from sae.training.architectures.base import Workspace
from sae.training.flat import Scratch
from sae.training.ranks import Ranks
from sae.training.trainer import Trainer
from tests.sae.training import recipes

STEPS = 100_000
"""Of the training that the timed steps are the beginning of: schedules, no end."""
BATCHES = 4
CLIP = 1.0

Step = Callable[[Tensor], object]


class Shape(NamedTuple):
    """batch: activation vectors of width d. features: m in the tables. k: active per vector in the TopK family."""

    batch: int
    d: int
    features: int
    k: int = 32

    @property
    def product(self) -> float:
        """Floating point operations of one dense product, a multiply-add being two."""
        return 2.0 * self.batch * self.d * self.features

    @property
    def sparse(self) -> float:
        """One dense product; all others, forward and backward, touch the k active features only."""
        return self.product + 8.0 * self.batch * self.d * self.k

    @property
    def skip(self) -> float:
        """A transcoder's linear map past the features, forward and its gradient."""
        return 4.0 * self.batch * self.d * self.d

    def __str__(self) -> str:
        return f"B = {self.batch}, d = {self.d}, m = {self.features}, k = {self.k}"


@dataclass(frozen=True)
class Method:
    """A way of training. flops: the fewest operations of a step. make: from a first batch to the step function.

    `rival` names which of ours it is compared with; None: it is one of ours.
    """

    name: str
    flops: float
    make: Callable[[Tensor], Step]
    rival: str | None = None


def ours(shape: Shape) -> list[Method]:
    """Every architecture, with all that a step of `sae train` does, and the gradient clipped."""
    wide, k = shape.features / shape.d, shape.k
    floors: list[tuple[recipes.Recipe, float]] = [
        (recipes.ReLU(expansion=wide, clip=CLIP, l1=0.01), 5 * shape.product),
        (recipes.Tied(expansion=wide, clip=CLIP, l1=0.01), 5 * shape.product),
        (recipes.Gated(expansion=wide, clip=CLIP, l1=0.01), 8 * shape.product),
        (recipes.JumpReLU(expansion=wide, clip=CLIP, l0=0.001), 5 * shape.product),
        (recipes.TopK(expansion=wide, clip=CLIP, k=k), shape.sparse),
        (recipes.BatchTopK(expansion=wide, clip=CLIP, k=k), shape.sparse),
        (recipes.Matryoshka(expansion=wide, clip=CLIP, k=k), shape.sparse),
    ]
    return [_our_method(recipe, flops) for recipe, flops in floors] + [
        _our_transcoder(recipe.model_copy(update={"skip": True}), flops + shape.skip)
        for recipe, flops in (floors[0], floors[4])
    ]


def _our_transcoder(recipe: recipes.Recipe, flops: float) -> Method:
    """A transcoder as wide on both sides, whose target is its input: a step takes the same time for any."""

    def make(first_BD: Tensor) -> Step:
        pairs: dict[int, Tensor] = {}
        step = our_step([recipe], torch.cat([first_BD, first_BD], 1), first_BD.shape[1])

        def on_pairs(x_BD: Tensor) -> None:
            if x_BD.data_ptr() not in pairs:
                pairs[x_BD.data_ptr()] = torch.cat([x_BD, x_BD], 1)
            step(pairs[x_BD.data_ptr()])

        return on_pairs

    return Method(f"ours, {recipe.architecture} transcoder with skip", flops, make)


def _our_method(recipe: recipes.Recipe, flops: float) -> Method:
    return Method(f"ours, {recipe.architecture}", flops, lambda first_BD: our_step([recipe], first_BD))


def our_step(expected: Sequence[recipes.Recipe], first_BD: Tensor, d_out: int | None = None) -> Step:
    """A step of all of them on the same batch, as `sae.training.loop` drives them; bf16 products on a GPU.

    With `d_out`, transcoders: so many columns of the batch, the last ones, are what they write.
    """
    device = first_BD.device.type
    compute = torch.bfloat16 if device == "cuda" else torch.float32
    d_in = first_BD.shape[1] - (d_out or 0)
    workspace = Workspace(d_in, device, compute, Scratch(device), Ranks(), experimental=True, d_out=d_out)
    trainers = [Trainer(recipe, STEPS, first_BD, workspace) for recipe in expected]

    @torch.no_grad()
    def step(x_BD: Tensor) -> None:
        for trainer in trainers:
            trainer.step(x_BD)

    return step


def auxiliary_cost(shape: Shape, count: int, one_in: int) -> float:
    """How many times as long a TopK step takes when AuxK teaches one feature in so many as when none is dead."""
    batches = activations(shape)
    recipe = recipes.TopK(expansion=shape.features / shape.d, clip=CLIP, k=shape.k)
    workspace = Workspace(shape.d, "cpu", torch.float32, Scratch("cpu"), Ranks())
    trainer = Trainer(recipe, STEPS, batches[0], workspace)
    seconds: dict[bool, list[float]] = {False: [], True: []}
    with torch.no_grad():
        for number in range(2 * (count + 1)):
            taught = number % 2 == 1
            trainer.autoencoder.dead_S = torch.arange(0, shape.features, one_in) if taught else None
            seconds[taught].append(timed(trainer.step, batches[number % BATCHES]))
    return median(slow / fast for slow, fast in zip(seconds[True][1:], seconds[False][1:], strict=True))


def activations(shape: Shape, device: str = "cpu") -> list[Tensor]:
    """Batches like an MLP's after its ReLU, which take turns; bf16 on a GPU, as a subject would give them there."""
    generator = torch.Generator().manual_seed(0)
    scale_D = 3 * torch.rand(shape.d, generator=generator)
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    return [
        (torch.randn(shape.batch, shape.d, generator=generator).relu() * scale_D).to(device, dtype)
        for _ in range(BATCHES)
    ]


class Products:
    """The three kinds of product in a dense step, to be timed for the rate that bounds it."""

    def __init__(self, shape: Shape, device: str, dtype: torch.dtype) -> None:
        b, d, f = shape.batch, shape.d, shape.features
        self._rows_BD, self._out_BD = torch.randn((2, b, d), device=device).to(dtype)
        self._weights_FD, self._out_FD = torch.randn((2, f, d), device=device).to(dtype)
        self._f_BF = torch.randn((b, f), device=device).to(dtype)
        self._out_BF = torch.empty_like(self._f_BF)

    def encode(self) -> None:
        """Twice in a step: the pre-activations, and the gradient at the features."""
        torch.mm(self._rows_BD, self._weights_FD.T, out=self._out_BF)

    def decode(self) -> None:
        """Once."""
        torch.mm(self._f_BF, self._weights_FD, out=self._out_BD)

    def weigh(self) -> None:
        """Twice: the gradients of the decoder and of the encoder."""
        torch.mm(self._f_BF.T, self._rows_BD, out=self._out_FD)

    def seconds(self) -> float:
        """Of the five products of a step, on the CPU."""
        return 2 * timed(self.encode) + timed(self.decode) + 2 * timed(self.weigh)


def timed(do: Callable[..., object], *arguments: Tensor) -> float:
    """Return the seconds of CPU, which other work on the machine lengthens less than those of the clock."""
    started = time.process_time()
    do(*arguments)
    return time.process_time() - started


class Timing(NamedTuple):
    """Of one step: its seconds, and the rate of products (operations a second) just before and after it."""

    seconds: float
    rate: float


def rounds(methods: Sequence[Method], shape: Shape, count: int) -> dict[str, list[Timing]]:
    """Timings on the CPU by name: every method in turn, one step a round, the products' rate taken between any two.

    The speed of a shared machine varies over minutes, so only what was measured side by side is ever compared.
    """
    batches, products = activations(shape), Products(shape, "cpu", torch.float32)
    steps = {method.name: method.make(batches[0]) for method in methods}
    result: dict[str, list[Timing]] = {name: [] for name in steps}
    for number in range(-1, count):  # the first round makes working memory and is not counted
        before = products.seconds()
        for name, step in steps.items():
            took = timed(step, batches[number % BATCHES])
            after = products.seconds()
            if number >= 0:
                result[name].append(Timing(took, 2 * 5 * shape.product / (before + after)))
            before = after
    return result


def share_of_rate(timings: Sequence[Timing], flops: float) -> float:
    """Of the measured rate that a step which needs `flops` operations made use of: the median."""
    return median(flops / timing.rate / timing.seconds for timing in timings)


def ratio(slow: Sequence[Timing], fast: Sequence[Timing]) -> float:
    """Of their speeds, round by round at the rate of each: the median."""
    pairs = zip(slow, fast, strict=True)
    return median(one.seconds * one.rate / (other.seconds * other.rate) for one, other in pairs)
