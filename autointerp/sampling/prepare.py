"""Prepares a run's subject and text: the model loaded or trained once, the corpus as blocks. Imports torch."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autointerp.config import Config
from autointerp.sampling.dictionaries import ActivationsOf, DictionaryBuilder, Measured
from sae.common.errors import UserError
from sae.common.progress import Report
from sae.common.seeds import numpy_generator
from sae.data.blocks import Blocks, tokens_per_group
from sae.data.corpus import Text
from sae.data.split import VERSION as SPLIT_VERSION
from sae.data.split import Split, choose_groups, held_out_of_trainings, split_blocks
from sae.models.cache import ArtifactCache, digest
from sae.models.device import choose_device
from sae.models.subject import Subject, boot, refuse_longer_context
from sae.models.toy_recipe import Toy

if TYPE_CHECKING:
    from autointerp.runs.plan import Plan

TOY = "toy"
VERSION = 4
"""Changes whenever training or fitting a dictionary changes what it makes, so that the cache does not serve the old."""


@dataclass(frozen=True)
class Prepared:
    """Holds what sampling works on."""

    subject: Subject
    text: Blocks
    """The held-out text that records are drawn from."""
    dictionaries: tuple[Measured, ...]
    facts: dict[str, Any]
    """What was prepared, for the run's report."""


def prepare(plan: Plan, cache: Path, report: Report) -> Prepared:
    """Boot the subject, split the corpus, then load, train or fit and measure every dictionary.

    Raises UserError for text that is too short, an unknown hook point, or a dictionary of another width.
    """
    config = plan.config
    device, reason = choose_device(config.runtime.device)
    artifacts = ArtifactCache(cache, report, device)
    is_toy = config.subject.model == TOY
    if not is_toy:
        refuse_longer_context(str(config.subject.model), config.corpus.context, "corpus.context")
    _check_fragment(config)
    trained = str(_toy(plan, artifacts) if is_toy else config.subject.model)
    subject = boot_subject(plan, artifacts, trained)
    for hook_point in config.subject.hook_points:
        subject.width(hook_point)  # refuses an unknown hook point before the text is read
    _check_context(config, subject)
    blocks = artifacts.tokens(subject, plan.text)
    split = _split(plan, blocks, subject, artifacts)
    sampled = _sampled(split.held_out, config)
    facts = {
        "device": f"{device}: {reason}",
        "corpus_tokens": blocks.n_tokens,
        "corpus_damage": list(artifacts.damage(subject, plan.text)),
        "near_duplicate_documents": _near_duplicates(blocks),
        "held_out_by": "the dictionaries' training" if plan.trainings else "this run",
        "held_out_tokens": split.held_out.n_tokens,
        "sampled_tokens": sampled.n_tokens,
    }
    if is_toy and not config.subject.reset_weights:
        facts |= json.loads((Path(trained) / "toy.json").read_text("utf-8"))["losses"]
    builder = DictionaryBuilder(plan, cache, report, subject, ActivationsOf(plan, subject, split), fitting_key(plan))
    return Prepared(subject, sampled, builder.measured(), facts)


def boot_subject(plan: Plan, artifacts: ArtifactCache, trained: str) -> Subject:
    """Boot the run's model, its weights drawn at random if the config says so.

    Args:
        trained: the model before that: a hub name or a Hugging Face directory.
    """
    config, is_toy = plan.config.subject, plan.config.subject.model == TOY
    model = str(artifacts.reset(trained, plan.config.seed)) if config.reset_weights else trained
    prepend_bos = False if is_toy else config.prepend_bos
    return boot(model, artifacts.device, prepend_bos, plan.processing, plan.hook_points)


def _toy(plan: Plan, artifacts: ArtifactCache) -> Path:
    """Return the toy's Hugging Face directory, trained on the text that is not held out."""
    return artifacts.toy(*_toy_recipe(plan), lambda blocks: _own_split(blocks, plan.config), _split_by(plan))


def toy_folder(plan: Plan, artifacts: ArtifactCache) -> Path:
    """Return where the run's toy lies, or would lie."""
    return artifacts.toy_folder(*_toy_recipe(plan), _split_by(plan))


def _toy_recipe(plan: Plan) -> tuple[Toy, Text]:
    toy = plan.config.subject.toy
    return toy.model_copy(update={"seed": plan.config.seed + toy.seed}), plan.text


def _split_by(plan: Plan) -> list[Any]:
    return [SPLIT_VERSION, plan.config.corpus.held_out, plan.config.seed]


def _split(plan: Plan, blocks: Blocks, subject: Subject, artifacts: ArtifactCache) -> Split:
    """Split by what the dictionaries' trainings on this corpus held out; without any, by the config's share."""
    if not plan.trainings:
        return _own_split(blocks, plan.config)
    return held_out_of_trainings(
        plan.trainings, blocks, subject.token_ids, lambda text: artifacts.tokens(subject, text)
    )


def _own_split(blocks: Blocks, config: Config) -> Split:
    return split_blocks(blocks, config.corpus.held_out, config.seed)


def _sampled(held_out: Blocks, config: Config) -> Blocks:
    """Return the held-out documents that records are drawn from."""
    tokens_G = tokens_per_group(held_out)
    if config.sampling.tokens is None or config.sampling.tokens >= tokens_G.sum():
        return held_out
    rng = numpy_generator(config.seed, "sampled documents")
    marked_G = choose_groups(tokens_G, config.sampling.tokens / tokens_G.sum(), rng)
    return held_out.take(marked_G[held_out.group_N])


def _near_duplicates(blocks: Blocks) -> int:
    """Return how many documents have a near-duplicate, so that a split must keep them together."""
    group_of = dict(zip(blocks.document_N.tolist(), blocks.group_N.tolist(), strict=True))
    sizes = Counter(group_of.values())
    return sum(sizes[group] > 1 for group in group_of.values())


def _check_context(config: Config, subject: Subject) -> None:
    if config.corpus.context > subject.max_context:
        raise UserError(
            f"corpus.context is {config.corpus.context}, but {subject.name} sees at most {subject.max_context} tokens; "
            f"set corpus.context={subject.max_context}"
        )


def _check_fragment(config: Config) -> None:
    if config.corpus.context % config.sampling.fragment:
        raise UserError(
            f"sampling.fragment {config.sampling.fragment} does not divide corpus.context {config.corpus.context}"
        )


def fitting_key(plan: Plan) -> str:
    """Return the hash of everything that a fitted dictionary depends on, except its recipe and hook point."""
    config = plan.config
    subject = [plan.contents["model"], plan.processing, config.subject.prepend_bos, config.subject.reset_weights]
    text = [plan.text.content, config.corpus.held_out, SPLIT_VERSION, [repr(training) for training in plan.trainings]]
    return digest([VERSION, subject, text, config.seed])
