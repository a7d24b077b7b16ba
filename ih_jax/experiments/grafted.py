"""Weights that a training takes of networks trained before it (`Training.needs`)."""

from __future__ import annotations

import jax
import numpy as np

from ih_jax.clamps.values import Weights
from ih_jax.experiments.base import Found
from ih_jax.model.params import Config
from ih_jax.model.params import init as drawn


def at_end(found: Found, training: str, init: int) -> Weights:
    """The network of a training with these initial weights, at its last checkpoint.

    Raises UserError where the training has no such network.
    """
    trained = found[training]
    run = trained.run(init=init)
    step = trained.steps(run)[-1]
    return Weights(trained.params(run, step), f"{training}, init {init}", step)


def not_yet(config: Config) -> Weights:
    """Zeros in its place, while only the cost is asked for and nothing is trained."""
    shapes = jax.eval_shape(lambda: drawn(jax.random.key(0), config))
    return Weights(jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes))
