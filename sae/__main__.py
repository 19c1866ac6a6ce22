"""`python -m sae`."""

from sae.cli import main

main(prog_name="sae")
