"""Where the time of a TopK step goes, and what this machine's memory allows: each part beside its own lower bound.

    python tests/benchmarks/training_topk.py [--rounds N]

CPU, one thread, fp32. A part's bound is the larger of its operations at the rate of a dense product and its bytes at
the rate of a copy, both measured between the parts, in seconds of CPU. Counted are bytes that the part cannot do
without if nothing stays in a cache: a row of a weight or of a vector for each entry (B k D numbers), each weight for
each pass of the optimiser. Not a test: it asserts nothing.

Shape suffixes: B vectors, D their width, F features, K kept per vector, N = B K entries, G groups, R = G B.
"""

import argparse
from collections.abc import Callable
from statistics import median
from typing import NamedTuple

import torch

from sae.training.architectures.base import Workspace, square_sum
from sae.training.flat import Scratch
from sae.training.ranks import Ranks
from sae.training.sparse import Product, Transposed, by_row, top_k
from sae.training.trainer import Trainer
from tests.benchmarks.training_methods import CLIP, STEPS, Shape, activations, timed
from tests.sae.training import recipes

SHAPE = Shape(4096, 512, 4096)
PASSES = {"optimiser": 7, "project": 5, "clip": 3, "normalise": 4}
"""Numbers read or written for each weight: Adam reads four and writes three; the others see the decoder, or all."""


class Part(NamedTuple):
    """operations: multiply-add as two. numbers: read or written, four bytes each."""

    name: str
    operations: float
    numbers: float
    do: Callable[[], object]


def parts(shape: Shape) -> list[Part]:
    """Return the parts of one step, on a trainer that has made three steps."""
    workspace = Workspace(shape.d, "cpu", torch.float32, Scratch("cpu"), Ranks())
    recipe, batches = recipes.TopK(expansion=shape.features / shape.d, clip=CLIP, k=shape.k), activations(shape)
    trainer = Trainer(recipe, STEPS, batches[0], workspace)
    for x_BD in batches[:3]:
        trainer.step(x_BD)
    p, adam, autoencoder = trainer.autoencoder.params, trainer.adam, trainer.autoencoder
    z_BD = trainer.scaled(batches[3]) - p["b_dec"]
    pre_BF = torch.addmm(p["b_enc"], z_BD, p["W_enc"].T)
    entries = by_row(*top_k(pre_BF, shape.k))
    turned, grads = Transposed.of(entries, shape.features), autoencoder.grads.buffer
    gathered, weights = shape.batch * shape.k * shape.d, shape.features * shape.d
    some = 2.0 * gathered
    return [
        Part("encoder's product", shape.product, 0, lambda: torch.addmm(p["b_enc"], z_BD, p["W_enc"].T, out=pre_BF)),
        Part("k largest", 0, shape.batch * shape.features, lambda: top_k(pre_BF, shape.k)),
        Part("decoder, and back", 2 * some, 2 * gathered, lambda: Product.of(entries, p["W_dec"]).back(z_BD)),
        Part("entries by feature (a sort)", 0, 0, lambda: Transposed.of(entries, shape.features)),
        Part("decoder's gradient", some, gathered, lambda: turned.times(entries.values_N, z_BD)),
        Part("encoder's gradient", some, gathered, lambda: turned.times(entries.values_N, z_BD)),
        Part("gradient along the rows", 0, PASSES["project"] * weights, autoencoder.project),
        Part("clipping", 0, PASSES["clip"] * 2 * weights, lambda: adam.clip(square_sum(grads, grads.dtype))),
        Part("Adam", 0, PASSES["optimiser"] * 2 * weights, adam.step),
        Part("unit rows", 0, PASSES["normalise"] * weights, autoencoder.normalise),
        Part("the whole step", 0, 0, lambda: trainer.step(batches[0])),
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    count = parser.parse_args().rounds
    torch.set_num_threads(1)
    source, target = torch.randn(2, 2**24).unbind()
    with torch.no_grad():
        made = parts(SHAPE)
        seconds: dict[str, list[float]] = {part.name: [] for part in made}
        copies = []
        for number in range(-1, count):
            for part in made:
                took = timed(part.do)
                copies.append(timed(lambda: target.copy_(source)))
                if number >= 0:
                    seconds[part.name].append(took)
    bandwidth, dense = 2 * 4 * 2**24 / median(copies), SHAPE.product / median(seconds[made[0].name])
    whole = median(seconds[made[-1].name])
    print(f"{SHAPE}: products {dense / 1e9:.0f} GFLOP/s, copies {bandwidth / 1e9:.1f} GB/s (read and written)\n")
    print("| part | ms | share of the step | bound, ms |\n|---|--:|--:|--:|")
    bounds = [max(part.operations / dense, 4 * part.numbers / bandwidth) for part in made]
    for part, bound in zip(made, [*bounds[:-1], sum(bounds)], strict=True):
        took = median(seconds[part.name])
        print(f"| {part.name} | {1e3 * took:.1f} | {took / whole:.0%} | {1e3 * bound:.1f} |")


if __name__ == "__main__":
    main()
