"""`python -m larq_nobn` is the command `larq-nobn`."""

from .cli import main

main(prog_name="larq-nobn")
