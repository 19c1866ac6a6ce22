"""Runs the command line as `python -m sae`."""

from sae.cli import main

main(prog_name="sae")
