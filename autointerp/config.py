"""One YAML file is one experiment: load it, change fields, refuse what is unknown, name its identity.

Every field is annotated with the role it has in a run's identity: IDENTITY (its value changes the results), CONTENT
(it names something whose content does: a path, a model), or RUNTIME (it changes nothing but speed and place).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field

from sae.baselines.registry import check_name
from sae.common.errors import UserError
from sae.common.settings import Section, read, sections_in
from sae.common.settings import build as build_section
from sae.models.toy_recipe import Toy
from sae.training.recipes import AnyRecipe


class Role(Enum):
    """What a config field is to a run's identity."""

    IDENTITY = "identity"
    CONTENT = "content"
    RUNTIME = "runtime"


I, C, R = Role.IDENTITY, Role.CONTENT, Role.RUNTIME  # noqa: E741


class Corpus(Section):
    source: Annotated[str, C] = "stdlib"
    """`stdlib`, a text file, a folder, `x.jsonl`, `x.parquet` (`#COLUMN`, by default `text`), or `hf:NAME`."""
    held_out: Annotated[float, I, Field(gt=0, lt=1)] = 0.15
    """Share of the text, by document, that records are drawn from; dictionaries and baselines learn from the rest."""
    context: Annotated[int, I, Field(ge=8)] = 128
    """Tokens the model sees at once (a BOS token, if any, comes on top)."""
    max_tokens: Annotated[int, I, Field(gt=0)] = 20_000_000
    """The corpus is read until it has given this many tokens."""


class Subject(Section):
    model: Annotated[str | None, C] = None
    """`toy` (trained here on the corpus), a hub name, or a Hugging Face directory; null: what the dictionary names."""
    hook_point: Annotated[str | None, C] = None
    """TransformerLens name, such as blocks.0.mlp.hook_post; null: what the dictionary names."""
    prepend_bos: Annotated[bool | None, I] = None
    """Null: as the dictionary says, else as the model is used to."""
    toy: Annotated[Toy, I] = Toy()
    """Its seed is added to the run's."""


def _known_baseline(baseline: str) -> str:
    try:
        return check_name(baseline)
    except UserError as error:
        raise ValueError(str(error)) from error


Baseline = Annotated[str, AfterValidator(_known_baseline)]


class Dictionaries(Section):
    load: Annotated[tuple[str, ...], C] = ()
    """Trained dictionaries, in any known format."""
    train: Annotated[tuple[AnyRecipe, ...], I] = ()
    """Recipes of autoencoders to train here, all at once; `sae train` is for long trainings."""
    steps: Annotated[int, I, Field(gt=0)] = 150
    batch: Annotated[int, I, Field(gt=0)] = 4096
    """Activation vectors of a training step."""
    baselines: Annotated[tuple[Baseline, ...], I] = ("neurons", "pca", "ica", "random", "random_matched")
    """Also `nmf`; and, but for the last, the k largest features of each vector alone: `pca-top32`."""
    fit_vectors: Annotated[int, I, Field(gt=1)] = 32_768
    """Activation vectors that PCA, ICA, NMF and the density matching learn from."""


class Records(Section):
    """How many records of each source one side of a feature gets."""

    top: Annotated[int, I, Field(ge=0)] = 0
    quantile: Annotated[int, I, Field(ge=0)] = 0
    importance: Annotated[int, I, Field(ge=0)] = 0
    random: Annotated[int, I, Field(ge=0)] = 0
    inactive: Annotated[int, I, Field(ge=0)] = 0


class Sampling(Section):
    features: Annotated[int, I, Field(gt=0)] = 100
    """Features of each dictionary, drawn from those that are active often enough."""
    tokens: Annotated[int | None, I, Field(gt=0)] = None
    """Held-out tokens, by document, that records are drawn from; null: all of them."""
    fragment: Annotated[int, I, Field(gt=1)] = 64
    """Tokens of a record."""
    explain: Records = Records(top=10, quantile=5, random=5)
    score: Records = Records(top=5, random=5)


class Explaining(Section):
    """How language models explain; the rules have no settings."""

    style: Annotated[Literal["tokens", "highlighted"], I] = "tokens"
    """Token-activation pairs (Bills et al. 2023), or text with marked tokens (delphi)."""
    contrast: Annotated[bool, I] = False
    """Also show the `inactive` explain records, as texts the explanation must not fit."""
    logits: Annotated[bool, I] = False
    """Also show the tokens that the feature's decoder direction promotes."""
    candidates: Annotated[int, I, Field(gt=0)] = 1
    """Explanations per feature; the one that predicts held-out explain records best is taken."""
    max_words: Annotated[int, I, Field(gt=0)] = 60
    """An explanation's length budget."""
    max_tokens: Annotated[int, I, Field(gt=0)] = 2000
    """Of the answer; models that think before they answer need room for it."""
    temperature: Annotated[float | None, I, Field(ge=0)] = None
    """Null: the provider's default (a model in this process: 0)."""


class Simulating(Section):
    """How language models simulate."""

    method: Annotated[Literal["auto", "all_at_once", "logprobs", "text"], I] = "auto"
    """One pass over the prompt; generated, with log-probabilities; generated, as text; or the best of these."""
    top_logprobs: Annotated[int, I, Field(ge=1)] = 15
    samples: Annotated[int, I, Field(gt=0)] = 1
    """Generated answers that are averaged."""
    reasoning_tokens: Annotated[int, I, Field(ge=0)] = 2000
    """Added to max_tokens for models that think before they answer."""
    temperature: Annotated[float | None, I, Field(ge=0)] = None


ScorerName = Literal["simulation", "detection", "fuzzing", "intruder", "example_embedding", "embedding"]


class Judging(Section):
    """How the scorers other than simulation judge."""

    texts: Annotated[int, I, Field(gt=0)] = 5
    """Texts per question of detection and fuzzing."""
    logprobs: Annotated[bool, I] = False
    """Detection and fuzzing: also ask for log-probabilities and report AUROC (not Anthropic)."""
    intruders: Annotated[int, I, Field(gt=0)] = 5
    """Intruder questions per feature."""
    intruder_texts: Annotated[int, I, Field(gt=2)] = 5
    """Texts per intruder question, the intruder included."""
    reasoning_tokens: Annotated[int, I, Field(ge=0)] = 2000
    temperature: Annotated[float | None, I, Field(ge=0)] = None
    embedder: Annotated[str, I] = "sentence-transformers/all-MiniLM-L6-v2"
    """A sentence-transformers model, by name or directory, for the embedding scorers."""


class Runtime(Section):
    device: Annotated[str, R] = "auto"
    batch_blocks: Annotated[int, R, Field(gt=0)] = 32
    """Blocks the model runs at once while sampling."""
    out: Annotated[str | None, R] = None
    """The run folder; null: runs/NAME-IDENTITY here."""
    concurrency: Annotated[int, R, Field(gt=0)] = 100
    """Most calls under way at one endpoint."""
    tries: Annotated[int, R, Field(gt=0)] = 8
    call_seconds: Annotated[float, R, Field(gt=0)] = 600
    """For one call with all its tries and waits."""
    attempt_seconds: Annotated[float, R, Field(gt=0)] = 120
    first_wait: Annotated[float, R, Field(ge=0)] = 1.0
    """Mean seconds before the second try; doubles from there."""
    max_cost: Annotated[float | None, R, Field(ge=0)] = None
    """USD that this invocation may spend."""
    fail_on_error: Annotated[float, R, Field(ge=0, le=1)] = 0.05
    """Share of results that may be errors before the run is stopped."""
    batch: Annotated[bool, R] = False
    """Send calls through the providers' batch APIs, at half price and within a day."""
    poll_seconds: Annotated[float, R, Field(gt=0)] = 30
    """Between looks at a provider's batch."""
    prices: Annotated[str | None, R] = None
    """A file with prices of your own, over the shipped ones."""


class Config(Section):
    name: Annotated[str, R] = "run"
    seed: Annotated[int, I] = 0
    corpus: Corpus = Corpus()
    subject: Subject = Subject()
    dictionaries: Dictionaries = Dictionaries()
    sampling: Sampling = Sampling()
    explainers: Annotated[tuple[str, ...], I, Field(min_length=1)] = ("rules-5",)
    """The first is the main one. `rules-N` writes at most N rules; `rules-unlimited`; `token-table`; or a judge."""
    simulator: Annotated[str, I] = "rules"
    """`rules`, or a judge, which all scorers ask."""
    scorers: Annotated[tuple[ScorerName, ...], I, Field(min_length=1)] = ("simulation",)
    """The first is the main one."""
    controls: Annotated[float, I, Field(ge=0, le=1)] = 1.0
    """Share of features that are also scored with another feature's explanation."""
    explaining: Explaining = Explaining()
    simulating: Simulating = Simulating()
    judging: Judging = Judging()
    runtime: Runtime = Runtime()

    def identity_fields(self) -> dict[str, Any]:
        """The values of all IDENTITY fields, by dotted name."""
        roles = field_roles(Config)
        return {name: value for name, value in _leaves(self) if roles[name] is I}


def load(name_or_path: str, changes: Mapping[str, Any] | None = None) -> Config:
    """Read a config by path or by name, with some fields changed.

    Args:
        name_or_path: an explicit path, `NAME` in ./eval_configs, or a shipped one.
        changes: dotted names to new values, such as {"sampling.features": 50}.

    Raises:
        UserError: no such config, not YAML, an unknown key (with the near one), or a value of the wrong kind.
    """
    path, values = read(name_or_path)
    return build({"name": path.stem} | values, changes or {}, str(path))


def build(values: dict[str, Any], changes: Mapping[str, Any], where: str) -> Config:
    """Validate. Raises UserError in one line."""
    return build_section(Config, values, changes, where)


def field_roles(section: type[BaseModel], prefix: str = "") -> dict[str, Role]:
    """The role of every leaf field, by dotted name; sections that have one of their own are leaves.

    Raises TypeError if a field has none or several.
    """
    roles: dict[str, Role] = {}
    for name, info in section.model_fields.items():
        inner = sections_in(info.annotation)
        found = [item for item in info.metadata if isinstance(item, Role)]
        if inner and not found:
            for choice in inner:
                roles |= field_roles(choice, f"{prefix}{name}.")
            continue
        if len(found) != 1:
            raise TypeError(f"config field {prefix}{name} has {len(found)} roles; give it one of I, C, R")
        roles[prefix + name] = found[0]
    return roles


def _leaves(section: BaseModel, prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Values by dotted name, as plain data; sections with a role of their own whole."""
    roles = field_roles(type(section))
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, BaseModel) and name not in roles:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, _plain(value)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value
