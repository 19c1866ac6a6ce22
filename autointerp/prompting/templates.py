"""Loads prompts, which are data: finds them by name, hashes them with their few-shots, fills them in strictly."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import yaml

from autointerp.llm.types import Message
from sae.common.errors import UserError
from sae.common.resources import find


@dataclass(frozen=True)
class Prompt:
    """Holds a prompt file and its few-shots."""

    name: str
    text: str
    values: Mapping[str, Any]
    """The parsed text."""
    few_shot_text: str = ""
    few_shot: Mapping[str, Any] | None = None
    """The parsed content of the file that it names under `few_shot`."""

    @cached_property
    def label(self) -> str:
        """name@hash, of its own text and that of its few-shots."""
        digest = hashlib.sha256(f"{len(self.text)}\n{self.text}{self.few_shot_text}".encode())
        return f"{self.name}@{digest.hexdigest()[:12]}"

    @property
    def full_text(self) -> str:
        """Everything that the hash covers, for run.json."""
        return self.text + self.few_shot_text

    def render(self, part: str, **values: Any) -> str:
        """Fill in one of the file's templates. Raises UserError if the template needs a value that is not given."""
        import jinja2

        try:
            return str(_template(str(self.values[part])).render(values))
        except (jinja2.UndefinedError, KeyError) as error:
            raise UserError(f"prompt {self.name}, {part}: {error}") from error

    def conversation(
        self, shots: Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]], values: Mapping[str, Any]
    ) -> tuple[Message, ...]:
        """Make the turns: system, a question and an answer per shot, then the question itself. Only it ever changes.

        Args:
            shots: the values of each few-shot's `user` and `assistant` templates.
            values: those of the question's `user` template, and of `system`.
        """
        turns = [Message("system", self.render("system", **values))]
        for question, answer in shots:
            turns.append(Message("user", self.render("user", **{**values, **question})))
            turns.append(Message("assistant", self.render("assistant", **answer)))
        return (*turns, Message("user", self.render("user", **values)))


@cache
def load(name: str) -> Prompt:
    """Read `prompts/NAME.yaml` and its few-shots. Raises UserError if one is missing or not a mapping."""
    text, values = _read(name)
    if "few_shot" not in values:
        return Prompt(name, text, values)
    few_shot_text, few_shot = _read(values["few_shot"])
    return Prompt(name, text, values, few_shot_text, few_shot)


def again(reason: str) -> str:
    """Word the second question after an answer that cannot be used."""
    return load("again").render("again", reason=reason)


def _read(name: str) -> tuple[str, Mapping[str, Any]]:
    path = find("prompts", name, ".yaml")
    try:
        text = path.read_text("utf-8")
        values = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} does not hold a mapping")
    return text, values


@cache
def _template(source: str) -> Any:
    """Compile a template, once.

    Prompts are plain text, not HTML: nothing is escaped. A line break at the end, which YAML lets a prompt's author
    choose, stays. An unknown name is an error.
    """
    import jinja2

    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False, keep_trailing_newline=True)
    try:
        return environment.from_string(source)
    except jinja2.TemplateSyntaxError as error:
        raise UserError(f"a prompt's template cannot be read: {error}") from error
