"""The README names what the registries and the command lines have, and nothing that they lack."""

import re
from pathlib import Path

from autointerp import cli as autointerp_cli
from autointerp.llm import specs
from autointerp.scorers import SCORERS
from sae import cli as sae_cli
from sae.baselines.registry import BASELINES
from sae.training.architectures.registry import ARCHITECTURES

README = (Path(__file__).parent.parent / "README.md").read_text("utf-8")


def test_every_registered_name_is_there() -> None:
    for names in (SCORERS.names, BASELINES.names, ARCHITECTURES.names):
        for name in names:
            assert re.search(rf"\b{name}\b", README), f"the README does not name {name}"
    for form in re.findall(r"(?:anthropic|openai|hf|http://host:port/v1)[/#]\w+", specs.forms()):
        assert f"`{form}" in README, f"the README does not name {form}"


def test_every_flag_in_it_exists() -> None:
    commands = [*autointerp_cli.main.commands.values(), *sae_cli.main.commands.values()]
    flags = {flag for command in commands for option in command.params for flag in option.opts}
    used = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README)) - {"--help", "--nproc"}
    assert not used - flags, f"the README uses {used - flags}"


def test_every_path_in_it_exists() -> None:
    root = Path(__file__).parent.parent
    for path in re.findall(r"`((?:tests|eval_configs|prompts)/[\w/.]+)`", README):
        assert (root / path).exists(), f"the README names {path}"
