"""Causal attention by blocks: memory grows with the context, and not with its square.

Queries and keys meet a block at a time. Forwards, a softmax that is corrected as larger scores come
along (Milakov & Gimelshein 2018, "Online normalizer calculation for softmax"); backwards, blocks of
the pattern made again from the scores' log-sum-exp (Dao et al. 2022, "FlashAttention", algorithms
1 and 4; Rabe & Staats 2021). Blocks of keys that are later than all queries are left out.

Glossary of shapes: N sequences of T positions, H heads of E dimensions, blocks of b positions.
Positions come last.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from ih_jax.model import distances

BLOCK = 128  # positions


def attend(
    by_distance: Float[Array, "H T"] | None,
    q: Float[Array, "N H E T"],
    k: Float[Array, "N H E T"],
    v: Float[Array, "N H E T"],
) -> tuple[Float[Array, "N H E T"], Float[Array, "N H T"]]:
    """z [N, H, E, T], and the log-sum-exp of the scores of each query.

    Scores are scaled by E ** -0.5, and get `by_distance` where there is one.
    """
    T = q.shape[-1]
    scale = q.shape[2] ** -0.5
    q, k, v = _filled(q * scale), _filled(k), _filled(v)
    added = None if by_distance is None else distances.with_later(_filled(by_distance))

    def of_queries(i: Array) -> tuple[Array, Array]:
        own = _block(q, i)

        def with_keys(j: Array, so_far: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            top, total, mixed = so_far
            scores = _scores(added, own, _block(k, j), i, j)
            now = jnp.maximum(top, scores.max(-1))
            weight = jnp.exp(scores - now[..., None])
            shrunk = jnp.exp(top - now)
            total = total * shrunk + weight.sum(-1)
            more = jnp.einsum("nhek,nhqk->nheq", _block(v, j), weight)
            return now, total, mixed * shrunk[:, :, None] + more

        nothing = jnp.zeros_like(own[:, :, 0])
        top, total, mixed = jax.lax.fori_loop(
            0, i + 1, with_keys, (nothing - jnp.inf, nothing, jnp.zeros_like(own))
        )
        return mixed / total[:, :, None], top + jnp.log(total)

    z, log_sum = jax.lax.map(of_queries, jnp.arange(q.shape[-1] // _size(T)))
    return _joined(z, T), _joined(log_sum, T)


def attend_backwards(
    by_distance: Array | None,
    q: Array,
    k: Array,
    v: Array,
    z: Array,
    log_sum: Array,
    slope: Array,
) -> tuple[Array, ...]:
    """Gradients with respect to q, k and v, from that with respect to z.

    And, where numbers are added by distance, with respect to these, [1, H, T].

    Args:
        by_distance, q, k, v: as `attend` took them.
        z, log_sum: as it gave them.
        slope: [N, H, E, T], with respect to z.
    """
    T = q.shape[-1]
    scale = q.shape[2] ** -0.5
    rows = tuple(map(_filled, (q * scale, slope, log_sum, (slope * z).sum(2))))
    k, v = _filled(k), _filled(v)
    added = None if by_distance is None else distances.with_later(_filled(by_distance))

    def of_queries(so_far: tuple[Array, ...], i: Array) -> tuple[tuple[Array, ...], Array]:
        own, into, sums, along = (_block(x, i) for x in rows)

        def with_keys(j: Array, so_far: tuple[Array, ...]) -> tuple[Array, ...]:
            dq, dk, dv, *more = so_far
            keys = _block(k, j)
            pattern = jnp.exp(_scores(added, own, keys, i, j) - sums[..., None])
            through = jnp.einsum("nheq,nhek->nhqk", into, _block(v, j)) - along[..., None]
            d_scores = pattern * through
            dq = dq + jnp.einsum("nhek,nhqk->nheq", keys, d_scores)
            dk = _add(dk, j, jnp.einsum("nheq,nhqk->nhek", own, d_scores))
            dv = _add(dv, j, jnp.einsum("nheq,nhqk->nhek", into, pattern))
            if more:
                more = [_add_window(more[0], i, j, distances.along_distances(d_scores.sum(0)))]
            return dq, dk, dv, *more

        start = (jnp.zeros_like(own), *so_far)
        dq, *later = jax.lax.fori_loop(0, i + 1, with_keys, start)
        return tuple(later), dq * scale

    start = [jnp.zeros_like(k), jnp.zeros_like(v)]
    if added is not None:
        start.append(jnp.zeros_like(added))
    blocks = jnp.arange(k.shape[-1] // _size(T))
    (dk, dv, *more), dq = jax.lax.scan(of_queries, tuple(start), blocks)
    found = (_joined(dq, T), dk[..., :T], dv[..., :T])
    return (*found, *(distances.without_later(each)[None, :, :T] for each in more))


def _scores(added: Array | None, own: Array, keys: Array, i: Array, j: Array) -> Array:
    """[N, H, b, b], -inf where a key is later than the query.

    `added`: what distances add, as `distances.with_later` gives it, of whole blocks.
    """
    b = own.shape[-1]
    later = (i - j) * b + jnp.arange(b)[:, None] < jnp.arange(b)[None]
    scores = jnp.einsum("nheq,nhek->nhqk", own, keys)
    if added is not None:
        window = jax.lax.dynamic_slice_in_dim(added, _first(added, i, j, b), 2 * b - 1, axis=-1)
        scores += distances.by_distance(window, b)[None]
    return jnp.where(later[None, None], -jnp.inf, scores)


def _first(added: Array, i: Array, j: Array, b: int) -> Array:
    """Where the distances of block i of queries and block j of keys begin: at (i - j) b - (b - 1).

    Distance 0 is in the middle of `added`.
    """
    return added.shape[-1] // 2 + (i - j) * b - (b - 1)


def _add_window(added: Array, i: Array, j: Array, more: Array) -> Array:
    """`more` [H, 2 b - 1] added where the distances of these blocks are."""
    W = more.shape[-1]
    at = _first(added, i, j, (W + 1) // 2)
    so_far = jax.lax.dynamic_slice_in_dim(added, at, W, axis=-1)
    return jax.lax.dynamic_update_slice_in_dim(added, so_far + more, at, axis=-1)


# --- blocks -------------------------------------------------------------------------------------


def _size(T: int) -> int:
    """b, for a context of T positions."""
    return min(BLOCK, T)


def _filled(x: Array) -> Array:
    """With zeros after the last position, up to whole blocks: later than every query there is."""
    T = x.shape[-1]
    more = math.ceil(T / _size(T)) * _size(T) - T
    return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, more)])


def _block(x: Array, i: Array) -> Array:
    b = min(BLOCK, x.shape[-1])
    return jax.lax.dynamic_slice_in_dim(x, i * b, b, axis=-1)


def _add(x: Array, i: Array, more: Array) -> Array:
    """`more` added to block i."""
    b = more.shape[-1]
    return jax.lax.dynamic_update_slice_in_dim(x, _block(x, i) + more, i * b, axis=-1)


def _joined(blocks: Array, T: int) -> Array:
    """[..., T] from [T / b, ..., b]."""
    whole = jnp.moveaxis(blocks, 0, -2)
    return whole.reshape(*whole.shape[:-2], -1)[..., :T]
