"""Describes the sections of an experiment's config that belong to no part: text, subject, records, limits.

Every field is annotated with the role it has in a run's identity, see `autointerp.parts`.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from autointerp.parts import C, I, R
from sae.baselines.registry import check_name
from sae.common.errors import UserError
from sae.common.field_types import Different, Text
from sae.common.settings import Section
from sae.models.toy_recipe import Toy
from sae.training.recipes import AnyRecipe


class Corpus(Section):
    """Chooses the text, and how much of it is held out."""

    source: Annotated[Text | None, C] = None
    """`stdlib`, a text file, a folder, `x.jsonl`, `x.json`, `x.parquet` (`#COLUMN`, by default `text`), also `.gz` and
    `.zst`, or `hf:NAME`; several with ` + ` between them are read one after the other; null: what the dictionaries of
    `sae train` were trained on, else `stdlib`."""
    held_out: Annotated[float, I, Field(gt=0, lt=1)] = 0.15
    """Share of the text, by document, that records are drawn from; dictionaries and baselines learn from the rest.
    Where dictionaries of `sae train` learned from this corpus, what their trainings held out is taken instead."""
    context: Annotated[int, I, Field(ge=8)] = 128
    """Tokens the model sees at once (a BOS token, if any, comes on top)."""
    max_tokens: Annotated[int, I, Field(gt=0)] = 20_000_000
    """The corpus is read until it has given this many tokens."""


class Subject(Section):
    """Names the language model that is studied."""

    model: Annotated[Text | None, C] = None
    """`toy` (trained here on the corpus), a hub name, or a Hugging Face directory; null: what the dictionary names."""
    hook_points: Annotated[tuple[Text, ...], C, Different] = ()
    """Hook points at which baselines are fitted and dictionaries trained: TransformerLens' names
    (blocks.0.mlp.hook_post) or transformers' modules (hf:model.layers.0.mlp, their input hf:model.layers.0.mlp:in);
    empty: those that the dictionaries read. A dictionary reads its own; with exactly one name here, that one."""
    prepend_bos: Annotated[bool | None, I] = None
    """Whether every text begins with a BOS token; null: as the dictionary says, else the model's default."""
    reset_weights: Annotated[bool, I] = False
    """Re-initialise the subject's weights, by the run's seed, and keep its config and tokenizer: a null for the whole
    run (Heap et al. 2025, arXiv 2501.17727). What is trained or fitted here learns from the random subject."""
    toy: Annotated[Toy, I] = Toy()
    """Size and training of the toy model; its seed is added to the run's."""


def _known_baseline(baseline: str) -> str:
    try:
        return check_name(baseline)
    except UserError as error:
        raise ValueError(str(error)) from error


Baseline = Annotated[str, AfterValidator(_known_baseline)]


class Dictionaries(Section):
    """Lists the dictionaries that are compared: loaded, trained here, and baselines."""

    load: Annotated[tuple[Text, ...], C] = ()
    """Trained dictionaries, in any known format, on this machine or on the hub (`hf:OWNER/REPO[/PATH][@REVISION]`,
    `saelens:RELEASE/SAE_ID`)."""
    train: Annotated[tuple[AnyRecipe, ...], I] = ()
    """Recipes of autoencoders to train here, all at once; `sae train` is for long trainings."""
    steps: Annotated[int, I, Field(gt=0)] = 150
    """Training steps of `train`."""
    batch: Annotated[int, I, Field(gt=0)] = 4096
    """Activation vectors of a training step."""
    baselines: Annotated[tuple[Baseline, ...], I, Different] = ("neurons", "pca", "ica", "random", "random_matched")
    """Baselines; also `nmf`, and all but random_matched with only the k largest features per vector: `pca-top32`."""
    fit_vectors: Annotated[int, I, Field(gt=1)] = 32_768
    """Activation vectors that PCA, ICA, NMF and the density matching learn from."""


class Records(Section):
    """Says how many records of each source are drawn for one side of a feature."""

    top: Annotated[int, I, Field(ge=0)] = 0
    """Records with the largest maximum activations."""
    top_stride: Annotated[int, I, Field(gt=0)] = 2
    """Take every n-th of the fragments with the largest maxima. 2: every second one, as Bills et al. 2023 do for one
    side; 1: all."""
    quantile: Annotated[int, I, Field(ge=0)] = 0
    """Records spread evenly over the quantiles of the maximum activations."""
    importance: Annotated[int, I, Field(ge=0)] = 0
    """Records drawn with probability proportional to the squared maximum activation."""
    random: Annotated[int, I, Field(ge=0)] = 0
    """Records drawn at random among all fragments."""
    random_active: Annotated[bool, I] = False
    """Draw the random records only among fragments on which the feature is active (Cunningham et al. 2023)."""
    inactive: Annotated[int, I, Field(ge=0)] = 0
    """Records drawn at random among fragments on which the feature is silent."""

    @property
    def n_active(self) -> int:
        """How many are taken because the feature is active on them."""
        return self.top + self.quantile + self.importance

    @property
    def n_records(self) -> int:
        """How many records a feature has on this side."""
        return self.n_active + self.random + self.inactive

    @model_validator(mode="after")
    def _not_none(self) -> Self:
        if not self.n_records:
            raise ValueError("all numbers of records are 0; ask for some, such as top=5, random=5")
        return self


class ScoreRecords(Records):
    """Says how many records of each source are drawn to score a feature on."""

    weighted: Annotated[int, I, Field(ge=0)] = 0
    """Records drawn with known probabilities, from which language models' scores on the whole score half are
    estimated (the population score)."""
    hard: Annotated[int, I, Field(ge=0)] = 0
    """Records on which the feature is silent, though one would expect otherwise, for detection/hard: a near one of the
    dictionary's sampled features is active on them, or they read like texts on which the feature is active."""
    hard_by: Annotated[Literal["decoder", "coactivation", "embedding"], I] = "decoder"
    """`decoder`, `coactivation`: how near two features are, by the cosine of their decoder rows, or of the sets of
    fragments on which they are active; a feature to which none is near gets no hard records. `embedding`: how near two
    texts are, by the cosine of their sentence embeddings (embedding.model)."""

    @property
    def embeds(self) -> bool:
        """Whether hard records are drawn by the embeddings of texts."""
        return self.hard > 0 and self.hard_by == "embedding"

    @property
    def n_records(self) -> int:
        return super().n_records + self.hard + self.weighted


class Sampling(Section):
    """Decides which features and which fragments of text are used."""

    features: Annotated[int, I, Field(gt=0)] = 100
    """Features of each dictionary, drawn from those that are active often enough."""
    draw: Annotated[Literal["random", "first"], I] = "random"
    """`random`: features are drawn at random until there are enough; `first`: those with the lowest indices, of which
    the ones that are active too rarely are counted and not replaced."""
    min_active: Annotated[int, I, Field(ge=0)] = 0
    """Fragments on which a feature must be active to be drawn, besides those that its records need of either side."""
    feature_ids: Annotated[dict[str, tuple[Annotated[int, Field(ge=0)], ...]], I] = Field(default_factory=dict)
    """Features that may be drawn, by the name of their dictionary; "" stands for every trained dictionary. Where none
    are listed, all may be drawn."""
    tokens: Annotated[int | None, I, Field(gt=0)] = None
    """Held-out tokens, by document, that records are drawn from; null: all of them."""
    fragment: Annotated[int, I, Field(gt=1)] = 64
    """Tokens of a record."""
    most_fragments: Annotated[int | None, I, Field(gt=0)] = None
    """Fragments that records are drawn from, of as many documents as possible: one of each at random, then a second of
    each, and so on until there are enough; null: all."""
    centred: Annotated[bool, I] = False
    """Move the records that are drawn for their activations so that the largest stands in the middle, as far as the
    text that the model sees at once reaches. Records of neighbouring fragments can then overlap."""
    explain: Records = Records(top=10, quantile=5, random=5)
    """What explainers see."""
    score: ScoreRecords = ScoreRecords(weighted=10, top=5, random=5)
    """What explanations are scored on; from other documents than the explain records."""
    effects: Annotated[int, I, Field(ge=0)] = 0
    """Score records of a feature on which it is active, and as many of the others, on which the feature is ablated to
    measure what it does to the model's predictions; 0: none. The scorer effect needs some."""
    population: Annotated[int, I, Field(ge=0)] = 200_000
    """Tokens of the score half that population scores are about: all of it if it is smaller, else random fragments; 0:
    no population scores."""


def _level(value: object) -> object:
    """Read YAML's `off`, which is a false, as the word."""
    return "off" if value is False else value


Level = Annotated[Literal["default", "off", "low", "medium", "high"], BeforeValidator(_level)]


class Effort(Section):
    """Says how much models think before they answer: `off`, `low`, `medium`, `high`; `default`: nothing is sent; null:
    off where the model can stop thinking, else the least that it can, and nothing for a model that is not known.
    """

    explaining: Annotated[Level | None, I] = "default"
    """Thinking of explainers."""
    simulating: Annotated[Level | None, I] = None
    """Thinking of the simulator."""
    judging: Annotated[Level | None, I] = None
    """Thinking of the judge."""


class Stopping(Section):
    """Decides whether all features are scored, or only as many as the comparisons of dictionaries need."""

    until_resolved: Annotated[bool, I] = False
    """Score features in rounds, and go on only with the dictionaries of which a comparison is open: a pair, or the lead
    over the best control, by the main score of the main explainer. Every interval of every round holds, all together,
    with probability 95% (statistics/sequential.py)."""
    difference: Annotated[float, I, Field(gt=0)] = 0.05
    """Means that are proven to differ by less are equal; a comparison is open until it is separated or equal."""
    first: Annotated[int, I, Field(ge=5)] = 8
    """Features of each dictionary in the first round; every later one ends with half as many again as before."""
    futility: Annotated[float, I, Field(ge=0, lt=1)] = 0.5
    """A comparison is given up, and said to be not resolved, when the scores so far leave less chance than this that
    all features would resolve it; 0: none is. Errors become rarer by this, never more frequent."""
    most: Annotated[int | None, I, Field(gt=0)] = None
    """Features of each dictionary that are scored at most; the others are scored by rules alone, for nothing. null:
    all; but where language models are asked, `sampling.features`, which then becomes four times as many, up to 400."""


class Runtime(Section):
    """Sets what changes no result: speed, limits, money, and where files lie."""

    device: Annotated[Text, R] = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:1`, `mps`; auto: a GPU if there is one."""
    batch_blocks: Annotated[int, R, Field(gt=0)] = 32
    """Blocks the model runs at once while sampling."""
    engine: Annotated[Literal["local", "ray"], R] = "local"
    """Where sampling reads the text and rules score: `local`, on this machine; `ray`, in the processes of Ray. Calls of
    language models are made by this process, which keeps their limits and the budget."""
    ray_address: Annotated[Text | None, R] = None
    """The Ray cluster to join: `auto`, `HOST:6379`, `ray://HOST:10001`; null: the one that RAY_ADDRESS names, else one
    of this machine alone, which is started and stopped."""
    gpus: Annotated[int, R, Field(gt=0)] = 1
    """GPUs over which a model of vllm/... is spread."""
    gpu_share: Annotated[float, R, Field(gt=0, le=1)] = 0.7
    """Share of each GPU's memory that a model of vllm/... takes at once; the studied model needs some of the rest."""
    out: Annotated[Text | None, R] = None
    """The run folder; null: runs/NAME-IDENTITY here."""
    concurrency: Annotated[int, R, Field(gt=0)] = 100
    """Most calls in flight at one endpoint."""
    tries: Annotated[int, R, Field(gt=0)] = 8
    """Most attempts at one call."""
    call_seconds: Annotated[float, R, Field(gt=0)] = 600
    """Seconds that one call may take, with all its attempts and waits."""
    attempt_seconds: Annotated[float, R, Field(gt=0)] = 120
    """Seconds that one attempt may take."""
    first_wait: Annotated[float, R, Field(ge=0)] = 1.0
    """Mean seconds to wait before the second attempt; doubles from there."""
    max_cost: Annotated[float | None, R, Field(ge=0)] = None
    """USD that one invocation may spend; null: no limit."""
    fail_on_error: Annotated[float, R, Field(ge=0, le=1)] = 0.05
    """Share of results that may be errors before the run is stopped."""
    batch: Annotated[bool, R] = False
    """Send calls through the providers' batch APIs, at half price and within a day."""
    poll_seconds: Annotated[float, R, Field(gt=0)] = 30
    """Seconds between two looks at a provider's batch."""
    check: Annotated[bool, R] = True
    """Ask each model of an API for one token before anything slow starts."""
    prices: Annotated[Text | None, R] = None
    """A YAML file with prices of your own, which override the shipped ones; null: only the shipped ones."""
    pictures: Annotated[tuple[Literal["png", "svg", "pdf"], ...], R, Different] = ("png", "svg", "pdf")
    """File formats of the run's pictures; []: none, which makes a small run much shorter."""
    site: Annotated[bool, R] = True
    """Write the run as pages into its folder `site`, as `autointerp browse` does."""


ControlKind = Literal["mismatched", "permuted", "exchanged"]
