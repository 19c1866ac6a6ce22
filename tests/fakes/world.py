"""What all parts of the fake share: the settings of the moment, the script, the memory."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.fakes import script as default_script
from tests.fakes.faults import Faults
from tests.fakes.settings import Settings
from tests.fakes.usage import PromptCache


@dataclass(frozen=True)
class Script:
    answer: Callable[[list[dict[str, str]], dict[str, Any]], str]
    top_logprobs: Callable[[list[dict[str, str]], str, int, str], dict[str, float]]
    prompt_logprobs: Callable[[str, int, str], dict[str, float]]


def load_script(path: str) -> Script:
    """The script `module` or `module:function`; what it lacks comes from the default one."""
    name, _, function = path.partition(":")
    module = importlib.import_module(name)
    return Script(
        getattr(module, function or "answer"),
        getattr(module, "top_logprobs", default_script.top_logprobs),
        getattr(module, "prompt_logprobs", default_script.prompt_logprobs),
    )


class World:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.script = load_script(settings.script)
        self.faults = Faults()
        self.cache = PromptCache()

    def configure(self, changes: Mapping[str, Any]) -> None:
        """Change settings from now on; the memory stays. Raises ValueError or ImportError and changes nothing."""
        settings = self.settings.changed(changes)
        self.script = load_script(settings.script)
        self.settings = settings

    def knows(self, model: str) -> bool:
        return self.settings.models is None or model in self.settings.models
