"""One YAML file is one experiment: load it, change fields, refuse what is unknown, name its identity.

Every field is annotated with the role it has in a run's identity: IDENTITY (its value changes the results), CONTENT
(it names something whose content does: a path, a model), or RUNTIME (it changes nothing but speed and place).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from autointerp import shipped
from sae.errors import UserError, near


class Role(Enum):
    """What a config field is to a run's identity."""

    IDENTITY = "identity"
    CONTENT = "content"
    RUNTIME = "runtime"


I, C, R = Role.IDENTITY, Role.CONTENT, Role.RUNTIME  # noqa: E741


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Corpus(_Section):
    source: Annotated[str, C] = "stdlib"
    """`stdlib`, a text file, a folder, `x.jsonl`, `x.parquet` (`#COLUMN`, by default `text`), or `hf:NAME`."""
    held_out: Annotated[float, I, Field(gt=0, lt=1)] = 0.15
    """Share of the text, by document, that records are drawn from; dictionaries and baselines learn from the rest."""
    context: Annotated[int, I, Field(ge=8)] = 128
    """Tokens the model sees at once (a BOS token, if any, comes on top)."""
    max_tokens: Annotated[int, I, Field(gt=0)] = 20_000_000
    """The corpus is read until it has given this many tokens."""


class Toy(_Section):
    vocabulary: Annotated[int, I, Field(ge=300)] = 2048
    d_model: Annotated[int, I, Field(gt=0)] = 128
    d_mlp: Annotated[int, I, Field(gt=0)] = 512
    n_heads: Annotated[int, I, Field(gt=0)] = 4
    n_layers: Annotated[int, I, Field(gt=0)] = 1
    steps: Annotated[int, I, Field(gt=0)] = 1100
    batch: Annotated[int, I, Field(gt=0)] = 16
    """Blocks a step."""


class Subject(_Section):
    model: Annotated[str | None, C] = None
    """`toy` (trained here on the corpus), a hub name, or a Hugging Face directory; null: what the dictionary names."""
    hook_point: Annotated[str | None, C] = None
    """TransformerLens name, such as blocks.0.mlp.hook_post; null: what the dictionary names."""
    prepend_bos: Annotated[bool | None, I] = None
    """Null: as the dictionary says, else as the model is used to."""
    toy: Toy = Toy()


class Train(_Section):
    """A TopK autoencoder to train (Gao et al. 2024)."""

    name: Annotated[str, I]
    expansion: Annotated[float, I, Field(gt=0)] = 4
    k: Annotated[int, I, Field(gt=0)] = 16
    steps: Annotated[int, I, Field(gt=0)] = 150
    batch: Annotated[int, I, Field(gt=0)] = 4096


Baseline = Literal["neurons", "pca", "ica", "random", "random_matched"]


class Dictionaries(_Section):
    load: Annotated[tuple[str, ...], C] = ()
    """Folders of trained dictionaries, ours or SAELens'."""
    train: tuple[Train, ...] = ()
    baselines: Annotated[tuple[Baseline, ...], I] = ("neurons", "pca", "ica", "random", "random_matched")
    fit_vectors: Annotated[int, I, Field(gt=1)] = 32_768
    """Activation vectors that PCA, ICA and the density matching learn from."""


class Records(_Section):
    """How many records of each source one side of a feature gets."""

    top: Annotated[int, I, Field(ge=0)] = 0
    quantile: Annotated[int, I, Field(ge=0)] = 0
    importance: Annotated[int, I, Field(ge=0)] = 0
    random: Annotated[int, I, Field(ge=0)] = 0
    inactive: Annotated[int, I, Field(ge=0)] = 0


class Sampling(_Section):
    features: Annotated[int, I, Field(gt=0)] = 100
    """Features of each dictionary, drawn from those that are active often enough."""
    tokens: Annotated[int | None, I, Field(gt=0)] = None
    """Held-out tokens, by document, that records are drawn from; null: all of them."""
    fragment: Annotated[int, I, Field(gt=1)] = 64
    """Tokens of a record."""
    explain: Records = Records(top=10, quantile=5, random=5)
    score: Records = Records(top=5, random=5)


class Explaining(_Section):
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


class Simulating(_Section):
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


class Judging(_Section):
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


class Runtime(_Section):
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


class Config(_Section):
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
        return {name: value for name, value in _leaves(self) if roles[_unindexed(name)] is I}


def load(name_or_path: str, changes: Mapping[str, Any] | None = None) -> Config:
    """Read a config by path or by name, with some fields changed.

    Args:
        name_or_path: an explicit path, `NAME` in ./eval_configs, or a shipped one.
        changes: dotted names to new values, such as {"sampling.features": 50}.

    Raises:
        UserError: no such config, not YAML, an unknown key (with the near one), or a value of the wrong kind.
    """
    path = shipped.find("eval_configs", name_or_path, ".yaml")
    try:
        values = yaml.safe_load(path.read_text("utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} does not hold a mapping of settings")
    return build({"name": path.stem} | values, changes or {}, str(path))


def build(values: dict[str, Any], changes: Mapping[str, Any], where: str) -> Config:
    """Validate. Raises UserError in one line."""
    for name, value in changes.items():
        values = _changed(values, name.split("."), value)
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{where}: {_first_problem(error)}") from error


def parse_settings(settings: Iterable[str]) -> dict[str, Any]:
    """`a.b=value` strings, values in YAML. Raises UserError if one has no `=` or no value that can be read."""
    parsed = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise UserError(f"--set {setting}: write it as name=value, for example sampling.features=50")
        try:
            parsed[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise UserError(f"--set {setting}: the value is not YAML; quote it or close its brackets") from error
    return parsed


def field_roles(section: type[BaseModel], prefix: str = "") -> dict[str, Role]:
    """The role of every leaf field, by dotted name. Raises TypeError if one has none or several."""
    roles: dict[str, Role] = {}
    for name, info in section.model_fields.items():
        inner = _section_of(info.annotation)
        if inner:
            roles |= field_roles(inner, f"{prefix}{name}.")
            continue
        found = [item for item in info.metadata if isinstance(item, Role)]
        if len(found) != 1:
            raise TypeError(f"config field {prefix}{name} has {len(found)} roles; give it one of I, C, R")
        roles[prefix + name] = found[0]
    return roles


def _section_of(annotation: Any) -> type[BaseModel] | None:
    for candidate in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _leaves(section: BaseModel, prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from _leaves(value, f"{prefix}{name}.")
        elif isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
            for number, item in enumerate(value):
                yield from _leaves(item, f"{prefix}{name}.{number}.")
        elif not (isinstance(value, tuple) and _section_of(type(section).model_fields[name].annotation)):
            yield prefix + name, list(value) if isinstance(value, tuple) else value


def _unindexed(name: str) -> str:
    return ".".join(part for part in name.split(".") if not part.isdigit())


def _changed(values: dict[str, Any], path: list[str], value: Any) -> dict[str, Any]:
    if len(path) == 1:
        return values | {path[0]: value}
    inner = values.get(path[0])
    return values | {path[0]: _changed(inner if isinstance(inner, dict) else {}, path[1:], value)}


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    name = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = list(field_roles(Config))
        return f"unknown key {name!r}{near(name, [*known, *{key.split('.')[0] for key in known}])}"
    return f"{name}: {problem['msg'].lower()} (got {problem['input']!r})"


def cache_folder() -> Path:
    """Where subjects, dictionaries and answers are kept between runs: AUTOINTERP_CACHE, or the user's cache folder."""
    from platformdirs import user_cache_path

    chosen = os.environ.get("AUTOINTERP_CACHE")
    return Path(chosen).expanduser() if chosen else user_cache_path("autointerp")
