"""The values that flow through autointerp, frozen. Knows nothing about how they are made, stored or shown."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Source = Literal["top", "quantile", "importance", "random", "inactive"]
Status = Literal["ok", "undefined", "error"]


class AnswerError(ValueError):
    """An explanation or a prediction that cannot be read: the feature's status is `error`, never a number."""


@dataclass(frozen=True, order=True)
class FeatureId:
    """A feature by its dictionary's name and its index there; prints `topk_4x/1234`."""

    dictionary: str
    index: int

    def __str__(self) -> str:
        return f"{self.dictionary}/{self.index}"


@dataclass(frozen=True)
class ActivationRecord:
    """One fragment of text and a feature's activation at each of its tokens.

    source: why it was chosen: among the largest maxima, spread over the quantiles of the maxima, with probability
    proportional to the squared maximum, at random among all fragments, or at random among those verified inactive.
    """

    tokens: tuple[str, ...]
    activations: tuple[float, ...]
    document: int
    source: Source


@dataclass(frozen=True)
class FeatureRecord:
    """What is known of a feature: records to explain it from, and records to score with that share no document.

    density: share of all sampled tokens on which it is active. max_activation: over the same tokens. histogram:
    number of fragments whose maximum is in [2^(i/2), 2^((i+1)/2)) * HISTOGRAM_FLOOR for bin i. promoted: the tokens
    whose logits its decoder direction raises most, strongest first; empty where that cannot be said.
    """

    id: FeatureId
    explain: tuple[ActivationRecord, ...]
    score: tuple[ActivationRecord, ...]
    density: float
    max_activation: float
    histogram: tuple[int, ...]
    decoder_norm: float
    decoder_max_cosine: float
    promoted: tuple[str, ...] = ()


HISTOGRAM_BINS = 64
HISTOGRAM_FLOOR = 2.0**-20
"""Lower edge of bin 0; 64 half-octave bins reach to 2^12. What lies outside is counted in the outermost bins."""


@dataclass(frozen=True)
class Explanation:
    """A sentence about a feature; `prompt` is the wording's name and hash, `model` who wrote it."""

    text: str
    prompt: str
    model: str


@dataclass(frozen=True)
class Simulation:
    """Activations predicted from an explanation for one score record, by its place there; unit 0-10.

    None where the judge's answer has no number among its log-probabilities: scores of that record are undefined.
    """

    record: int
    predicted: tuple[float | None, ...]


@dataclass(frozen=True)
class Judgement:
    """What a judge said of one score record, by its place there: 1 for active (for marks: right; for intruders: found).

    probability: of saying 1, where log-probabilities were asked for.
    """

    record: int
    answer: int
    probability: float | None = None


@dataclass(frozen=True)
class FeatureResult:
    """One feature explained by one explainer and scored.

    scores: by name; None where a score does not exist (`undefined`: a constant vector). errors: by scorer, the reason
    why there was no answer that can be read; such a scorer has no scores. control: the same scores with another
    feature's explanation in place of its own, and control_errors why some are not there. status: that of the run's main
    scorer, and `error` its reason. usage: what all answers behind this took when they were made. judgements: by scorer.
    """

    feature: FeatureId
    explainer: str
    status: Status
    explanation: Explanation | None
    simulations: tuple[Simulation, ...]
    scores: Mapping[str, float | None]
    control: Mapping[str, float | None] = field(default_factory=dict)
    error: str | None = None
    usage: Mapping[str, int | float | None] = field(default_factory=dict)
    errors: Mapping[str, str] = field(default_factory=dict)
    control_errors: Mapping[str, str] = field(default_factory=dict)
    judgements: Mapping[str, tuple[Judgement, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class DictionarySummary:
    """A dictionary as the run saw it. Measures of the whole dictionary are None where they do not exist.

    n_dead: candidates active nowhere in the sampled text; n_rare: with too few active fragments to be explained and
    scored; both among the n_candidates that were looked at until enough features were found. converged: whether an
    iterative fit (ICA) ended before its limit.
    """

    name: str
    kind: str
    hook_point: str
    d_in: int
    n_features: int
    n_sampled: int
    n_candidates: int
    n_dead: int
    n_rare: int
    l0: float | None
    fvu: float | None
    dead: float | None
    ce_recovered: float | None
    converged: bool | None
