"""A program's mistakes are printed under its own name."""

from click.testing import CliRunner

from sae.commands import Commands
from sae.errors import UserError


def test_a_mistake_is_told_under_the_programs_name_with_its_status() -> None:
    program = Commands("sae")

    @program.command()
    def train() -> None:
        raise UserError("no such config")

    done = CliRunner().invoke(program, ["train"])
    assert (done.exit_code, done.stderr) == (2, "sae: no such config\n")
