"""Measures what the parts of a study need of the model itself. Imports torch.

Shape suffixes: N blocks, C tokens of context, K numbers of features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from autointerp.runs.plan import make_plan
from autointerp.sampling.prepare import Prepared, prepare
from autointerp.studies import NotApplicable, Session
from sae.common.errors import UserError
from sae.common.seeds import numpy_generator
from sae.data.blocks import Blocks
from sae.dictionary import Dictionary
from sae.interventions.hold import hook_point_of, keep
from sae.interventions.logit_weights import logit_weights, row_correlation
from sae.interventions.sampling import continue_text
from sae.measuring.compare import Studied, compare
from sae.measuring.metrics import loss_blocks_at_once
from sae.models.subject import Replace, Subject, batches

LOSS_BLOCKS = 128
"""Blocks on which cross-entropy is measured."""
COMPARED_BLOCKS = 2048
"""Blocks on which two subjects are compared."""
TEXTS, BEGINNING, NEW = 16, 16, 32
"""Texts that are generated of each feature, their given tokens and their new ones."""
DRAWS = 1000
"""Resamples of the blocks behind an interval."""
Losses = NDArray[np.float64]
"""Mean loss of each of the same N blocks."""


def recovered(
    session: Session, order: Sequence[int], counts: Sequence[int], described: Sequence[int]
) -> dict[str, Any]:
    """Measure CE recovered by the first k features of an order alone, and by k drawn at random, for each count k.

    Returns triples of a value and the ends of its 95% interval over blocks.

    Raises NotApplicable if the dictionary does not write what it reads, or if zero ablation adds no loss.
    """
    prepared = prepare(session.plan, session.cache, session.report)
    dictionary = _dictionary(prepared, session.dictionary)
    hook_point = _hook_point(dictionary)
    shuffled = numpy_generator(session.plan.config.seed, "features kept at random").permutation(order).tolist()
    kept: list[Sequence[int]] = [part[:k] for part in (order, shuffled) for k in counts]
    half = max(1, len(order) // 2)
    kept += [range(dictionary.n_features), described, order[:half], shuffled[:half]]
    ids_NC = _loss_ids(prepared)
    measured: list[Losses] = []
    with session.report(f"cross-entropy with some features of {dictionary.name} alone") as progress:
        clean = _losses(prepared.subject, hook_point, ids_NC, None)
        zeroed = _losses(prepared.subject, hook_point, ids_NC, torch.zeros_like)
        if zeroed.mean() <= clean.mean():
            raise NotApplicable(f"setting {hook_point} to zero adds no loss, of which a share could be recovered")
        for features in kept:
            features_S = torch.tensor(list(features), dtype=torch.long, device=prepared.subject.device)
            measured.append(_losses(prepared.subject, hook_point, ids_NC, keep(dictionary, features_S)))
            progress.update(len(measured), len(kept))
    shares = _Recovered(clean, zeroed)
    each = [shares.interval(one) for one in measured]
    n = len(counts)
    return {
        "n_features": dictionary.n_features,
        "blocks": len(ids_NC),
        "counts": list(counts),
        "best": each[:n],
        "random": each[n : 2 * n],
        "whole": each[2 * n],
        "described_alone": each[2 * n + 1],
        "best_half_above_random": shares.interval(measured[2 * n + 2], measured[2 * n + 3]),
    }


class _Recovered:
    """Computes shares of the loss added by zero ablation, with intervals over the blocks, resampled together."""

    def __init__(self, clean: Losses, zeroed: Losses) -> None:
        self._clean, self._zeroed = clean, zeroed
        n = len(clean)
        self._drawn = numpy_generator(0, "bootstrap of blocks").integers(n, size=(DRAWS, n))

    def interval(self, losses: Losses, minus: Losses | None = None) -> list[float]:
        """Return the share recovered, less that of other losses, and the ends of its 95% interval."""
        # With L for mean losses, (L_zeroed - L) / (L_zeroed - L_clean); differences of two share the denominator.
        gain = (self._zeroed if minus is None else minus) - losses
        harm = self._zeroed - self._clean
        drawn = gain[self._drawn].mean(1) / harm[self._drawn].mean(1)
        low, high = np.quantile(drawn, (0.025, 0.975)).tolist()
        return [float(gain.mean() / harm.mean()), low, high]


def _hook_point(dictionary: Dictionary) -> str:
    try:
        return hook_point_of(dictionary)
    except UserError as error:
        raise NotApplicable(str(error)) from error


def _loss_ids(prepared: Prepared) -> torch.Tensor:
    """Return full held-out blocks, spread evenly over the text."""
    full = prepared.text.full()
    if not len(full.ids_NC):
        raise NotApplicable("no held-out document fills a block; set corpus.context to less")
    ids_NC = torch.from_numpy(_spread(full, LOSS_BLOCKS).ids_NC).long()
    return ids_NC.to(prepared.subject.device)


def _spread(blocks: Blocks, n: int) -> Blocks:
    return blocks.take(slice(None, None, max(1, len(blocks.ids_NC) // n))).take(slice(n))


def _losses(subject: Subject, hook_point: str, ids_NC: torch.Tensor, change: Replace | None) -> Losses:
    size = loss_blocks_at_once(ids_NC.shape[1], subject.vocabulary)
    means = [subject.losses(part, {hook_point: change} if change else None).mean(1) for part in batches(ids_NC, size)]
    return torch.cat(means).double().cpu().numpy()


def other_seed(session: Session) -> dict[str, Any]:
    """Train the run's toy and dictionary from another seed, and correlate features and neurons of both.

    Features that are active on none of the compared text have no correlation and are left out.
    """
    config = session.plan.config
    toy = config.subject.toy.model_copy(update={"seed": config.subject.toy.seed + 1})
    subject = config.subject.model_copy(update={"toy": toy})
    other = prepare(make_plan(config.model_copy(update={"subject": subject})), session.cache, session.report)
    ours = prepare(session.plan, session.cache, session.report)
    blocks = _spread(ours.text, COMPARED_BLOCKS)
    values: dict[str, Any] = {"tokens": blocks.n_tokens}
    compared = {"features": session.dictionary} | ({"neurons": session.neurons} if session.neurons else {})
    for label, name in compared.items():
        a, b = (_studied(one, name) for one in (ours, other))
        nearest = compare(a, b, blocks, session.report).universality.a_to_b
        defined_F = ~nearest.similarity_F.isnan()
        values[label] = nearest.similarity_F[defined_F].tolist()
        if label == "features":
            values["logit_similarity"] = _logit_similarity(a, b, nearest.similarity_F, nearest.match_F)
    return values


def _studied(prepared: Prepared, name: str) -> Studied:
    dictionary = _dictionary(prepared, name)
    return Studied(dictionary, prepared.subject, _hook_point(dictionary))


def _dictionary(prepared: Prepared, name: str) -> Dictionary:
    return next(one.dictionary for one in prepared.dictionaries if one.dictionary.name == name)


def _logit_similarity(a: Studied, b: Studied, similarity_F: torch.Tensor, match_F: torch.Tensor) -> float | None:
    """Return Spearman's correlation, over features, of their match's correlation with that of the logit weights."""
    from scipy import stats

    features_S = (~similarity_F.isnan()).nonzero().flatten()
    ours, theirs = logit_weights(a.subject, a.dictionary, features_S), None
    if ours is not None:
        theirs = logit_weights(b.subject, b.dictionary, match_F[features_S])
    if ours is None or theirs is None or len(features_S) < 3:
        return None
    alike_S = row_correlation(ours, theirs).nan_to_num(0)
    rank = stats.spearmanr(similarity_F[features_S].numpy(), alike_S.numpy()).statistic
    return None if np.isnan(rank) else float(rank)


def pinned(session: Session, features: Sequence[int], values: Sequence[float]) -> list[list[list[str]]]:
    """Generate text with each feature held at its value at every token, and last of all without any; as tokens.

    All begin with the same held-out texts and draw the same random numbers.

    Raises NotApplicable if the dictionary does not write what it reads.
    """
    prepared = prepare(session.plan, session.cache, session.report)
    dictionary, subject = _dictionary(prepared, session.dictionary), prepared.subject
    _hook_point(dictionary)
    beginning = min(BEGINNING, subject.max_context // 2)
    starts_NC = _loss_ids(prepared)[:TEXTS, :beginning]
    n_new, seed, tokens = min(NEW, subject.max_context - beginning), session.plan.config.seed, subject.token_strings()
    generated: list[list[list[str]]] = []
    with session.report(f"generating with features of {dictionary.name} pinned") as progress:
        for held in [*zip(features, values, strict=True), None]:
            pin = _pin(dictionary, *held, len(starts_NC)) if held else None
            ids_NC = continue_text(subject, starts_NC, n_new, seed, pin)
            generated.append([[tokens[index] for index in ids] for ids in ids_NC.tolist()])
            progress.update(len(generated), len(features) + 1)
    return generated


def _pin(dictionary: Dictionary, feature: int, value: float, n: int) -> tuple[Dictionary, torch.Tensor, torch.Tensor]:
    """Hold one feature at one value in n texts."""
    device = dictionary.W_enc_DF.device
    return dictionary, torch.full((n,), feature, device=device), torch.full((n,), value, device=device)
