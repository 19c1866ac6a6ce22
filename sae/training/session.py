"""Does what `sae train` does: trains a config's dictionaries into a folder, or continues a stopped training.

The folder: `train.json` (config, status, versions), `metrics.jsonl`, `checkpoint/`, the toy's `subject/` if there is
one, and for every dictionary a folder in our format."""

import importlib.metadata
import json
import platform
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sae import formats
from sae.common.errors import UserError
from sae.common.files import LOCK, TEMPORARY, alone, write_atomic
from sae.common.progress import Report, Silent
from sae.common.resources import path_of
from sae.data.activation_stream import Batches
from sae.data.blocks import Blocks
from sae.data.split import VERSION as SPLIT_VERSION
from sae.dictionary import Dictionary
from sae.measuring.evaluate import Evaluation, evaluate_all
from sae.models.cache import digest
from sae.models.device import choose_device, device_with_doubles
from sae.training.architectures.base import Workspace
from sae.training.checkpoint import LATEST, Checkpoints
from sae.training.config import TrainConfig
from sae.training.flat import Scratch
from sae.training.inputs import Inputs, prepare
from sae.training.interrupt import Stop, interrupted
from sae.training.loop import Learner, Tell, enrol, train
from sae.training.ranks import Ranks, join
from sae.training.sinks import Sink, json_lines, to_all, weights_and_biases

ABOUT, METRICS, CHECKPOINTS = "train.json", "metrics.jsonl", "checkpoint"
VERSION = 1
"""Version of train.json."""
ASK_EVERY = 16
"""Steps between two agreements of several processes on whether to stop, each of which waits for all of them."""
COSINES_UP_TO = 32_768
"""Most features for which decoder directions are compared at the end; `sae info --cosines` has no such limit."""
PACKAGES = ("torch", "transformer-lens", "transformers", "safetensors")


@dataclass(frozen=True)
class Trained:
    """Holds a finished training: its folder, and the content of train.json (empty in all but the first process)."""

    folder: Path
    about: dict[str, Any]


def run(config: TrainConfig, report: Report) -> Trained:
    """Train a config's dictionaries into its folder, or continue a training there; a complete one is only read.

    Raises UserError: a folder of another config, an unknown model or hook point, too little text, a training whose
    loss stopped being finite (after the others are finished). KeyboardInterrupt after a checkpoint was written.
    """
    folder = path_of(config.runtime.out or Path("trained") / config.name)
    choose_device(config.runtime.device)  # refuses one that is not there
    about = _read_about(folder, config)
    ranks = join(config.runtime.split, config.runtime.device, config.runtime.experimental)
    try:
        if about.get("status") == "complete":
            return Trained(folder, about if ranks.first else {})
        with alone(folder) if ranks.first else nullcontext():
            return Session(config, folder, ranks, report if ranks.first else Silent).finish()
    finally:
        ranks.leave()


def _read_about(folder: Path, config: TrainConfig) -> dict[str, Any]:
    """Read train.json, if there is one. Raises UserError if something was trained there by another config."""
    path = folder / ABOUT
    about = _about(path)
    if not isinstance(about, dict) or about.get("version") != VERSION or not {"config", "status"} <= about.keys():
        if folder.exists() and (not folder.is_dir() or any(not _left_behind(inside) for inside in folder.iterdir())):
            raise UserError(f"{folder} already exists and holds no training; choose another folder with --out")
        return {}
    differing = list(differences(about["config"], config.identity()))
    if differing and (about["status"] == "complete" or (folder / CHECKPOINTS / LATEST).is_file()):
        raise UserError(f"{folder} was trained with other settings ({', '.join(differing)}); choose another --out")
    return about


def _about(path: Path) -> Any:
    """Return the content of train.json; None if there is none. Raises UserError if it is damaged."""
    try:
        about = json.loads(path.read_text("utf-8")) if path.is_file() else None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot read {path}: {str(error)[:200]}; choose another folder with --out") from error
    return about


def _left_behind(path: Path) -> bool:
    """Tell whether it was left behind when the process was killed while writing."""
    return path.name.startswith(TEMPORARY) or path.name == LOCK


def differences(before: Any, after: Any, name: str = "") -> Iterator[str]:
    """Yield the dotted names of the settings of `after` that were others before, as deep as both go."""
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        before, after = dict(enumerate(before)), dict(enumerate(after))
    if not isinstance(before, dict) or not isinstance(after, dict):
        if before != after:
            yield name
        return
    for key, value in after.items():
        yield from differences(before.get(key), value, f"{name}.{key}" if name else str(key))


class Session:
    """Runs one process's part of a training."""

    def __init__(self, config: TrainConfig, folder: Path, ranks: Ranks, report: Report) -> None:
        if config.batch % ranks.parts:
            raise UserError(f"batch {config.batch} cannot be shared evenly by {ranks.parts} processes")
        self.config, self.folder, self.ranks, self.report = config, folder, ranks, report
        device = config.runtime.device
        self.device, self.reason = device_with_doubles(device, "train", "set runtime.device=cpu")
        self.checkpoints = Checkpoints(folder / CHECKPOINTS, ranks)

    def finish(self) -> Trained:
        """Train to the end, measure on held-out text, and save."""
        if self.checkpoints.step is None:
            self._begin()
        self._tidy()
        with to_all(self._sinks()) as tell:
            return self._finish(tell)

    def _begin(self) -> None:
        """Record the start; remove a subject that an earlier start with other settings left: nothing is trained yet."""
        before = self.folder / ABOUT
        if self.ranks.first and before.is_file():
            settings = json.loads(before.read_text("utf-8"))["config"]
            if any(differences(settings, self.config.identity())):
                shutil.rmtree(self.folder / "subject", ignore_errors=True)
        self._write_about("training", {})

    def _tidy(self) -> None:
        if self.ranks.first:
            for path in self.folder.glob(f"{TEMPORARY}*"):
                shutil.rmtree(path, ignore_errors=True)

    def _finish(self, tell: Tell) -> Trained:
        inputs = prepare(self.config, self.folder, self.device, self._precision, self.ranks, self.report)
        size = self.config.batch // self.ranks.parts
        batches = inputs.stream.batches(size, self._position(inputs))
        first_BD = next(batches)
        learners = enrol(self.config.dictionaries, self.config.steps, first_BD, self._workspace(inputs))
        self.checkpoints.restore(learners)
        with interrupted() as stop:
            after_step = self._after_step(learners, inputs, batches, stop)
            every = self.config.runtime.measure_every
            train(learners, chain([first_BD], batches), self.report, every, tell, after_step)
        return self._saved(learners, inputs)

    def _workspace(self, inputs: Inputs) -> Workspace:
        experimental, scratch = self.config.runtime.experimental, Scratch(self.device)
        return Workspace(inputs.d_in, self.device, self._precision, scratch, self.ranks, experimental, inputs.d_out)

    def _position(self, inputs: Inputs) -> Any:
        """Return where the stream is gone on with. Raises UserError if the text or the model is not what it was."""
        before = self.checkpoints.position()
        if before is None:
            return None
        files = before.get("model", inputs.model_files)  # checkpoints of before 2026-11-23 do not know them
        changed = sorted(name for name, _ in files.items() ^ inputs.model_files.items())
        if before["text"] != inputs.content or changed:
            what = f"{changed[0]} of the model {inputs.subject.name}" if changed else self.config.corpus.source
            raise UserError(
                f"{what} has changed since {self.folder} was stopped; put it back, or choose another folder with --out"
            )
        return before["batch"]

    def _after_step(
        self, learners: Sequence[Learner], inputs: Inputs, batches: Batches, stop: Stop
    ) -> Callable[[int], None]:
        """Return what saves a checkpoint from time to time, at the end, and before a stop that was asked for."""

        def after_step(done: int) -> None:
            stopping = done % (ASK_EVERY if self.ranks.world > 1 else 1) == 0 and self.ranks.any(stop.asked)
            due = done % self.config.runtime.checkpoint_every == 0 or done == self.config.steps
            if stopping or due:
                text, files = inputs.content, inputs.model_files
                self.checkpoints.save(done, learners, {"text": text, "model": files, "batch": batches.position})
            if stopping:
                raise KeyboardInterrupt

        return after_step

    @property
    def _precision(self) -> torch.dtype:
        precision = self.config.runtime.precision
        able = self.device.startswith("cuda") and torch.cuda.is_bf16_supported(including_emulation=False)
        automatic = "bfloat16" if able else "float32"
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[automatic if precision == "auto" else precision]

    def _sinks(self) -> list[Sink]:
        if not self.ranks.first:
            return []
        sinks: list[Sink] = [json_lines(self.folder / METRICS, self.checkpoints.step or 0)]
        if self.config.runtime.wandb:
            config = self.config.model_dump(mode="json")
            run = f"{self.folder.name}-{digest([str(self.folder.resolve()), self.config.identity()])}"
            sinks.append(weights_and_biases(self.config.runtime.wandb, self.folder.name, run, config))
        return sinks

    def _saved(self, learners: Sequence[Learner], inputs: Inputs) -> Trained:
        """Save every dictionary whose loss stayed finite, with its metrics; then train.json says that all is there."""
        sound = [learner for learner in learners if learner.problem is None]
        at, name = self.config.subject, inputs.subject.name
        made = [one.trainer.dictionary(at.hook_point, name, self._facts(one, inputs), at.writes) for one in sound]
        if not self.ranks.first:
            return Trained(self.folder, {})
        evaluations = self._evaluations(made, inputs) if made else []
        for dictionary, evaluation in zip(made, evaluations, strict=True):
            measured = replace(dictionary, metadata={**dictionary.metadata, "metrics": evaluation.to_json()})
            shutil.rmtree(self.folder / dictionary.name, ignore_errors=True)  # of an end that was cut short
            formats.save(measured, self.folder / dictionary.name)
        problems = {learner.name: learner.problem for learner in learners if learner.problem}
        about = self._write_about("complete", {"dictionaries": _summary(sound, evaluations), "problems": problems})
        shutil.rmtree(self.checkpoints.folder, ignore_errors=True)
        return Trained(self.folder, about)

    def _evaluations(self, made: Sequence[Dictionary], inputs: Inputs) -> list[Evaluation]:
        hook_point, cosines = self.config.subject.hook_point, max(one.n_features for one in made) <= COSINES_UP_TO
        return evaluate_all(made, inputs.subject, hook_point, self._measured(inputs), self.report, cosines=cosines)

    def _measured(self, inputs: Inputs) -> Blocks:
        """Return held-out text, no more than the config asks for."""
        n_blocks = -(-self.config.corpus.held_out_tokens // self.config.corpus.context)
        return inputs.held_out.take(np.arange(min(n_blocks, len(inputs.held_out.ids_NC))))

    def _facts(self, learner: Learner, inputs: Inputs) -> dict[str, Any]:
        """Return what goes into a dictionary's metadata beside its recipe."""
        return {
            "prepend_bos": inputs.subject.prepend_bos,
            "processing": {},
            "corpus": self.config.corpus.model_dump(mode="json"),
            "text": inputs.content,
            "split_version": SPLIT_VERSION,
            "steps": learner.trainer.steps_done,
            "batch": self.config.batch,
            "vectors": learner.trainer.vectors,
            "seed": self.config.seed,
        }

    def _write_about(self, status: str, results: dict[str, Any]) -> dict[str, Any]:
        about = {
            "version": VERSION,
            "status": status,
            "config": self.config.model_dump(mode="json"),
            "device": f"{self.device}: {self.reason}; products in {str(self._precision).removeprefix('torch.')}",
            "processes": self.ranks.world,
            "python": platform.python_version(),
            "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        } | results
        if self.ranks.first:
            write_atomic(self.folder / ABOUT, json.dumps(about, indent=1, ensure_ascii=False) + "\n")
        return about


def _summary(learners: Sequence[Learner], evaluations: Sequence[Evaluation]) -> list[dict[str, Any]]:
    """Return a row for each dictionary, for the table at the end."""
    return [
        {
            "name": learner.name,
            "features": evaluation.n_features,
            "l0": evaluation.l0,
            "fvu": evaluation.fvu,
            "ce_recovered": evaluation.losses.recovered,
            "dead": evaluation.density.dead,
            "ms_per_step": 1000 * learner.seconds_per_step,
            "megabytes": learner.trainer.bytes / 2**20,
        }
        for learner, evaluation in zip(learners, evaluations, strict=True)
    ]
