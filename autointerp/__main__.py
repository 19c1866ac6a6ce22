"""Runs the command line as `python -m autointerp`."""

from autointerp.cli import main

main(prog_name="autointerp")
