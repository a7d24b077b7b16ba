"""How much of an induction head, or of a previous-token head, each head is.

Paper: Singh et al. 2024, section 3.1 and fig. 3b. Each measure is `measure(params, clamp, batch)`
of one network, for `Trajectories.measure` to map over runs and checkpoints.

Glossary: H heads, L layers, B sequences of T tokens x1 y1 x2 y2 ... xq.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from ih_jax.data.fewshot import Batch
from ih_jax.forward import forward
from ih_jax.holds import Holds
from ih_jax.measure.probes import by_pieces
from ih_jax.model import Params


def induction_strength(params: Params, clamp: Holds, batch: Batch) -> Array:
    """[H], -1 to 1: attention of the last layer's query to right labels less that to wrong ones.

    strength_h = mean over B of A[h, query, right label tokens] - A[h, query, wrong label tokens]
    (Singh et al. 2024, section 3.1). A label is right where it is the query's.
    """

    def of(piece: Batch) -> Array:
        pattern = forward(params, piece, clamp, "query")["pattern"][-1]  # [H, 1, T, B]
        labels = pattern[:, 0, 1::2]  # attention to label tokens [H, P - 1, B]
        right = (piece.labels[:, :-1] == piece.labels[:, -1:]).T
        return jnp.sum(jnp.where(right, labels, -labels), axis=1).mean(-1)

    found: Array = by_pieces(of, batch)
    return found


def previous_token_strength(params: Params, clamp: Holds, batch: Batch) -> Array:
    """[L, H], 0 to 1: attention of label tokens to the exemplar just before them.

    Those are the rows that an induction head reads; what the others attend to is not trained
    towards anything. (The paper tells previous-token heads by their patterns, by eye.)
    """

    def of(piece: Batch) -> Array:
        patterns = forward(params, piece, clamp, "all")["pattern"]  # each [H, T, T, B]
        T = patterns[0].shape[1]
        label = jnp.arange(1, T, 2)
        return jnp.stack([pattern[:, label, label - 1].mean((1, 2)) for pattern in patterns])

    found: Array = by_pieces(of, batch)
    return found
