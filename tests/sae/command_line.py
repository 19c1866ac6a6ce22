"""The command line `sae` in tests: run as a user would, or in this process."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from sae import formats
from sae.cli import main
from sae.dictionary import Dictionary


def sae(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user would."""
    command = [sys.executable, "-m", "sae", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)


def invoked(*arguments: object) -> Result:
    """The same in this process, which has torch already."""
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
