"""Weighted draws with exact sums: of a class, or of a component of a mixture."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from ih_jax.data.batches import Leaf


class Weights(NamedTuple):
    """Weights [C] and their running sums [C]: whole numbers in float32, below 2**23.

    Such sums are exact, so a class of weight 0 is never drawn, nor one that was taken out.
    Frequencies are true to 2**-22.
    """

    each: Array
    running: Array

    @classmethod
    def of(cls, logits: Leaf) -> Weights:
        weights = jnp.maximum(jnp.round(jax.nn.softmax(logits) * 2.0**22), 1.0)
        each = jnp.where(jnp.isneginf(logits), 0.0, weights)
        return cls(each, jnp.cumsum(each))

    def draw(self, uniform: Array) -> Array:
        """An index: the inverse of the cumulative distribution at a number in [0, 1)."""
        return jnp.sum(self.running <= uniform * self.running[-1], dtype=jnp.int32)

    def only(self, kept: Array) -> Weights:
        """These with every index taken out that is not kept, [C] bool."""
        each = jnp.where(kept, self.each, 0.0)
        return Weights(each, jnp.cumsum(each))

    def without(self, index: Array) -> Weights:
        """These with one index taken out, once: `each` still has its weight."""
        after = jnp.arange(len(self.running)) >= index
        return self._replace(running=self.running - jnp.where(after, self.each[index], 0.0))


def zipf_logits(classes: int, alpha: float | Array) -> Array:
    """[classes] log weights: the class of rank r = 1, 2, ... has weight r ** -alpha."""
    return -alpha * jnp.log(jnp.arange(1, classes + 1, dtype=jnp.float32))
