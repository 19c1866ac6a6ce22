"""Measures circuits: on which features of the layer below features depend. Imports torch.

Shape suffixes: N blocks, C tokens of context, D width, F features of a dictionary, S selected features.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from autointerp.sampling.layers import Layer, read
from autointerp.sampling.prepare import prepare
from autointerp.sampling.tasks import (
    FIRST,
    HOOK_POINT,
    SIZES,
    WITH_SEQUENCES,
    Job,
    grammar,
    is_toy,
    last_dictionary,
    trained,
)
from autointerp.studies import NotApplicable, Session
from sae.common.errors import UserError
from sae.common.seeds import torch_generator
from sae.dictionary import Dictionary
from sae.interventions.circuits import Dependence, Excerpt, Link, depend, direct_weights
from sae.interventions.logit_weights import row_correlation
from sae.models.subject import Subject
from sae.tasks.subject import blocks
from sae.training.architectures.topk import TopK

BLOCKS = 512
"""Blocks of text from which excerpts are drawn."""
RECIPE = TopK(name="topk_2x_first", expansion=2, k=4, lr=2e-3, warmup=0.05, decay=0.4)
"""The grammar's dictionary behind the first layer; those behind the others are splitting's and automata's."""
STEPS = 400
"""Of its training, and the transcoders'."""
LAYERS = (1, 2)
"""The grammar's layers whose MLPs get a transcoder."""


class Step:
    """Measures on which features of one layer those of the next one depend; each feature once."""

    def __init__(self, link: Link, upper: Layer, seed: int) -> None:
        self.link, self.upper, self.seed = link, upper, seed
        self._means: dict[int, Means] = {}

    def means(self, feature: int) -> Means:
        """Return the means over the excerpts that are searched."""
        if feature not in self._means:
            searched = self.upper.excerpts(feature, self.seed)[::2]
            dependences = [depend(self.link, feature, ids_C) for ids_C in searched]
            self._means[feature] = Means.of(dependences, self.link, feature)
        return self._means[feature]

    def confirmed(self, feature: int, groups: Mapping[str, Tensor], n: int) -> dict[str, float]:
        """Return the share of the activation lost on other excerpts when each group is ablated, and n random ones."""
        generator = torch_generator(self.seed, "lower features of circuits", self.upper.dictionary.name, feature)
        lost = dict.fromkeys((*groups, "random"), 0.0)
        others, none = self.upper.excerpts(feature, self.seed)[1::2], torch.tensor([], dtype=torch.long)
        for ids_C in others:
            excerpt = Excerpt(self.link, feature, ids_C)
            active_A = excerpt.features_A.cpu()
            free = active_A[~torch.isin(active_A, torch.cat(list(groups.values())))]
            random = free[torch.randperm(len(free), generator=generator)[:n]]
            value_R = excerpt.without([none, *groups.values(), random]).tolist()
            for name, value in zip(lost, value_R[1:], strict=True):
                lost[name] += (1 - value / value_R[0]) / len(others)
        return lost


@dataclass(frozen=True)
class Means:
    """Holds means over excerpts of one upper feature; those of a lower feature that is not active are 0."""

    activation: float
    together: float
    active_F: Tensor
    ablation_F: Tensor
    attribution_F: Tensor
    earlier_F: Tensor
    direct_F: Tensor | None
    """What the lower features add at the same token by the residual stream alone; None if it does not lead there."""

    @staticmethod
    def of(dependences: Sequence[Dependence], link: Link, feature: int) -> Means:
        """Average over excerpts."""

        def mean_F(name: str) -> Tensor:
            total_F = torch.zeros(link.lower.n_features)
            for one in dependences:
                total_F.index_add_(0, one.features_A, getattr(one, name).float())
            return total_F / len(dependences)

        weights_SF = direct_weights(link, torch.tensor([feature], device=link.upper.W_enc_DF.device))
        return Means(
            activation=sum(one.activation for one in dependences) / len(dependences),
            together=sum(one.together for one in dependences) / len(dependences),
            active_F=torch.isin(
                torch.arange(link.lower.n_features), torch.cat([one.features_A for one in dependences])
            ),
            ablation_F=mean_F("ablation_A"),
            attribution_F=mean_F("attribution_A"),
            earlier_F=mean_F("earlier_A"),
            direct_F=None if weights_SF is None else weights_SF[0].cpu() * mean_F("here_A"),
        )

    def strongest(self, n: int, by_attribution: bool = False) -> Tensor:
        """Return the n lower features on which it depends most, as far as they are active."""
        values_F = (self.attribution_F if by_attribution else self.ablation_F).masked_fill(~self.active_F, -torch.inf)
        return values_F.topk(min(n, int(self.active_F.sum()))).indices

    def correlation(self, values_F: Tensor | None) -> float | None:
        """Correlate the active lower features' ablations with other values; None if either is constant."""
        if values_F is None:
            return None
        value = row_correlation(self.ablation_F[self.active_F][None], values_F[self.active_F][None])[0]
        return None if value.isnan() else float(value)


def measure(session: Session, n_targets: int, n_trees: int, n_strongest: int) -> dict[str, Any]:
    """Measure every link between neighbouring dictionaries, and trees from the topmost ones down.

    Args:
        n_targets: features of each upper dictionary.
        n_trees: features from which trees are drawn.
        n_strongest: lower features of each that are compared, confirmed, and shown.

    Raises NotApplicable if there are no two dictionaries, one above the other.
    """
    subject, ids_NC, chains = _chains(session)
    links: list[dict[str, Any]] = []
    trees: list[dict[str, Any]] = []
    for chain in chains:
        layers = [read(subject, dictionary, ids_NC) for dictionary in chain]
        steps = [
            Step(Link(subject, lower.dictionary, upper.dictionary), upper, session.plan.config.seed)
            for lower, upper in pairwise(layers)
        ]
        links += [_of_step(session, step, n_targets, n_strongest) for step in steps]
        roots = [_node(layers, steps, root, {}, n_strongest) for root in layers[-1].drawn(n_trees, steps[-1].seed)]
        explained = _explanations(session, subject, layers, roots)
        trees += [_described(root, explained) for root in roots]
    return {"links": links, "trees": trees}


def _chains(session: Session) -> tuple[Subject, Tensor, list[list[Dictionary]]]:
    """Return the subject, its text, and dictionaries that read it one after the other, the lowest first.

    The grammar's are autoencoders behind each layer, and transcoders of two; another model's those of the run.
    """
    if is_toy(session):
        subject = grammar(session)
        text = blocks(session.plan.config.seed + 3, BLOCKS, kinds=WITH_SEQUENCES).ids_NC
        return subject, torch.from_numpy(text).long().to(subject.device), _of_grammar(session, subject)
    prepared = prepare(session.plan, session.cache, session.report)
    learnt = [one.dictionary for one in reversed(prepared.dictionaries) if one.dictionary.kind == "sae"]
    single = {one.reads[0]: one for one in learnt if len(one.reads) == 1}  # of several at one hook point the first
    ids_NC = torch.from_numpy(prepared.text.full().ids_NC[:BLOCKS]).long().to(prepared.subject.device)
    if len(single) < 2 or not len(ids_NC):
        raise NotApplicable("needs dictionaries at two hook points: give --dictionary twice")
    order = prepared.subject.activations_at(ids_NC[:1], list(single))
    chain = [single[hook_point] for hook_point in order]
    try:
        for lower, upper in pairwise(chain):
            Link(prepared.subject, lower, upper)
    except UserError as error:
        raise NotApplicable(str(error)) from error
    return prepared.subject, ids_NC, [chain]


def _of_grammar(session: Session, subject: Subject) -> list[list[Dictionary]]:
    transcoders = [
        Job(
            RECIPE.model_copy(update={"name": f"transcoder_{n}"}), f"blocks.{n}.mlp.hook_in", f"blocks.{n}.hook_mlp_out"
        )
        for n in LAYERS
    ]
    first, *made = trained(session, subject, [Job(RECIPE, FIRST), *transcoders], WITH_SEQUENCES, STEPS).values()
    (middle,) = trained(session, subject, [Job(SIZES[-1], HOOK_POINT)]).values()
    return [[first, middle, last_dictionary(session, subject)], made]


def _of_step(session: Session, step: Step, n_targets: int, n_strongest: int) -> dict[str, Any]:
    """Compare ablations with attributions, for features drawn at random."""
    lower, upper = step.link.lower.name, step.link.upper.name
    drawn = step.upper.drawn(n_targets, step.seed)
    with session.report(f"circuits from {upper} to {lower}") as progress:
        for number, feature in enumerate(drawn):
            step.means(feature)
            progress.update(number + 1, len(drawn))
    targets = [feature for feature in drawn if step.means(feature).active_F.any()]
    others = [step.means(targets[number - 1]) for number in range(len(targets))]
    values = [_compared(step, *both, n_strongest) for both in zip(targets, others, strict=True)]
    return {"upper": upper, "lower": lower, "targets": values}


def _compared(step: Step, feature: int, other: Means, n: int) -> dict[str, Any]:
    """Compare one feature's ablations with its attributions, and with another feature's."""
    means = step.means(feature)
    groups = {"ablation": means.strongest(n), "attribution": means.strongest(n, by_attribution=True)}
    common = torch.isin(groups["ablation"], groups["attribution"]).double().mean()
    size = means.attribution_F.abs().sum()
    return {
        "feature": feature,
        "candidates": int(means.active_F.sum()),
        "correlation": means.correlation(means.attribution_F),
        "mismatched": means.correlation(other.attribution_F),
        "direct": means.correlation(means.direct_F),
        "overlap": float(common),
        "chance": len(groups["ablation"]) / int(means.active_F.sum()),
        "together": means.together / means.activation,
        "earlier": float(means.earlier_F.abs().sum() / size) if size > 0 else 0.0,
        "lost": step.confirmed(feature, groups, n),
    }


def _node(
    layers: Sequence[Layer], steps: Sequence[Step], feature: int, about: Mapping[str, float], n: int
) -> dict[str, Any]:
    """Return a feature with the lower ones on which it depends most, each with the same, down to the first layer.

    Args:
        layers: the feature's own, and before it those below.
        steps: the links between them.
        about: what the feature above it loses with it, in shares of that one's activation.
    """
    below: list[dict[str, Any]] = []
    if steps:
        means = steps[-1].means(feature)
        for lower in means.strongest(n).tolist():
            values = (means.ablation_F, means.attribution_F, means.earlier_F)
            shares = [float(values_F[lower]) / means.activation for values_F in values]
            named = dict(zip(("lost", "attributed", "earlier"), shares, strict=True))
            below += [_node(layers[:-1], steps[:-1], lower, named, n)] if shares[0] > 0 else []
    return {"dictionary": layers[-1].dictionary.name, "feature": feature, **about, "below": below}


def _explanations(
    session: Session, subject: Subject, layers: Sequence[Layer], roots: Sequence[Mapping[str, Any]]
) -> dict[tuple[str, int], str]:
    """Explain the features of trees: as the run does where it has them, else by token rules."""
    shown, tokens, explained = set(_features(roots)), subject.token_strings(), dict[tuple[str, int], str]()
    for layer in layers:
        name = layer.dictionary.name
        features = sorted(feature for dictionary, feature in shown if dictionary == name)
        texts = layer.rules_of(features, tokens) if features else {}
        if not is_toy(session):
            texts |= {one.feature.index: one.explanation.text for one in session.results(name) if one.explanation}
        explained |= {(name, feature): texts[feature] for feature in features}
    return explained


def _features(nodes: Iterable[Mapping[str, Any]]) -> Iterable[tuple[str, int]]:
    for node in nodes:
        yield node["dictionary"], node["feature"]
        yield from _features(node["below"])


def _described(node: Mapping[str, Any], explained: Mapping[tuple[str, int], str]) -> dict[str, Any]:
    below = [_described(one, explained) for one in node["below"]]
    return {**node, "explanation": explained[node["dictionary"], node["feature"]], "below": below}
