"""Trains several dictionaries at once on one stream of activations.

Shape suffixes: B activation vectors, D their width.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from sae.common.errors import UserError
from sae.common.progress import Progress, Report
from sae.training.architectures.base import Workspace
from sae.training.architectures.recipe import Recipe
from sae.training.flat import Scratch
from sae.training.ranks import Ranks
from sae.training.resampling import Resampler, due
from sae.training.trainer import Measured, Trainer

Tell = Callable[[dict[str, Any]], None]
"""Takes one row of metrics: a dictionary's name, the step, and what was measured of it."""
MOSTLY_DEAD = 0.9
DIVERGED = 1e6
"""FVU above which a training has diverged; initial weights are always below it."""


@dataclass
class Learner:
    """Holds a trainer in the loop, the time it took, and what went wrong with it."""

    trainer: Trainer
    seconds: float = 0.0
    timed_steps: int = 0
    problem: str | None = None
    """Set when its loss is no longer finite or absurd: it is left out from then on."""
    last: Measured | None = None
    warned: set[str] = field(default_factory=set)

    @property
    def name(self) -> str:
        return self.trainer.recipe.label

    @property
    def running(self) -> bool:
        return self.problem is None and not self.trainer.done

    @property
    def seconds_per_step(self) -> float:
        return self.seconds / max(1, self.timed_steps)


def enrol(recipes: Sequence[Recipe], steps: int, first_BD: Tensor, workspace: Workspace) -> list[Learner]:
    """Return a learner for each recipe; all begin from the same batch, the first process's."""
    first_BD = workspace.ranks.same(first_BD)
    return [Learner(Trainer(recipe, steps, first_BD, workspace)) for recipe in recipes]


def learn(
    recipes: Sequence[Recipe],
    steps: int,
    batches: Iterator[Tensor],
    device: str,
    report: Report,
    d_out: int | None = None,
) -> list[Learner]:
    """Train recipes in this process, in single precision, from the beginning to the end.

    Args:
        d_out: the width of what transcoders write, which stands right of what they read in every batch.
    """
    first_BD = next(batches)
    d_in = first_BD.shape[1] - (d_out or 0)
    workspace = Workspace(d_in, device, torch.float32, Scratch(device), Ranks(), d_out=d_out)
    learners = enrol(recipes, steps, first_BD, workspace)
    train(learners, chain([first_BD], batches), report)
    return learners


def finished(learner: Learner) -> Trainer:
    """Return its trainer. Raises UserError if the training went wrong."""
    if learner.problem:
        raise UserError(f"dictionary {learner.name} was not finished: {learner.problem}")
    return learner.trainer


@torch.no_grad()
def train(
    learners: Sequence[Learner],
    batches: Iterator[Tensor],
    report: Report,
    every: int = 50,
    tell: Tell = lambda row: None,
    after_step: Callable[[int], None] = lambda step: None,
) -> None:
    """Train all of them, each step on the same batch, until they are done.

    Args:
        every: steps between two measurements, which wait for the device.
        tell: takes the rows; what is not an ordinary measurement is also said as a line of the report.
        after_step: called with the number of steps done.
    """
    total, started = max(learner.trainer.steps for learner in learners), time.perf_counter()
    first = max(learner.trainer.steps_done for learner in learners)
    with report(_title(learners)) as progress:
        loud = partial(_tell_and_say, tell, progress)
        for step in range(first + 1, total + 1):
            running = [learner for learner in learners if learner.running]
            if not running:
                break
            x_BD = next(batches)
            measured = step % every == 0 or step == total
            for learner in running:
                _step(learner, x_BD, measured, loud)
            _resample([learner for learner in running if learner.running], batches, loud)
            vectors = (step - first) * len(x_BD) * running[0].trainer.workspace.ranks.parts
            rate = vectors / (time.perf_counter() - started)
            progress.update(step - first, total - first, _note(running, rate) if measured else None)
            after_step(step)


def _title(learners: Sequence[Learner]) -> str:
    names, more = [learner.name for learner in learners[:2]], len(learners) - 2
    return f"training {', '.join(names)}" + (f" and {more} more" if more > 0 else "")


def _tell_and_say(tell: Tell, progress: Progress, row: dict[str, Any]) -> None:
    tell(row)
    line = f"{row['features']} dead features start over" if row["status"] == "resampled" else row.get("problem")
    if line:
        progress.say(f"{row['dictionary']}, step {row['step']}: {line}")


def _step(learner: Learner, x_BD: Tensor, measured: bool, tell: Tell) -> None:
    """Run one step. On a GPU, where waiting for it would cost, only measured steps are timed."""
    timed = measured or not x_BD.is_cuda
    started = _now(x_BD) if timed else 0.0
    learner.trainer.step(x_BD)
    if timed:
        learner.seconds += _now(x_BD) - started
        learner.timed_steps += 1
    if measured:
        _look(learner, learner.trainer.measure(x_BD), tell)


def _now(x_BD: Tensor) -> float:
    if x_BD.is_cuda:
        torch.cuda.synchronize(x_BD.device)
    return time.perf_counter()


def _look(learner: Learner, measured: Measured, tell: Tell) -> None:
    """Report what was measured, and notice what has gone wrong."""
    trainer, learner.last = learner.trainer, measured
    row = {"dictionary": learner.name, "step": trainer.steps_done, "vectors": trainer.vectors}
    if not math.isfinite(measured.loss) or measured.fvu > DIVERGED:
        learner.problem = (
            f"its loss is {measured.loss:.3g} at step {trainer.steps_done}: lower lr, or clip the gradient"
        )
        tell(row | {"status": "error", "problem": learner.problem})
        return
    tell(row | {"status": "ok"} | vars(measured) | _spent(learner))
    if measured.l0 == 0:
        penalised = trainer.recipe.sparsity != "k"
        remedy = "the sparsity penalty is too strong for this loss scaling" if penalised else "lower lr"
        _warn(learner, "inactive", f"no feature is active: {remedy}", tell)
    elif measured.dead > MOSTLY_DEAD:
        _warn(learner, "dead", f"{measured.dead:.0%} of its features are dead", tell)


def _spent(learner: Learner) -> dict[str, Any]:
    return {
        "lr": float(learner.trainer.adam.rate),
        "seconds_per_step": learner.seconds_per_step,
        "megabytes": learner.trainer.bytes / 2**20,
    }


def _warn(learner: Learner, kind: str, text: str, tell: Tell) -> None:
    """Warn once for each kind of trouble."""
    if kind not in learner.warned:
        learner.warned.add(kind)
        tell({"dictionary": learner.name, "step": learner.trainer.steps_done, "status": "warning", "problem": text})


def _resample(running: Sequence[Learner], batches: Iterator[Tensor], tell: Tell) -> None:
    """Resample those whose time it is, all from the same inputs; before anything is put down of this step."""
    resamplers = [(learner, Resampler(learner.trainer)) for learner in running if due(learner.trainer)]
    for number in range(max((resampler.n_batches for _, resampler in resamplers), default=0)):
        x_BD = next(batches)
        for _, resampler in resamplers:
            if number < resampler.n_batches:
                resampler.add(x_BD)
    for learner, resampler in resamplers:
        row = {"dictionary": learner.name, "step": learner.trainer.steps_done, "status": "resampled"}
        tell(row | {"features": resampler.finish()})


def _note(running: Sequence[Learner], rate: float) -> str:
    """Return the progress line's note: the rate, and FVU, L0 and dead share of the first two dictionaries."""
    figures = [
        f"{learner.name} FVU {measured.fvu:.3f} L0 {measured.l0:.1f} dead {measured.dead:.0%}"
        for learner in running[:2]
        if (measured := learner.last) is not None
    ]
    return f"{rate:,.0f} vectors/s; " + ", ".join(figures)
