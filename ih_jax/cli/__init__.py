"""The `ih-jax` command."""
