"""Tries bad inputs: each ends with a status other than 0 and one line that names the thing, never with a traceback.

A table of a file here is a list of cases. A case makes a bad file or argument, and says what the line must name.
"""

import contextlib
import os
import shutil
import struct
import time
import traceback
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sae.common.errors import UserError

SECONDS = 10
"""Most seconds of computing to the line of a mistake for which no model has to be loaded."""
FOREIGN: Mapping[str, bytes] = {
    "empty": b"",
    "text": b"this is not what you are looking for\n" * 9,
    "zeros": bytes(4096),
    "html": b"<!DOCTYPE html><html><body>404: Not Found</body></html>",
    "lfs pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 548105171\n",
    "a longer header than the file": struct.pack("<Q", 2**40) + b"{}",
    "random bytes": bytes(range(256)) * 16,
}
"""Contents of other files, which stand where a file of ours belongs."""
JSONS: Mapping[str, bytes] = {
    "empty": b"",
    "half": b'{"a": 1, "b"',
    "a list": b"[1, 2]",
    "null": b"null",
    "deep": b"[" * 100_000,
    "a huge number": b'{"d_in": ' + b"9" * 5000 + b"}",
    "not UTF-8": b'{"a": "\xff\xfe"}',
}
"""What stands where a JSON object belongs."""
Spoil = Callable[[Path], object]
"""Damages a file or a folder in place."""


def invoke(program: str, *arguments: object, cwd: Path) -> Result:
    """Run a command line in this process, in another folder."""
    from autointerp.cli import main as autointerp
    from sae.cli import main as sae

    with contextlib.chdir(cwd):
        return CliRunner().invoke({"sae": sae, "autointerp": autointerp}[program], [*map(str, arguments)])


def the_line_of(done: Result) -> str:
    """Return the one line that a command ended with. Fails if it succeeded, or ended in any other way."""
    if done.exception and not isinstance(done.exception, SystemExit):
        pytest.fail("".join(traceback.format_exception(done.exception))[-3000:])
    assert done.exit_code != 0, done.output
    lines = [line for line in done.stderr.splitlines() if line.startswith(("sae: ", "autointerp: ", "Error: "))]
    assert len(lines) == 1, done.stderr
    assert done.stderr.rstrip("\n").endswith(lines[0]), done.stderr
    return lines[0]


def refused(program: str, *arguments: object, cwd: Path, names: str, seconds: float = SECONDS) -> str:
    """Run a command that must be refused, soon, in one line that can be printed and holds `names`; return the line."""
    started = time.process_time()  # by the clock it would depend on what else the machine does
    line = the_line_of(invoke(program, *arguments, cwd=cwd))
    took = time.process_time() - started
    check_line(line, names)
    assert took < seconds, f"{took:.1f} s until: {line}"
    return line


def refuses(call: Callable[[], object], names: str) -> str:
    """Do the same with a function that a command calls."""
    with pytest.raises(UserError) as caught:
        call()
    check_line(str(caught.value), names)
    return str(caught.value)


def check_line(line: str, names: str) -> None:
    assert names in line, line
    assert line.isprintable(), ascii(line)
    assert len(line) < 1500, line


def spoilers(contents: Mapping[str, bytes] = FOREIGN) -> dict[str, Spoil]:
    """Return damages of one file: cut off, with other content, gone, a folder."""
    cuts: dict[str, Spoil] = {f"cut at {share:.0%}": _cut(share) for share in (0.02, 0.5, 0.98)}
    other: dict[str, Spoil] = {name: _writer(content) for name, content in contents.items()}
    return cuts | other | {"gone": lambda path: path.unlink(), "a folder": _folder}


def _cut(share: float) -> Spoil:
    return lambda path: os.truncate(path, int(path.stat().st_size * share))


def _writer(content: bytes) -> Spoil:
    return lambda path: path.write_bytes(content)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def flip(path: Path, share: float = 0.5) -> None:
    """Change one byte of a file."""
    data = bytearray(path.read_bytes())
    data[int(len(data) * share)] ^= 0xFF
    path.write_bytes(bytes(data))


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello.txt", "hello")


def copied(source: Path, target: Path) -> Path:
    return Path(shutil.copytree(source, target))


@contextlib.contextmanager
def as_nobody(*given: Path) -> Iterator[None]:
    """Run the block without the superuser's rights, which ignore permissions; `given` folders become nobody's."""
    if os.geteuid() != 0:
        yield
        return
    for path in given:
        os.chown(path, 65534, 65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
