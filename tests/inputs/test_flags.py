"""Command lines: every option left empty or with a value of another kind."""

from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from autointerp.cli import main as autointerp
from sae.cli import main as sae
from tests.inputs.harness import refused

NEEDED = {
    "show": ["run"], "leaderboard": ["run"], "eval": ["d"], "info": ["d"], "convert": ["d", "out"], "export": ["file"],
}  # fmt: skip
"""Arguments that a command cannot do without."""


def options() -> Iterator[tuple[str, str]]:
    """Every option that takes a value, of every command."""
    for program in (sae, autointerp):
        for name, command in commands(program):
            for option in command.params:
                if isinstance(option, click.Option) and not option.is_flag:
                    yield f"{program.name} {name}", max(option.opts, key=len)


def commands(group: click.Group) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from ((f"{name} {inner}", one) for inner, one in commands(command))
        else:
            yield name, command


@pytest.mark.parametrize("value", ["", "  "])
@pytest.mark.parametrize(("command", "option"), list(options()))
def test_an_empty_value_is_no_default(command: str, option: str, value: str, tmp_path: Path) -> None:
    program, *words = command.split()
    refused(program, *words, *NEEDED.get(words[-1], []), option, value, cwd=tmp_path, names=option)


@pytest.mark.parametrize(
    "command", [f"autointerp {c}" for c in NEEDED if c in ("show", "leaderboard")] + ["sae convert"]
)
def test_an_empty_argument_is_no_default(command: str, tmp_path: Path) -> None:
    program, *words = command.split()
    refused(program, *words, "", "", cwd=tmp_path, names="")


NUMBERS = ("nan", "inf", "-1", "1e400", "9" * 400, "0x10", "one", "1_000 ", "٣.٣")


@pytest.mark.parametrize("value", NUMBERS)
@pytest.mark.parametrize("option", ["--features", "--seed", "--max-cost", "--fail-on-error"])
def test_numbers_of_a_run(option: str, value: str, tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("words")
    if (option, value) in (("--max-cost", "inf"), ("--max-cost", "1e400")):
        pytest.skip("no limit is a limit")
    refused("autointerp", "run", "--corpus", "x.txt", option, value, cwd=tmp_path, names="")


@pytest.mark.parametrize("value", ["nan", "-1", "1.5", "one", "9" * 400])
@pytest.mark.parametrize("option", ["--tokens", "--context", "--seed"])
def test_numbers_of_a_measurement(option: str, value: str, planted: Path, tmp_path: Path) -> None:
    if len(value) > 99 and option != "--context":
        pytest.skip("any number of tokens, and any seed, can be asked for")
    refused("sae", "eval", planted / "dictionary", option, value, cwd=tmp_path, names=option)


WRONG = (
    ("--hook", "blocks.0.no_such_hook", "no_such_hook"), ("--hook", "a\x1b[2Jb", "x1b"),
    ("--model", "absent/model", "absent/model"), ("--model", "../no\x1b[31m", "x1b"),
    ("--explainer", "gpt\x1b[31m", "x1b"), ("--simulator", "no\u202e", "u202e"), ("--judge", "no\x07", "x07"),
    ("--scorers", "no\r", "r"), ("--baselines", "no\x9b", "x9b"), ("--set", "no\x1b=3", "x1b"), ("--set", "=3", "=3"),
    ("--set", "seed", "seed"), ("--set", "seed=", "seed"), ("--explainer", "rules-0", "rules-0"),
    ("--explainer", "rules--1", "rules"),
    ("--explainer", "rules-1.5", "rules"), ("--baselines", "pca-top0", "pca"), ("--baselines", "pca,pca", "pca"),
)  # fmt: skip


@pytest.mark.parametrize(("option", "value", "names"), WRONG)
def test_values_of_a_run(option: str, value: str, names: str, planted: Path, tmp_path: Path) -> None:
    refused(
        "autointerp", "run", "--dictionary", planted / "dictionary", "--corpus", planted / "corpus.jsonl",
        "--set", "corpus.context=32", "--set", "sampling.fragment=16", option, value, cwd=tmp_path, names=names,
    )  # fmt: skip
