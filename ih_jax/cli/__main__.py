"""`python -m ih_jax.cli`: the `ih-jax` command."""

import sys

from ih_jax.cli.main import program

sys.exit(program())
