"""Loads prompts, which are data: finds them by name, hashes them with their few-shots, fills them in strictly."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from autointerp.llm.types import Message
from sae.common.errors import UserError, shortened
from sae.common.resources import find
from sae.common.yaml_files import YamlError, parse


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
        """Fill in one of the file's templates.

        Raises UserError if the template cannot be read, needs a value that is not given, or does what the sandbox
        forbids.
        """
        try:
            if not isinstance(self.values[part], str):
                raise TypeError(f"expected a text, not {shortened(repr(self.values[part]))}")
            return str(_template(self.values[part]).render(values))
        except _template_errors() as error:
            raise UserError(f"prompt {self.name}, {part}: {shortened(str(error), 300)}") from error

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
    if not isinstance(values["few_shot"], str):
        raise UserError(f"prompt {name}: few_shot is {shortened(repr(values['few_shot']))}, expected a file's name")
    few_shot_text, few_shot = _read(values["few_shot"])
    return Prompt(name, text, values, few_shot_text, few_shot)


def again(reason: str) -> str:
    """Word the second question after an answer that cannot be used."""
    return load("again").render("again", reason=reason)


def _read(name: str) -> tuple[str, Mapping[str, Any]]:
    path = find("prompts", name, ".yaml")
    try:
        text = path.read_text("utf-8")
        values = parse(text)
    except (YamlError, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML: {error}") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} does not hold a mapping")
    return text, values


@cache
def _template(source: str) -> Any:
    """Compile a template, once.

    Prompts are plain text, not HTML: nothing is escaped. A line break at the end, which YAML lets a prompt's author
    choose, stays. An unknown name is an error. A prompt may come with a folder of somebody else's, so that templates
    are run in jinja2's sandbox, which reaches neither Python's insides nor, by changing them, the values.
    """
    return _environment().from_string(source)


@cache
def _environment() -> Any:
    """Make the sandbox. Besides jinja2's own rules it forbids what could fill the memory with one expression."""
    import jinja2
    from jinja2.exceptions import SecurityError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Sandbox(ImmutableSandboxedEnvironment):
        intercepted_binops = frozenset(["*", "**", "%"])

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            if operator == "**" or not (isinstance(left, int | float) and isinstance(right, int | float)):
                raise SecurityError(f"{operator} is for the product and the remainder of two numbers only")
            return super().call_binop(context, operator, left, right)

        def call(self, context: Any, function: Any, /, *arguments: Any, **named: Any) -> Any:
            if isinstance(getattr(function, "__self__", None), str) and function.__name__ not in TEXT_METHODS:
                raise SecurityError(f"{function.__name__} is not among the methods of texts that a prompt may call")
            return super().call(context, function, *arguments, **named)

    environment = Sandbox(undefined=jinja2.StrictUndefined, autoescape=False, keep_trailing_newline=True)
    for name in ("center", "format", "indent"):
        del environment.filters[name]
    return environment


TEXT_METHODS = {
    "capitalize", "count", "endswith", "find", "isalpha", "isdigit", "isspace", "lower", "lstrip", "removeprefix",
    "removesuffix", "replace", "rstrip", "split", "splitlines", "startswith", "strip", "title", "upper",
}  # fmt: skip
"""Methods of texts that a template may call: none makes a text much longer than it was, or reads a format."""


def _template_errors() -> tuple[type[Exception], ...]:
    """Return what jinja2 and the expressions of a template raise."""
    import jinja2

    return (
        jinja2.TemplateError, KeyError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError,
        RecursionError, MemoryError, SyntaxError, AssertionError,
    )  # fmt: skip
