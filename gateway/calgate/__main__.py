"""`python -m calgate`."""

from calgate.cli import main

main(prog_name="calgate")
