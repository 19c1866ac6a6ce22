"""How a program ends: a mistake under its own name, an interrupt with what is true of the command."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from sae.common.click_group import Commands
from sae.common.errors import UserError


def test_a_mistake_is_told_under_the_programs_name_with_its_status() -> None:
    program = Commands("sae")

    @program.command()
    def train() -> None:
        raise UserError("no such config")

    done = CliRunner().invoke(program, ["train"])
    assert (done.exit_code, done.stderr) == (2, "sae: no such config\n")


@pytest.mark.parametrize(
    ("kind", "message"), [("Resumable", "stopped; the same command continues from here"), ("click.Command", "stopped")]
)
def test_only_what_keeps_its_work_says_that_it_goes_on(kind: str, message: str) -> None:
    code = (
        "import click\nfrom sae.common.click_group import Commands, Resumable\nprogram = Commands('sae')\n"
        f"@program.command(cls={kind})\ndef work():\n    raise KeyboardInterrupt\nprogram(['work'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, f"\nsae: {message}\n")


def test_training_and_runs_are_gone_on_with_and_measuring_is_not() -> None:
    from autointerp import cli as autointerp
    from sae import cli as sae
    from sae.common.click_group import Resumable

    kept = {
        name for main in (sae.main, autointerp.main) for name, it in main.commands.items() if isinstance(it, Resumable)
    }
    assert kept == {"train", "run", "study", "sensitivity"}
