"""Says what explainers, simulators and scorers have in common: each is one file that registers itself.

Importing this loads nothing heavy, so that a command's help can list the parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from autointerp.prompting.templates import Prompt
    from sae.common.settings import Section


class Role(Enum):
    """Says what a config field is to a run's identity."""

    IDENTITY = "identity"
    """Its value changes the results."""
    CONTENT = "content"
    """It names something whose content changes the results: a path, a model."""
    RUNTIME = "runtime"
    """It changes nothing but speed and where files lie."""


I, C, R = Role.IDENTITY, Role.CONTENT, Role.RUNTIME  # noqa: E741


class Part:
    """Declares what every explainer, simulator and scorer tells the run that uses it; their base class."""

    settings: ClassVar[Mapping[str, type[Section]]] = {}
    """The sections of the config that the part reads, by name. Several parts may read one section. Every field needs a
    default and one of I, C, R: `texts: Annotated[int, I] = 5`."""
    prompts: tuple[Prompt, ...] = ()
    """The prompts it uses; run.json keeps their texts, and a changed prompt is another run."""
    contents: Mapping[str, str] = {}
    """The hash of each file it reads, by the config's name of it."""
    notes: tuple[str, ...] = ()
    """What the user should know of what it reads, a line each."""
    models: tuple[str, ...] = ()
    """The models it calls: model specs, or `embedding/NAME` for sentence embeddings. Keys and prices are checked before
    a run starts."""
