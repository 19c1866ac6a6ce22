"""Saves the state of a training to disk: complete or absent, the newest only.

Every process writes its own part, `STEP.RANK.safetensors`; when all are there, the first one writes `latest.json`,
which names the step, and removes all else. So what `latest.json` names is complete.
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from sae.common.errors import UserError
from sae.common.files import write_atomic, write_atomic_with
from sae.training.loop import Learner
from sae.training.ranks import Ranks

LATEST = "latest.json"


@dataclass(frozen=True)
class Checkpoints:
    """Keeps the checkpoints of one training, in a folder of its own."""

    folder: Path
    ranks: Ranks

    @property
    def step(self) -> int | None:
        """Steps done at the newest one; None if there is none."""
        latest = self.folder / LATEST
        with self._readable(latest):
            return int(json.loads(latest.read_text("utf-8"))["step"]) if latest.is_file() else None

    def save(self, step: int, learners: Sequence[Learner], position: Any) -> None:
        """Save everything that the rest of the training depends on; `position` is the next batch's."""
        tensors = {
            f"{number}.{name}": tensor.detach().cpu()
            for number, learner in enumerate(learners if self._holder == self.ranks.rank else ())
            for name, tensor in learner.trainer.tensors().items()
        }
        facts = {
            "step": step,
            "world": self.ranks.world,
            "parts": self.ranks.parts,
            "position": position,
            "learners": [_of(one) for one in learners],
        }
        metadata = {"facts": json.dumps(facts)}
        write_atomic_with(self._part(step, self.ranks.rank), lambda temporary: save_file(tensors, temporary, metadata))
        self.ranks.barrier()
        if self.ranks.first:
            write_atomic(self.folder / LATEST, json.dumps({"step": step}))
            self._remove_all_but(step)

    def _remove_all_but(self, step: int) -> None:
        """Remove older parts, incomplete parts, and what was left behind when the process was killed while writing."""
        for old in self.folder.iterdir():
            if old.is_dir():
                shutil.rmtree(old, ignore_errors=True)
            elif old.name != LATEST and not old.name.startswith(f"{step}."):
                old.unlink()

    def position(self) -> Any:
        """Return the next batch's position at the newest one; None if there is none.

        Raises UserError if it was made by another number of processes, or by as many that shared something else.
        """
        if self.step is None:
            return None
        facts = self._facts()
        if facts["world"] != self.ranks.world:
            raise UserError(
                f"{self.folder} was written by {facts['world']} process(es), and here are {self.ranks.world}; continue "
                "with as many"
            )
        if facts["parts"] != self.ranks.parts:
            split = "data" if facts["parts"] > 1 else "features"
            raise UserError(f"{self.folder} was written with runtime.split={split}; continue with that")
        return facts["position"]

    def restore(self, learners: Sequence[Learner]) -> None:
        """Set learners to the newest one, if there is one."""
        if self.step is None:
            return
        with self._opened(self._holder) as file:
            kept = [
                {name: file.get_tensor(f"{number}.{name}") for name in learner.trainer.tensors()}
                for number, learner in enumerate(learners)
            ]
        for learner, tensors, facts in zip(learners, kept, self._facts()["learners"], strict=True):
            learner.trainer.restore(tensors, facts["trainer"])
            learner.seconds, learner.timed_steps = facts["seconds"], facts["timed_steps"]
            learner.problem, learner.warned = facts["problem"], set(facts["warned"])

    def _facts(self) -> dict[str, Any]:
        with self._opened(self.ranks.rank) as file:
            facts: dict[str, Any] = json.loads(file.metadata()["facts"])
        return facts

    @contextmanager
    def _opened(self, rank: int) -> Iterator[Any]:
        assert self.step is not None
        path = self._part(self.step, rank)
        with self._readable(path), safe_open(path, framework="pt") as file:
            yield file

    @contextmanager
    def _readable(self, path: Path) -> Iterator[None]:
        """Raise UserError if what is read is damaged or not there."""
        try:
            yield
        except (OSError, SafetensorError, ValueError, LookupError, TypeError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"checkpoint {path} is damaged ({reason}); remove {self.folder} to start over") from error

    def _part(self, step: int, rank: int) -> Path:
        return self.folder / f"{step}.{rank}.safetensors"

    @property
    def _holder(self) -> int:
        """The process whose part has this one's tensors: where only the batch is shared they are equal everywhere."""
        return 0 if self.ranks.parts > 1 else self.ranks.rank


def _of(learner: Learner) -> dict[str, Any]:
    return {
        "trainer": learner.trainer.facts(),
        "seconds": learner.seconds,
        "timed_steps": learner.timed_steps,
        "problem": learner.problem,
        "warned": sorted(learner.warned),
    }
