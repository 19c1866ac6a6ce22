"""Plans a run: everything that is known before a model is loaded, computed once and handed to every stage.

Mistakes of the user (paths, formats, settings that contradict each other) are raised here, before anything slow starts.
Needs no torch.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from autointerp.config import Config
from autointerp.evaluate import Method
from autointerp.records import entry_of
from autointerp.runs import identity, requests
from sae.baselines.registry import BASELINES, base_and_k
from sae.common.errors import UserError, shortened
from sae.common.files import sha256_of_path
from sae.common.memory import refuse_beyond_memory
from sae.common.resources import path_of
from sae.data.corpus import HALVES, Text
from sae.data.split import TrainingText, recorded, same_corpus
from sae.formats import peek, pin, recognise
from sae.formats.header import Header
from sae.hub.address import is_address
from sae.models.hook_names import names_modules

READ_AS_TEXT = "log_probabilities_refused_by"
"""Where run.json lists the models whose answers were read as text because they refuse log-probabilities."""
TOY = "toy"
LONGEST_DICTIONARY = 1_000
"""Characters of a dictionary's name."""
BYTES_PER_TOKEN = 40
"""Bytes that a record takes for each token while it is drawn: the activations of up to eight fragments of which it is
one, its own, and its token."""
MOST_SAMPLED = 1_000
"""Features that are counted where it is not known how many a dictionary has: more may be asked for than there are."""
FREE_PER_JUDGED, FREE_FEATURES = 4, 400
"""Features that are sampled for each that may be judged (`--until-resolved`), and how many of a dictionary suffice."""
STDLIB = "stdlib"
"""The corpus where neither the user nor a dictionary names one."""


@dataclass(frozen=True)
class PlannedDictionary:
    """Describes a dictionary that the user gives, before its weights are read."""

    path: str
    """On this machine, or on the hub with its commit."""
    header: Header
    content: str
    """The hash of its files."""
    reads: tuple[str, ...]
    """The hook points it reads in this run."""

    @property
    def described(self) -> list[Any]:
        """What the run's identity holds of it: with its commit if it is on the hub, whatever its files are."""
        described = [self.header.name, self.content, list(self.reads)]
        return [*described, self.path] if is_address(self.path) else described

    @cached_property
    def training(self) -> TrainingText | None:
        """The text that `sae train` trained it on; None where it does not say."""
        return recorded(self.header.metadata)


@dataclass(frozen=True)
class Plan:
    """Describes a run as it will be done: the resolved config, what it starts from, and its identity."""

    config: Config
    """Nothing is left to the dictionaries any more: model, hook points, BOS token and corpus are filled in."""
    method: Method
    dictionaries: tuple[PlannedDictionary, ...]
    """Those of `dictionaries.load`, in that order."""
    text: Text
    """The corpus, read once."""
    contents: dict[str, Any]
    """What every CONTENT field of the config stands for: hashes of files, recipes, hub names."""
    processing: dict[str, Any]
    """The weight processing of the model under which the dictionaries were trained."""
    identity: str
    """The hash of all that changes the run's results."""
    read_as_text: tuple[str, ...] = ()
    """Models that refuse the log-probabilities that the run was to read: config and method read text instead."""

    @property
    def hook_points(self) -> tuple[str, ...]:
        """All hook points that the run reads or writes."""
        written = [name for one in self.dictionaries if not one.header.is_autoencoder for name in one.header.writes]
        read = [name for one in self.dictionaries for name in one.reads]
        return tuple(dict.fromkeys((*self.config.subject.hook_points, *read, *written)))

    @property
    def records_identity(self) -> str:
        """The hash of all that changes the run's records."""
        return identity.identify_records(self.config, self.contents)

    @property
    def trainings(self) -> tuple[TrainingText, ...]:
        """The trainings on this corpus, whose held-out text is what may be sampled."""
        known = [planned.training for planned in self.dictionaries]
        return tuple(t for t in known if t and same_corpus(t.source, self.text.source))

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of the dictionaries, a line each."""
        notes = [f"{planned.header.name}: {note}" for planned in self.dictionaries for note in planned.header.notes]
        silent = [planned.header.name for planned in self.dictionaries if planned.training is None]
        if silent:
            names = ", ".join(silent)
            notes.append(f"{names}: the text that it was trained on is not known, so sampled text may be among it")
        return (*notes, *self.method.notes, *self.text.damage)

    @property
    def about(self) -> dict[str, Any]:
        """What run.json says of the run before anything is sampled."""
        about = identity.describe(self.config, self.method, self.contents, self.identity) | {"notes": list(self.notes)}
        return about | ({READ_AS_TEXT: list(self.read_as_text)} if self.read_as_text else {})

    def reading_text(self, models: Sequence[str]) -> "Plan":
        """Return the plan with the answers of these models read as text; the run stays the same one."""
        if not models:
            return self
        config = requests.without_logprobs(self.config, models)
        return replace(self, config=config, method=Method.of(config), read_as_text=tuple(models))


def make_plan(config: Config) -> Plan:
    """Resolve a config, read the dictionaries' headers and the corpus once each, and hash what the results depend on.

    Raises UserError for an unknown scorer, model spec or path, for dictionaries that cannot share a run, and for a
    setting that the dictionaries do not supply.
    """
    method = Method.of(config)
    config = _pinned(config)
    headers = [peek(path) for path in config.dictionaries.load]
    config = _with_free_features(_resolved(config, headers), method)
    dictionaries = tuple(
        _planned(path, header, config) for path, header in zip(config.dictionaries.load, headers, strict=True)
    )
    config = _with_hook_points(config, dictionaries)
    _check_names(config, headers)
    config = _with_candidates(config, method, headers)
    _check_records(config, headers)
    text = Text(str(config.corpus.source), config.corpus.context, config.corpus.max_tokens)
    processing = dict(_agreed(headers, "processing", None) or {})
    contents = {
        "corpus": text.hash,
        "model": _model_content(config),
        "hook_points": list(config.subject.hook_points),
        "dictionaries": [planned.described for planned in dictionaries],
        "processing": processing,
        "files": method.contents,
        "requests": requests.described(config),
    }
    contents |= identity.contents_of_models(method) | identity.contents_of_embedder(config)
    plan = Plan(config, method, dictionaries, text, contents, processing, identity.identify(config, method, contents))
    names_modules(plan.hook_points)  # refuses a mixture before the model is loaded
    return plan


def _pinned(config: Config) -> Config:
    """Fetch the dictionaries that are on the hub, and write the commits into their addresses."""
    load = tuple(pin(path) for path in config.dictionaries.load)
    return config.model_copy(update={"dictionaries": config.dictionaries.model_copy(update={"load": load})})


def _resolved(config: Config, headers: Sequence[Header]) -> Config:
    """Fill in the model, BOS token and corpus that the config leaves to the dictionaries."""
    subject, corpus = config.subject, config.corpus
    bos = subject.prepend_bos if subject.prepend_bos is not None else _agreed(headers, "prepend_bos", None)
    model = subject.model or _agreed(headers, "model", "--model NAME|DIR")
    return config.model_copy(
        update={
            "subject": subject.model_copy(update={"model": model, "prepend_bos": bos}),
            "corpus": corpus.model_copy(update={"source": corpus.source or _training_corpus(headers) or STDLIB}),
        }
    )


def _with_free_features(config: Config, method: Method) -> Config:
    """Sample more features than language models judge if --until-resolved can use them: rules score them for nothing.

    Features that are taken by their index stay those.
    """
    stopping, sampling = config.stopping, config.sampling
    if not (stopping.until_resolved and method.models) or stopping.most is not None or sampling.draw == "first":
        return config
    n = max(sampling.features, min(FREE_FEATURES, FREE_PER_JUDGED * sampling.features))
    return config.model_copy(
        update={
            "stopping": stopping.model_copy(update={"most": sampling.features}),
            "sampling": sampling.model_copy(update={"features": n}),
        }
    )


def _with_candidates(config: Config, method: Method, headers: Sequence[Header]) -> Config:
    """Draw only features that every explainer can explain.

    Raises UserError if one explains no feature of some dictionary.
    """
    limits = [explainer for explainer in method.explainers if explainer.candidates]
    if not limits:
        return config
    names = [header.name for header in headers] + [recipe.label for recipe in config.dictionaries.train]
    allowed: dict[str, tuple[int, ...]] = dict(config.sampling.feature_ids)
    for explainer in limits:
        for name in (*names, *config.dictionaries.baselines):
            known = entry_of(explainer.candidates, name)
            if known is None:
                raise UserError(f"{explainer.name} explains no feature of {name}; leave {name} out (--baselines LIST)")
            given = entry_of(allowed, name)
            allowed[name] = tuple(sorted(set(known) & set(known if given is None else given)))
            if not allowed[name]:
                others = "that sampling.feature_ids lists" if config.sampling.feature_ids else "that others do"
                raise UserError(f"{explainer.name} explains no feature of {name} {others}")
    sampling = config.sampling.model_copy(update={"feature_ids": allowed})
    return config.model_copy(update={"sampling": sampling})


def _training_corpus(headers: Sequence[Header]) -> str | None:
    """Return the corpus that all dictionaries of `sae train` were trained on. Raises UserError if there are several."""
    trainings = [(header.name, training) for header in headers if (training := recorded(header.metadata))]
    for name, training in trainings[1:]:
        if not same_corpus(training.source, trainings[0][1].source):
            raise UserError(
                f"{trainings[0][0]} was trained on corpus {trainings[0][1].source}, {name} on {training.source}; give "
                "--corpus SPEC"
            )
    return trainings[0][1].source if trainings else None


def _planned(path: str, header: Header, config: Config) -> PlannedDictionary:
    given = config.subject.hook_points
    reads = given if len(given) == 1 and header.is_autoencoder else header.reads
    if not reads:
        raise UserError(f"dictionary {header.name} does not name its hook point; give one: --hook NAME")
    return PlannedDictionary(path, header, recognise(path).content, reads)


def _with_hook_points(config: Config, dictionaries: Sequence[PlannedDictionary]) -> Config:
    """Fill in where baselines are made: the hook points given, else those that the dictionaries read."""
    read = [hook_point for planned in dictionaries for hook_point in planned.reads]
    hook_points = tuple(dict.fromkeys(config.subject.hook_points or read))
    if not hook_points and (config.dictionaries.baselines or config.dictionaries.train):
        raise UserError("no hook point is named, and baselines need one; give --hook NAME, or --baselines none")
    subject = config.subject.model_copy(update={"hook_points": hook_points})
    if subject.model == TOY:
        layers = max([subject.toy.n_layers, *(layer_of(hook_point) + 1 for hook_point in hook_points)])
        subject = subject.model_copy(update={"toy": subject.toy.model_copy(update={"n_layers": layers})})
    return config.model_copy(update={"subject": subject})


def layer_of(hook_point: str) -> int:
    """Return the layer that a hook point such as `blocks.3.mlp.hook_post` belongs to; 0 if it belongs to none."""
    match = re.match(r"blocks\.(\d+)\.", hook_point)
    return int(match[1]) if match else 0


def _model_content(config: Config) -> Any:
    """Return the toy's recipe, the hash of a local directory, or a hub name."""
    model = str(config.subject.model)
    if model == TOY:
        return config.subject.toy.model_dump()
    folder = path_of(model)
    return sha256_of_path(folder) if folder.is_dir() else model


def _agreed(headers: Sequence[Header], name: str, flag: str | None) -> Any:
    """Return the one value that all headers give. Raises UserError if they differ or, with a `flag`, if none has it."""
    given = [(header.name, getattr(header, name)) for header in headers if getattr(header, name) is not None]
    values = [value for _, value in given]
    if any(value != values[0] for value in values):
        listed = ", ".join(f"{dictionary}: {value}" for dictionary, value in given)
        raise UserError(
            f"the dictionaries disagree on {name} ({listed}); run them apart and merge with autointerp leaderboard"
        )
    if not values and flag:
        raise UserError(f"no dictionary names its {name}; give {flag}")
    return values[0] if values else None


def _check_records(config: Config, headers: Sequence[Header]) -> None:
    """Raise UserError if the records of one dictionary alone could not be held in memory."""
    sampling = config.sampling
    records = sampling.explain.n_records + sampling.score.n_records
    trained_here = config.dictionaries.train or config.dictionaries.baselines
    features = sampling.features if trained_here else min(sampling.features, max(one.n_features for one in headers))
    what = f"{records:,} records (sampling.explain, sampling.score) of {sampling.fragment} tokens"
    needed = float(records) * sampling.fragment * BYTES_PER_TOKEN
    refuse_beyond_memory(needed, f"{what} of one feature", "ask for fewer")
    needed *= min(features, MOST_SAMPLED)
    refuse_beyond_memory(needed, f"{what} of each of {features:,} features (sampling.features)", "ask for fewer")


def _check_names(config: Config, headers: Sequence[Header]) -> None:
    names = [header.name for header in headers] + [recipe.label for recipe in config.dictionaries.train]
    for name in names:
        if HALVES.search(name) or len(name) > LONGEST_DICTIONARY:
            raise UserError(f"dictionary {shortened(name)!r}: its name is too long, or no Unicode text; rename it")
    taken = [*names, *config.dictionaries.baselines]
    twice = sorted({name for name in taken if taken.count(name) > 1})
    if twice:
        raise UserError(f"two dictionaries are called {twice[0]!r}; rename one's folder, or leave that baseline out")
    matched = [name for name in config.dictionaries.baselines if BASELINES.get(base_and_k(name)[0]).matched]
    if matched and not names:
        raise UserError(f"{matched[0]} needs a dictionary to match; give --dictionary PATH, or leave it out")
    if not names and not config.dictionaries.baselines:
        raise UserError("nothing to measure: no dictionary and no baseline; give --dictionary PATH")
    if config.stopping.until_resolved and len(taken) == 1 and not config.controls:
        raise UserError("--until-resolved has nothing to compare; add --baselines LIST, or --set controls=0.2")
