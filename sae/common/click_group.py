"""Ends every command line in the same way: errors, interrupts, exit codes. Imports nothing heavy."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import click

from sae.common.errors import UserError, visible

ARGUMENTS = "sae.arguments"
"""Where a command's context keeps the words that it was called with."""
NO_MEMORY = ("can't allocate memory", "CUDA out of memory", "not enough memory", "Storage size calculation overflowed")
"""What PyTorch's errors say where a computer's memory is too small for a tensor."""


class Command(click.Command):
    """Refuses empty values: they are mistakes (an unset variable of a shell), not defaults."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep the words as they are, then parse them. Raises UserError for an empty one."""
        ctx.meta[ARGUMENTS] = tuple(args)
        for before, word in zip(("", *args), args, strict=False):
            flag, equals, value = word.partition("=")
            if "\0" in word:
                raise UserError(f"{visible(word)} holds a NUL character; leave it out")
            if not word.strip() or (flag.startswith("--") and equals and not value.strip()):
                name = flag if equals else before if before.startswith("-") else "an argument"
                raise UserError(f"{name} is empty; give a value or leave it out")
        return super().parse_args(ctx, args)


class Resumable(Command):
    """Marks a command that keeps finished work: called again after an interruption, it continues."""


class Commands(click.Group):
    """Runs the commands of a program, which is called like the group.

    A UserError is printed in one line of printable characters and ends with status 2; Ctrl-C ends with 130; a bug keeps
    its traceback. So do errors of files that no command expects, of a standard output that is closed or full, and of
    too little memory: they are the computer's, not the program's.
    """

    command_class = Command

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **extra: Any) -> click.Context:
        """Parse the program's own options, of which --help and --version print."""
        with self._errors_in_one_line():
            return super().make_context(info_name, args, *rest, **extra)

    def invoke(self, context: click.Context) -> Any:
        """Run the command."""
        try:
            with self._errors_in_one_line():
                return super().invoke(context)
        except KeyboardInterrupt:
            stopped = self.get_command(context, context.invoked_subcommand or "")
            onward = "; the same command continues from here" if isinstance(stopped, Resumable) else ""
            click.echo(f"\n{self.name}: stopped{onward}", err=True)
            sys.stdout.flush()
            # Not sys.exit: if the interrupt struck inside an exec() of text (dataclasses make some while libraries
            # are imported), CPython 3.11 ends with signal 2 whatever the program asks for.
            os._exit(130)

    @contextmanager
    def _errors_in_one_line(self) -> Iterator[None]:
        try:
            _require_output()
            try:
                yield
            finally:
                sys.stdout.flush()
        except UserError as error:
            self._end(str(error), error.status, error)
        except BrokenPipeError:
            raise  # click ends silently: the reader has closed the pipe
        except OSError as error:
            if error.filename is None:
                _discard_output()
                self._end(f"cannot write to the standard output: {error.strerror}", 1, error)
            self._end(f"{error.filename}: {error.strerror}", 2, error)
        except (MemoryError, RuntimeError) as error:
            if not isinstance(error, MemoryError) and not any(words in str(error) for words in NO_MEMORY):
                raise
            self._end(f"not enough memory; make the run smaller ({str(error)[:200]})", 2, error)

    def _end(self, message: str, status: int, error: BaseException) -> NoReturn:
        click.echo(f"{self.name}: {visible(message)}", err=True)
        raise SystemExit(status) from error


def _require_output() -> None:
    """Raise UserError if the standard output is closed; what a closed standard error would show is dropped."""
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # until the process ends
    if sys.stdout is None:
        raise UserError("the standard output is closed; open it, or send it to /dev/null")


def _discard_output() -> None:
    """Send what is left to nothing, so that Python's last flush does not fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
