"""Prepares what a training reads: the subject, booted or trained, the text to train on, and the text held out."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sae.common.errors import UserError
from sae.common.files import make_folder_atomic, sha256_of_path
from sae.common.progress import Report
from sae.common.resources import path_of
from sae.common.settings import cache_folder
from sae.data.activation_stream import ActivationStream
from sae.data.blocks import Blocks
from sae.data.corpus import Text
from sae.data.deduplication import Known
from sae.data.split import VERSION as SPLIT_VERSION
from sae.data.split import TrainingText
from sae.data.token_source import Shuffled, Streamed, TextSource
from sae.models.cache import ArtifactCache
from sae.models.known_names import refuse_unknown_hook_points, refuse_unknown_of_toy
from sae.models.reset import write_reset
from sae.models.subject import Subject, boot, refuse_longer_context
from sae.training.config import TrainConfig
from sae.training.ranks import Ranks

MODEL_FILES = (".safetensors", ".bin", ".json", ".model", ".txt")
"""How the names of the files end that hold a model's weights, config and tokenizer."""


@dataclass(frozen=True)
class Inputs:
    """Holds a booted subject, what is trained on (this process's share), and what is held out."""

    subject: Subject
    held_out: Blocks
    stream: ActivationStream
    content: Any
    """Tells the text from any other, ready for JSON; of a streamed one, only its name."""
    model_files: dict[str, str]
    """The hashes of the subject's files by their names; none of a model on the hub."""
    d_in: int
    """The width of what is read."""
    d_out: int | None
    """The width of what a transcoder writes, the right part of the stream's vectors; None for autoencoders."""


def prepare(config: TrainConfig, folder: Path, device: str, dtype: torch.dtype, ranks: Ranks, report: Report) -> Inputs:
    """Boot the subject and read or open the text.

    Args:
        folder: of the training; a toy or a reset subject is put into it.
        dtype: of the activations.

    Raises:
        UserError: an unknown model or hook point, a context that is too long, too little text.
    """
    artifacts = ArtifactCache(cache_folder("sae"), report, device)
    if config.subject.model == "toy":
        refuse_unknown_of_toy(config.subject.toy, config.subject.hook_points)
    else:
        refuse_longer_context(config.subject.model, config.corpus.context, "corpus.context")
        refuse_unknown_hook_points(config.subject.model, config.subject.hook_points)
    subject = _subject(config, folder, artifacts, ranks)
    d_in = subject.width(config.subject.hook_point)
    d_out = subject.width(config.subject.writes) if config.subject.writes else None
    if config.corpus.context > subject.max_context:
        raise UserError(
            f"corpus.context is {config.corpus.context}, but {subject.name} sees at most {subject.max_context} "
            f"tokens; set corpus.context={subject.max_context}"
        )
    text = None if config.corpus.is_streamed else _training_text(config).text()
    if not ranks.first:
        ranks.barrier()  # the first process tokenises for all
    with report("reading text") as progress:
        source, held_out = _text(config, subject, artifacts, text, (ranks.part, ranks.parts))
        if repeated := _repeated(config, source):
            progress.say(repeated)
    if ranks.first:
        ranks.barrier()
    runtime = config.runtime
    reader = Reader(subject, config.subject.writes)
    stream = ActivationStream(
        reader, config.subject.hook_point, source, config.seed, runtime.forward_blocks, config.buffer, dtype
    )
    content = text.content if text else config.corpus.source
    return Inputs(subject, held_out, stream, content, _model_files(subject.name), d_in, d_out)


def _model_files(model: str) -> dict[str, str]:
    """Return the hash of every file of a local model; what lies in folders below is none of its files."""
    folder = path_of(model)
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    return {file.name: sha256_of_path(file) for file in files if file.suffix in MODEL_FILES and file.is_file()}


@dataclass(frozen=True)
class Reader:
    """Reads the vectors to train on: of a transcoder, what it reads and, right of it, what it writes, in one pass.

    Only here the model's float32 products are TF32 on a GPU: those of dictionaries and of all measures are not.
    """

    subject: Subject
    writes: str | None

    @property
    def device(self) -> str:
        return self.subject.device

    def activations(self, ids_NC: Tensor, hook_point: str) -> Tensor:
        with _fast_products(self.device):
            return self.subject.side_by_side(ids_NC, (hook_point, *([self.writes] if self.writes else [])))


@contextmanager
def _fast_products(device: str) -> Iterator[None]:
    """Let float32 products run in TF32 (not bfloat16) on a GPU inside the block."""
    before = torch.get_float32_matmul_precision()
    if device.startswith("cuda"):
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _subject(config: TrainConfig, folder: Path, artifacts: ArtifactCache, ranks: Ranks) -> Subject:
    subject, is_toy = config.subject, config.subject.model == "toy"
    prepend_bos = False if is_toy else subject.prepend_bos
    if not is_toy and not subject.reset_weights:
        given = path_of(subject.model)
        model = str(given.resolve()) if given.is_dir() else subject.model  # the dictionaries say where it lies
        return boot(model, artifacts.device, prepend_bos, hook_points=subject.hook_points)
    subject_folder = folder / "subject"
    if ranks.first and not subject_folder.is_dir():
        model = str(_toy(config, artifacts)) if is_toy else subject.model
        if subject.reset_weights:
            write_reset(model, config.seed, subject_folder)
        else:
            make_folder_atomic(subject_folder, lambda new: shutil.copytree(model, new, dirs_exist_ok=True))
    ranks.barrier()
    return boot(str(subject_folder.resolve()), artifacts.device, prepend_bos, hook_points=subject.hook_points)


def _toy(config: TrainConfig, artifacts: ArtifactCache) -> Path:
    """Return the toy's directory, trained on the text that is not held out."""
    split_by, text = [SPLIT_VERSION, config.corpus.held_out_tokens, config.seed], _training_text(config)
    return artifacts.toy(config.subject.toy, text.text(), text.split, split_by)


def _text(
    config: TrainConfig, subject: Subject, artifacts: ArtifactCache, text: Text | None, share: tuple[int, int]
) -> tuple[TextSource, Blocks]:
    """Return what is trained on and what is held out; without a `text` in memory both are streamed."""
    corpus = config.corpus
    if text is None:
        held = _training_text(config).first_documents(subject.token_ids)
        known = Known.of(held.blocks)
        source = Streamed(corpus.source, subject.token_ids, corpus.context, held.n_documents, share, known)
        return source, held.blocks
    split = _training_text(config).split(artifacts.tokens(subject, text))
    return Shuffled(split.blocks, config.seed, share, split.train_rows_N), split.held_out


def _repeated(config: TrainConfig, source: TextSource) -> str | None:
    """Return a notice if a text in memory is shorter than the training; None if it is not."""
    vectors = config.steps * config.batch
    usable = source.n_tokens if isinstance(source, Shuffled) else vectors
    if vectors <= usable:
        return None
    return (
        f"the text has {usable:,} tokens in whole blocks for {vectors:,} vectors: each is trained on "
        f"{vectors / usable:.1f} times; corpus.streamed=true reads a corpus of any size"
    )


def _training_text(config: TrainConfig) -> TrainingText:
    corpus = config.corpus
    return TrainingText(
        corpus.source, corpus.context, corpus.max_tokens, corpus.held_out_tokens, corpus.is_streamed, config.seed
    )
