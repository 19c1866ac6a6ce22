"""Prepares what the parts of a study work on that need a known task. Imports torch.

On a toy's run that is the grammar's subject, trained here once, with dictionaries of its own; on another run its own
model and its first dictionary, if the model does the task.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from autointerp.runs.plan import TOY
from autointerp.sampling.prepare import prepare
from autointerp.studies import NotApplicable, Session
from sae import formats
from sae.baselines.registry import BASELINES
from sae.common.errors import UserError
from sae.common.seeds import torch_generator
from sae.data.blocks import Blocks
from sae.dictionary import Dictionary
from sae.models.cache import digest
from sae.models.device import choose_device
from sae.models.entries import make_missing
from sae.models.subject import Subject, batches, boot
from sae.tasks.accuracy import Prompts, in_tokens, require
from sae.tasks.grammar import Prompt
from sae.tasks.subject import CONTEXT, blocks, grammar_subject, recipe
from sae.training.architectures.recipe import Recipe
from sae.training.architectures.tied import Tied
from sae.training.architectures.topk import TopK
from sae.training.loop import finished, learn

VERSION = 1
"""Changes whenever the grammar's dictionaries are made in another way, so that the cache does not serve the old."""
FIRST, HOOK_POINT, LAST = (f"blocks.{layer}.hook_resid_post" for layer in range(3))
"""Where the grammar's subject is studied: before its last layer, for automata behind it, for circuits behind each."""
STEPS, BATCH = 800, 512
"""Training of the grammar's dictionaries."""
FIT_VECTORS = 8_192
"""Activation vectors that baselines are fitted on."""
FORWARD = 128
"""Blocks read at once."""
LR = 2e-3
SPARSITIES = (
    Tied(name="sparse", expansion=4, l1=0.01, lr=LR, decay=0.4),
    Tied(name="sparser", expansion=4, l1=0.03, lr=LR, decay=0.4),
    Tied(name="alpha_0", expansion=4, l1=0.0, lr=LR, decay=0.4),
)
"""Two sparsities and none, as in Figure 3 of Cunningham et al. (2023)."""
SIZES = tuple(TopK(name=f"topk_{n}x", expansion=n, k=8, lr=LR, warmup=0.05, decay=0.4, seed=n) for n in (1, 2, 4))
"""Three sizes of one recipe, for splitting; of different seeds, as their initial weights would begin alike."""
AUTOMATA = TopK(name="topk_4x_last", expansion=4, k=4, lr=LR, warmup=0.05, decay=0.4)
"""Whose features are followed from token to token."""
ALL = ("indirect", "pronoun", "fixed", "script")
WITH_SEQUENCES = ("pronoun", "fixed", "script")
"""Kinds of sentences of the text of automata, a third of which are fixed sequences; one in ten is among ALL."""


@dataclass(frozen=True)
class Tasks:
    """Holds a subject that is asked to do tasks, and its text."""

    subject: Subject
    seed: int
    hook_point: str
    sparse: Mapping[str, Dictionary]
    """The sparse dictionaries, by name, all at the hook point."""
    text: Blocks
    """Text that is none of the task's prompts."""
    is_grammar: bool

    def ids(self, n: int) -> Tensor:
        """Return n full blocks of the text."""
        return torch.from_numpy(self.text.full().ids_NC[:n]).long().to(self.subject.device)

    def vectors(self, n: int = FIT_VECTORS) -> Tensor:
        """Return activation vectors [B, D] of the text."""
        ids_NC = self.ids(-(-n // self.text.ids_NC.shape[1]))
        parts = [self.subject.activations(part, self.hook_point).flatten(0, 1) for part in batches(ids_NC, FORWARD)]
        return torch.cat(parts)[:n]

    def baselines(self, *names: str) -> dict[str, Dictionary]:
        """Fit baselines at the hook point. Raises NotApplicable if there is too little text."""
        x_BD = self.vectors()
        try:
            made = {name: BASELINES.get(name).fit(x_BD, self.seed) for name in names}
        except UserError as error:
            raise NotApplicable(str(error)) from error
        return {name: one.to(self.subject.device).at(self.hook_point) for name, one in made.items()}

    def prompts(self, prompts: Sequence[Prompt], task: str) -> Prompts:
        """Return prompts in the subject's tokens. Raises NotApplicable if it does not do the task."""
        try:
            asked = in_tokens(self.subject, prompts)
            require(self.subject, asked, task)
        except UserError as error:
            raise NotApplicable(str(error)) from error
        return asked


def is_toy(session: Session) -> bool:
    """Tell whether the run's model is a toy, so that the grammar's subject stands in for it."""
    return session.plan.config.subject.model == TOY


def task_subject(session: Session) -> Tasks:
    """Return the grammar's subject for a toy, with its dictionaries, else the run's own with its first dictionary.

    Raises NotApplicable if that dictionary does not read and write one hook point.
    """
    if not is_toy(session):
        return _own(session)
    subject, seed = grammar(session), session.plan.config.seed
    made = trained(session, subject, [Job(one, HOOK_POINT) for one in (*SPARSITIES, *SIZES)])
    text = blocks(seed + 1, 2_000, kinds=("indirect", "fixed", "script"))
    return Tasks(subject, seed, HOOK_POINT, made, text, True)


def grammar(session: Session) -> Subject:
    """Return the grammar's subject, trained if the cache does not have it."""
    config = session.plan.config
    device, _ = choose_device(config.runtime.device)
    return boot(str(grammar_subject(session.cache, recipe(config.seed), session.report, device)), device, False)


def last_dictionary(session: Session, subject: Subject) -> Dictionary:
    """Return the dictionary of the grammar's subject behind its last layer."""
    (dictionary,) = trained(session, subject, [Job(AUTOMATA, LAST)], WITH_SEQUENCES).values()
    return dictionary


def own_subject(session: Session) -> Subject:
    """Return the subject that is asked to do the tasks, without dictionaries."""
    return grammar(session) if is_toy(session) else prepare(session.plan, session.cache, session.report).subject


def _own(session: Session) -> Tasks:
    prepared = prepare(session.plan, session.cache, session.report)
    dictionary = next(one.dictionary for one in prepared.dictionaries if one.dictionary.name == session.dictionary)
    if not dictionary.is_autoencoder or not dictionary.reads:
        raise NotApplicable(f"features of {dictionary.name} cannot be edited: it does not write what it reads")
    seed, (hook_point,) = session.plan.config.seed, dictionary.reads
    return Tasks(prepared.subject, seed, hook_point, {dictionary.name: dictionary}, prepared.text, False)


@dataclass(frozen=True)
class Job:
    """Names a dictionary of the grammar's subject."""

    recipe: Recipe
    reads: str
    writes: str | None = None
    """The hook point that a transcoder writes; None: it is an autoencoder."""

    @property
    def hook_points(self) -> tuple[str, ...]:
        return (self.reads, self.writes) if self.writes else (self.reads,)


def trained(
    session: Session, subject: Subject, jobs: Sequence[Job], kinds: tuple[str, ...] = ALL, steps: int = STEPS
) -> dict[str, Dictionary]:
    """Return dictionaries of the grammar's subject; those that the cache does not have are trained, on one text."""
    seed = session.plan.config.seed
    seeded = [replace(job, recipe=job.recipe.model_copy(update={"seed": seed + job.recipe.seed})) for job in jobs]
    about = [VERSION, Path(subject.name).name]
    folders = [
        session.cache
        / "dictionaries"
        / digest([*about, job.reads, steps, BATCH, *kinds, *job.hook_points[1:], job.recipe.model_dump(mode="json")])
        for job in seeded
    ]

    def make(missing: Sequence[Path]) -> None:
        missing_jobs = {folder: job for folder, job in zip(folders, seeded, strict=True) if folder in missing}
        every_hook = [hook for job in missing_jobs.values() for hook in job.hook_points]
        vectors = _vectors(subject, every_hook, seed, kinds, steps)
        for hook_points in dict.fromkeys(job.hook_points for job in missing_jobs.values()):
            together = {folder: job for folder, job in missing_jobs.items() if job.hook_points == hook_points}
            d_out = vectors[hook_points[1]].shape[1] if hook_points[1:] else None
            rows, recipes = (
                _shuffled([vectors[hook] for hook in hook_points], seed),
                [j.recipe for j in together.values()],
            )
            learners = learn(recipes, steps, rows, subject.device, session.report, d_out)
            for (folder, job), learner in zip(together.items(), learners, strict=True):
                formats.save(finished(learner).dictionary(job.reads, subject.name, {}, job.writes), folder)

    make_missing(folders, make)
    loaded = [formats.load(folder).to(subject.device) for folder in folders]
    return {one.name: one for one in loaded}


def _vectors(
    subject: Subject, hook_points: Sequence[str], seed: int, kinds: tuple[str, ...], steps: int
) -> dict[str, Tensor]:
    """Return activation vectors [B, D] of the grammar's text, half as many as training sees, at each hook point."""
    text = blocks(seed, -(-steps * BATCH // (2 * CONTEXT)), kinds=kinds)
    ids_NC = torch.from_numpy(text.ids_NC).long().to(subject.device)
    parts = [subject.activations_at(part, hook_points) for part in batches(ids_NC, FORWARD)]
    return {name: torch.cat([part[name].flatten(0, 1) for part in parts]) for name in hook_points}


def _shuffled(sides: Sequence[Tensor], seed: int) -> Iterator[Tensor]:
    """Yield shuffled batches of vectors side by side, again from the start if they end."""
    generator = torch_generator(seed, "order of the grammar's activations")
    while True:
        for rows in torch.randperm(len(sides[0]), generator=generator).split(BATCH):
            if len(rows) == BATCH:
                yield torch.cat([x_BD[rows] for x_BD in sides], 1)
