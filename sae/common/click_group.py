"""Ends every command line in the same way: errors, interrupts, exit codes. Imports nothing heavy."""

import os
import sys
from typing import Any

import click

from sae.common.errors import UserError


class Resumable(click.Command):
    """Marks a command that keeps finished work: called again after an interruption, it continues."""


class Commands(click.Group):
    """Runs the commands of a program, which is called like the group.

    A UserError is printed in one line and ends with status 2; Ctrl-C ends with 130; a bug keeps its traceback.
    """

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except UserError as error:
            click.echo(f"{self.name}: {error}", err=True)
            raise SystemExit(error.status) from error
        except KeyboardInterrupt:
            stopped = self.get_command(context, context.invoked_subcommand or "")
            onward = "; the same command continues from here" if isinstance(stopped, Resumable) else ""
            click.echo(f"\n{self.name}: stopped{onward}", err=True)
            sys.stdout.flush()
            # Not sys.exit: if the interrupt struck inside an exec() of text (dataclasses make some while libraries
            # are imported), CPython 3.11 ends with signal 2 whatever the program asks for.
            os._exit(130)
