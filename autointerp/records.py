"""Defines the frozen values that flow through autointerp."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from autointerp.population import Population

T = TypeVar("T")

Source = Literal["top", "quantile", "importance", "random", "inactive", "hard", "weighted"]
ACTIVE_SOURCES: frozenset[Source] = frozenset({"top", "quantile", "importance"})
"""Sources of records that are drawn for their activations."""
Status = Literal["ok", "undefined", "failed", "error"]
"""What became of a score. It is `undefined` where the truth is constant on the scored records, and `failed` where the
truth varies but the prediction is constant: the explanation predicts nothing, which counts as 0. An `error` is an
answer that is missing or cannot be read."""
LONGEST_INDEX = 10
"""Digits of the largest index that records.parquet can hold; Python itself refuses to read thousands of them."""


class AnswerError(ValueError):
    """Says why a model's answer is missing or cannot be read: the feature's status is `error`, never a number."""


@dataclass(frozen=True, order=True)
class FeatureId:
    """Names a feature by its dictionary and its index there; prints `topk_4x/1234`."""

    dictionary: str
    index: int

    def __str__(self) -> str:
        return f"{self.dictionary}/{self.index}"

    @property
    def without_hook_point(self) -> str:
        """Name the feature for random streams: the same choices whatever other hook points the run has."""
        return f"{without_hook_point(self.dictionary)}/{self.index}"


def is_index(text: str) -> bool:
    """Tell whether a text is a whole number that can be the index of a feature, or a count of rules."""
    return text.isdecimal() and len(text) <= LONGEST_INDEX


def without_hook_point(dictionary: str) -> str:
    """Drop the hook point from the name of a dictionary of a run at several: `pca@blocks.0.hook_mlp_out` is `pca`."""
    return dictionary.partition("@")[0]


ANY = ""
"""Stands for every trained dictionary, or for a run's only dictionary, where things are listed by dictionary."""


def entry_of(by_dictionary: Mapping[str, T], dictionary: str) -> T | None:
    """Return what is listed for a dictionary: under its name, its name without the hook point, or ANY."""
    names = (dictionary, without_hook_point(dictionary), ANY)
    return next((by_dictionary[name] for name in names if name in by_dictionary), None)


@dataclass(frozen=True)
class ActivationRecord:
    """Holds one fragment of text and a feature's activation at each of its tokens."""

    tokens: tuple[str, ...]
    activations: tuple[float, ...]
    """One activation per token."""
    document: int
    """Index of the document in the corpus."""
    source: Source
    """How it was sampled. By its largest activation: among the largest (top), spread over the quantiles (quantile) or
    with probability proportional to its square (importance). At random: among all fragments (random) or among those
    without any activation (inactive). Without any activation, but where a near feature of the dictionary is active
    (hard). With known probability, to stand for all fragments (weighted)."""
    weight: float = 1.0
    """Number of fragments that a weighted record stands for: one over its inclusion probability; 1 for the others."""


@dataclass(frozen=True)
class Effect:
    """Holds what ablating a feature does to the model's predictions on held-out text: ablated minus untouched."""

    tokens: int
    """Tokens of its own score records on which it is active and its effect was measured."""
    loss: float | None
    """Mean change of the next token's loss over these, in nats; None if there are none."""
    loss_others: float | None
    """The same over all tokens of its random and inactive score records; None if it has none."""
    lowered: tuple[str, ...]
    """Tokens whose probability as the next one falls most, strongest first."""
    lowered_by: tuple[float, ...]
    """Mean change of the probability of each, over the active tokens."""
    raised: tuple[str, ...]
    """Tokens whose probability rises most, strongest first."""
    raised_by: tuple[float, ...]
    unlowered: tuple[str, ...]
    """As many other tokens as are lowered, drawn from those that other features of the dictionary lower, and where
    these are too few from the vocabulary."""
    logit_agreement: float | None
    """Pearson's correlation over the vocabulary of the feature's logit weights with the measured fall of each token's
    log-probability; None where either does not exist."""


@dataclass(frozen=True)
class FeatureRecord:
    """Holds what was sampled of one feature."""

    id: FeatureId
    explain: Sequence[ActivationRecord]
    """What explainers see."""
    score: Sequence[ActivationRecord]
    """What explanations are scored on; shares no document with `explain`."""
    density: float
    """Share of all sampled tokens on which the feature is active."""
    max_activation: float
    """Largest activation over the same tokens."""
    histogram: tuple[int, ...]
    """Number of fragments whose largest activation is in [2^(i/2), 2^((i+1)/2)) * HISTOGRAM_FLOOR, for bin i."""
    decoder_norm: float
    decoder_max_cosine: float
    """Cosine with the nearest other decoder direction of the dictionary."""
    promoted: tuple[str, ...] = ()
    """Tokens whose logits the decoder direction raises most, strongest first; empty if that is not defined."""
    unpromoted: tuple[str, ...] = ()
    """As many other tokens, drawn at random from the rest of the vocabulary; fewer where it is too small."""
    promoted_logits: tuple[float, ...] = ()
    """What its decoder direction, of the length that it has, adds to the logit of each promoted token."""
    suppressed: tuple[str, ...] = ()
    """Tokens whose logits the decoder direction lowers most, strongest first; empty if that is not defined."""
    suppressed_logits: tuple[float, ...] = ()
    """What it adds to the logits of these."""
    direction: NDArray[np.float32] | None = field(default=None, compare=False)
    """Its decoder row [D]; None in a run folder of an earlier version."""
    writes: str = ""
    """The hook points whose activations that row is a direction of, joined by "+"."""
    population: Population | None = field(default=None, compare=False)
    """Its activations on every token of the score half, or on a random part of it; None if they were not kept."""
    effect: Effect | None = None
    """What ablating it does; None where that was not measured (sampling.effects)."""


HISTOGRAM_BINS = 64
HISTOGRAM_FLOOR = 2.0**-20
"""Lower edge of bin 0; 64 half-octave bins reach to 2^12. Values outside are counted in the outermost bins."""


@dataclass(frozen=True)
class Explanation:
    """Holds a sentence about a feature."""

    text: str
    prompt: str
    """Name and hash of the prompt's wording."""
    model: str
    """The explainer that wrote it: a model spec, or the name of a rule."""


@dataclass(frozen=True)
class Simulation:
    """Holds the activations that a simulator predicted from an explanation for one score record."""

    record: int
    """Index among the feature's score records."""
    predicted: tuple[float | None, ...]
    """One value per token, from 0 to 10; None if the answer's log-probabilities hold no number: that record's scores
    are undefined."""


@dataclass(frozen=True)
class Judgement:
    """Holds a judge's answer about one score record, or one token."""

    record: int
    """Index among the feature's score records; for logits, among its promoted and then its unpromoted tokens; for
    effect, among its lowered and then its unlowered tokens."""
    answer: int
    """Detection: 1 for active. Fuzzing: 1 for correct marks. Intruder: 1 if the judge named it. Logits: 1 for promoted.
    Effect: 1 for lowered. Otherwise 0."""
    probability: float | None = None
    """Probability of the answer 1, where the judge says it."""


@dataclass(frozen=True)
class Control:
    """Holds a feature's scores with an uninformed explanation, by which it should not be predicted."""

    scores: Mapping[str, float | None]
    errors: Mapping[str, str] = field(default_factory=dict)
    failed: tuple[str, ...] = ()


@dataclass(frozen=True)
class FeatureResult:
    """Holds one feature's explanation by one explainer, with all its scores."""

    feature: FeatureId
    explainer: str
    status: Status
    """Status of the run's main score."""
    explanation: Explanation | None
    simulations: tuple[Simulation, ...]
    scores: Mapping[str, float | None]
    """Scores by name; None if a score is undefined, as the correlation with a constant truth is, and 0 if it failed."""
    controls: Mapping[str, Control] = field(default_factory=dict)
    """The same scores of uninformed explanations, by kind: see `calibration.controls`."""
    error: str | None = None
    """The entry of the main scorer, or of its main score, in `errors`."""
    usage: Mapping[str, int | float | None] = field(default_factory=dict)
    """Calls, tokens and USD of all answers behind this result, as they were when the answers were made."""
    errors: Mapping[str, str] = field(default_factory=dict)
    """Why there is no answer that can be read: by scorer, which then has no scores, or by score."""
    judgements: Mapping[str, tuple[Judgement, ...]] = field(default_factory=dict)
    """Judgements by scorer."""
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """95% intervals of the scores that are estimates of a whole text's, by name."""
    failed: tuple[str, ...] = ()
    """Scores that failed: the prediction is constant and the truth is not."""


@dataclass(frozen=True)
class Stability:
    """Holds how far a dictionary's features reappear in dictionaries of other seeds; see `sae.measuring.stability`."""

    others: tuple[str, ...]
    """The dictionaries of the other seeds; of several runs, which have one name."""
    pw_mcc: float
    """Mean absolute cosine of matched decoder directions, over all pairs of these dictionaries."""
    mean: float
    """Mean over all its features of the share of the others in which a feature reappears."""
    features: Mapping[int, float]
    """That share of each sampled feature."""
    cosines: Mapping[int, float]
    """Of each sampled feature the smaller cosine, of encoder and decoder directions, with its pair; the mean over the
    others."""


@dataclass(frozen=True)
class DictionarySummary:
    """Holds what a run measured of one dictionary; a measure that does not exist is None."""

    name: str
    kind: str
    hook_point: str
    d_in: int
    n_features: int
    n_sampled: int
    """Features that were explained and scored."""
    n_candidates: int
    """Features that were looked at until enough of them could be sampled."""
    n_dead: int
    """Candidates that are active nowhere in the sampled text."""
    n_rare: int
    """Candidates with too few active fragments to be explained and scored."""
    l0: float | None
    """Active features per token."""
    fvu: float | None
    """Fraction of variance unexplained: sum |x - x_hat|^2 / sum |x - mean x|^2."""
    dead: float | None
    """Share of features that are active on no token."""
    ce_recovered: float | None
    """Share of the loss added by an ablation that the reconstruction avoids."""
    converged: bool | None
    """Whether an iterative fit (ICA) converged before its limit."""
