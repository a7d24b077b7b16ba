"""Positions "relative": a learned number for each head and distance, added to the scores.

Raffel et al. 2020, "Exploring the Limits of Transfer Learning", section 2.1, but that every
distance has its own number and every layer its own table. Distance 0 is the query's own position.

Glossary of shapes: R rows (queries), C columns (keys), T positions, H heads.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from ih_jax.model.params import Attention

# What the numbers are multiplied by. The optimiser moves each of them by about the learning rate a
# step, as it does each weight; but a score that comes of queries and keys is a sum over many.
GAIN = 8.0


def of_heads(attention: Attention, T: int) -> Float[Array, "H T"] | None:
    """What is added to the scores at each distance; None where positions are of another kind."""
    return None if attention.distances is None else GAIN * attention.distances[:, :T]


def square(distances: Float[Array, "H T"]) -> Float[Array, "H T T"]:
    """By query and key; 0 where the key is later."""
    return by_distance(with_later(distances), distances.shape[1])


def with_later(distances: Float[Array, "H T"]) -> Float[Array, "H W"]:
    """[H, 2 T - 1]: zeros for the distances 1 - T to -1, of later keys, before the others."""
    return jnp.pad(distances, ((0, 0), (distances.shape[1] - 1, 0)))


def without_later(whole: Float[Array, "H W"]) -> Float[Array, "H T"]:
    """The inverse of `with_later`."""
    return whole[:, whole.shape[1] // 2 :]


def by_distance(window: Float[Array, "H W"], rows: int) -> Float[Array, "H R C"]:
    """What stands in row r and column c depends on r - c only.

    Args:
        window: [H, R + C - 1], at the distances 1 - C to R - 1.
        rows: R.

    No gather, whose slope would be a slow scatter: copies of the window, laid out in rows that are
    longer by one, begin one place later in each row.
    """
    H, W = window.shape
    copies = jnp.broadcast_to(window[:, None], (H, rows + 1, W)).reshape(H, -1)
    shifted = copies[:, : rows * (W + 1)].reshape(H, rows, W + 1)
    return shifted[:, :, W - rows :: -1]


def along_distances(slope: Float[Array, "H R C"]) -> Float[Array, "H W"]:
    """The transpose of `by_distance`: sums over all places of the same distance."""
    H, R, C = slope.shape
    window = jax.ShapeDtypeStruct((H, R + C - 1), slope.dtype)
    (found,) = jax.linear_transpose(lambda w: by_distance(w, R), window)(slope)
    return jnp.asarray(found)
