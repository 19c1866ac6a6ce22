"""What a run is made from, read without weights: settings the dictionaries supply, and hashes of every content.

Raises the user's mistakes (paths, formats, settings that contradict each other) before anything slow starts.
"""

from pathlib import Path
from typing import Any

from autointerp.config import Config
from sae.common.errors import UserError
from sae.common.files import sha256_of_path
from sae.data.corpus import content_hash
from sae.formats import peek, recognise
from sae.formats.header import Header

TOY = "toy"


def resolve(config: Config) -> Config:
    """The config with what it leaves to the dictionaries filled in: model, hook point, prepend_bos."""
    headers = [peek(path) for path in config.dictionaries.load]
    subject = config.subject.model_copy(
        update={
            "model": config.subject.model or _agreed(headers, "model", "--model NAME|DIR"),
            "hook_point": config.subject.hook_point or _agreed(headers, "hook_point", "--hook NAME"),
            "prepend_bos": config.subject.prepend_bos
            if config.subject.prepend_bos is not None
            else _agreed(headers, "prepend_bos", None),
        }
    )
    _check_names(config, headers)
    return config.model_copy(update={"subject": subject})


Contents = dict[str, Any]
"""What CONTENT fields stand for: corpus (hash), model (hash, recipe or hub name), hook_point, dictionaries
([name, hash] of each) and processing (of the model's weights)."""


def fingerprint(config: Config) -> Contents:
    """The content behind every CONTENT field of a resolved config, for the run's identity."""
    return {
        "corpus": content_hash(config.corpus.source, config.corpus.max_tokens),
        "model": model_content(config),
        "hook_point": config.subject.hook_point,
        "dictionaries": [[peek(path).name, sha256_of_path(recognise(path)[0])] for path in config.dictionaries.load],
        "processing": processing(config),
    }


def model_content(config: Config) -> Any:
    """The toy's recipe, the hash of a local directory, or a hub name."""
    model = str(config.subject.model)
    if model == TOY:
        return config.subject.toy.model_dump()
    folder = Path(model).expanduser()
    return sha256_of_path(folder) if folder.is_dir() else model


def processing(config: Config) -> dict[str, Any]:
    """The weight processing the dictionaries were trained under, none where no dictionary says.

    Raises UserError if they disagree; to have been trained under none is to disagree with those under some.
    """
    headers = [peek(path) for path in config.dictionaries.load]
    return dict(_agreed(headers, "processing", None) or {})


def _agreed(headers: list[Header], name: str, flag: str | None) -> Any:
    """The one value all headers give; with a `flag`, UserError if none does."""
    told = [(header.name, getattr(header, name)) for header in headers if getattr(header, name) is not None]
    values = [value for _, value in told]
    if any(value != values[0] for value in values):
        said = ", ".join(f"{dictionary}: {value}" for dictionary, value in told)
        raise UserError(
            f"the dictionaries disagree on {name} ({said}); run them apart and merge with autointerp leaderboard"
        )
    if not values and flag:
        raise UserError(f"no dictionary names its {name}; give {flag}")
    return values[0] if values else None


def _check_names(config: Config, headers: list[Header]) -> None:
    names = [header.name for header in headers] + [recipe.label for recipe in config.dictionaries.train]
    taken = [*names, *config.dictionaries.baselines]
    twice = sorted({name for name in taken if taken.count(name) > 1})
    if twice:
        raise UserError(f"two dictionaries are called {twice[0]!r}; rename one's folder, or leave that baseline out")
    if not names and "random_matched" in config.dictionaries.baselines:
        raise UserError("random_matched needs a dictionary to match; give --dictionary PATH, or leave it out")
    if not names and not config.dictionaries.baselines:
        raise UserError("nothing to measure: no dictionary and no baseline; give --dictionary PATH")
