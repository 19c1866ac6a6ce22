"""The command line `sae` in tests, run in this process, which has torch already."""

from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from sae import formats
from sae.cli import main
from sae.dictionary import Dictionary


def invoked(*arguments: object) -> Result:
    """Run a command."""
    return CliRunner().invoke(main, [*map(str, arguments)])


def refused(*arguments: object) -> str:
    """The one line that a mistake ends with."""
    done = invoked(*arguments)
    assert done.exit_code == 2, done.output
    lines = done.stderr.strip().splitlines()
    assert [line.partition(": ")[0] for line in lines] == ["sae"]
    return lines[0]


def saved(planted: Path, folder: Path, **changes: Any) -> Path:
    """The words dictionary with some fields changed."""
    formats.save(Dictionary(**vars(formats.load(planted / "dictionary")) | changes), folder)
    return folder
