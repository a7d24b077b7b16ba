"""Causal attention of long sequences whose patterns nobody looks at or holds.

The plain formula writes scores and patterns [H, T, T, B] to memory and reads them back a dozen
times a step; on CPU that costs more than all matrix products. Here a few sequences at a time go
through, so that theirs stay in the cache; half of the queries at a time, so that half of what
causality masks is never computed; and the backward pass computes patterns again from the scores'
log-sum-exp (Dao et al. 2022, "FlashAttention", algorithm 4) instead of keeping them. Contexts of
`LONG` tokens and more go through by blocks of queries and keys (`blockwise`), so that memory does
not grow with the square of the context.

JAX's own fused attention has no place here: cuDNN's takes numbers of 16 bits only, and networks
here are float32; what JAX does for these builds the whole matrix.

Glossary of shapes: as in `sites`; N sequences at a time, here batch first and positions last, as
[N, H, E, T]: what stands batch last gets there by one plain transposition.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from ih_jax import platforms
from ih_jax.data.batches import size_of_pieces
from ih_jax.model import blockwise, distances

SPANS = 2  # of queries; each sees the keys up to its own end
LONG = 512  # tokens of a context, from which on blocks of keys are taken one by one, too


@jax.custom_vjp
def causal_attention(
    q: Float[Array, "R H half T B"],
    k: Float[Array, "R H half T B"],
    v: Float[Array, "H E T B"],
    by_distance: Float[Array, "H T"] | None = None,
) -> Float[Array, "H E T B"]:
    """z [H, E, T, B] of queries and keys [R, H, E/R, T, B] (scaled by E ** -0.5) and values.

    Values are [H, E, T, B]. Equal, but for rounding, to softmax of the causal scores times values;
    `by_distance` is added to the scores of each distance. Differentiates in reverse mode, once or
    more often; contexts of `LONG` tokens and more, once.
    """
    return _forwards(q, k, v, by_distance)[0]


def _forwards(
    q: Array, k: Array, v: Array, by_distance: Array | None
) -> tuple[Array, tuple[Array | None, ...]]:
    halves = q.shape[0]
    own = (_batch_first(q), _batch_first(k), _batch_first(v[None]))
    attend = blockwise.attend if v.shape[2] >= LONG else _attend
    z, log_sum = _by_pieces(partial(attend, by_distance), own)
    return _batch_last(z, 1)[0], (*own, z, log_sum, by_distance, jnp.zeros((halves, 0)))


def _backwards(kept: tuple[Any, ...], slope: Array) -> tuple[Array, Array, Array, Array | None]:
    *own, by_distance, halves = kept
    long = slope.shape[2] >= LONG
    backwards = blockwise.attend_backwards if long else _attend_backwards
    pieces = (*own, _batch_first(slope[None]))
    dq, dk, dv, *more = _by_pieces(partial(backwards, by_distance), pieces)
    R = halves.shape[0]
    own_slope = more[0].sum(0) if more else None
    return _batch_last(dq, R), _batch_last(dk, R), _batch_last(dv, 1)[0], own_slope


causal_attention.defvjp(_forwards, _backwards)


def _batch_first(x: Array) -> Array:
    """[B, H, E, T] from [R, H, E/R, T, B]."""
    R, H, half, T, B = x.shape
    return x.transpose(4, 1, 0, 2, 3).reshape(B, H, R * half, T)


def _batch_last(x: Array, halves: int) -> Array:
    """The inverse of `_batch_first`."""
    B, H, E, T = x.shape
    return x.reshape(B, H, halves, E // halves, T).transpose(2, 1, 3, 4, 0)


def _by_pieces(
    function: Callable[..., tuple[Array, ...]], own: tuple[Array, ...]
) -> tuple[Array, ...]:
    """`function` of a few sequences after the other; the first axis of what it gives grows."""
    B = len(own[0])
    size = size_of_pieces(B, platforms.here().attention_sequences or B)
    if size == B:
        return function(*own)
    pieces = [x.reshape(B // size, size, *x.shape[1:]) for x in own]
    found = jax.lax.map(lambda piece: function(*piece), tuple(pieces))
    return tuple(x.reshape(-1, *x.shape[2:]) for x in found)


def _spans(T: int) -> list[tuple[slice, slice]]:
    """Queries, and the keys that they may see."""
    ends = [round(T * (i + 1) / SPANS) for i in range(SPANS)]
    starts = [0, *ends[:-1]]
    return [(slice(a, b), slice(0, b)) for a, b in zip(starts, ends, strict=True) if b > a]


def _scores(
    by_distance: Float[Array, "H T"] | None,
    q: Float[Array, "N H E Tq"],
    k: Float[Array, "N H E Tk"],
    rows: slice,
    columns: slice,
) -> Float[Array, "N H Tq Tk"]:
    """[N, H, Tq, Tk], -inf where a key is later than the query; no row is empty."""
    seen = np.arange(rows.start, rows.stop)[:, None] >= np.arange(columns.stop)
    scores = jnp.einsum("nheq,nhek->nhqk", q, k) * q.shape[2] ** -0.5
    if by_distance is not None:
        window = distances.with_later(by_distance)[:, _window(rows, columns, by_distance.shape[1])]
        scores += distances.by_distance(window, rows.stop - rows.start)[None]
    return jnp.where(seen, scores, -jnp.inf)


def _window(rows: slice, columns: slice, T: int) -> slice:
    """Where the distances of these queries and keys are, of 1 - T to T - 1."""
    return slice(rows.start - columns.stop + T, rows.stop + T - 1)


def _attend(
    by_distance: Float[Array, "H T"] | None,
    q: Float[Array, "N H E T"],
    k: Float[Array, "N H E T"],
    v: Float[Array, "N H E T"],
) -> tuple[Float[Array, "N H E T"], Float[Array, "N H T"]]:
    """z [N, H, E, T] and the scores' log-sum-exp [N, H, T]."""
    z, log_sum = [], []
    for rows, columns in _spans(q.shape[3]):
        scores = _scores(by_distance, q[..., rows], k[..., columns], rows, columns)
        top = scores.max(-1)
        weight = jnp.exp(scores - top[..., None])
        total = weight.sum(-1)
        mixed = jnp.einsum("nhek,nhqk->nheq", v[..., columns], weight)
        z.append(mixed / total[:, :, None])
        log_sum.append(top + jnp.log(total))
    return jnp.concatenate(z, -1), jnp.concatenate(log_sum, -1)


def _attend_backwards(
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
    """
    T = q.shape[3]
    dq, dk, dv = [], jnp.zeros_like(k), jnp.zeros_like(v)
    added = None if by_distance is None else distances.with_later(jnp.zeros_like(by_distance))
    for rows, columns in _spans(T):
        scores = _scores(by_distance, q[..., rows], k[..., columns], rows, columns)
        pattern = jnp.exp(scores - log_sum[..., rows, None])
        own = slope[..., rows]
        through = jnp.einsum("nheq,nhek->nhqk", own, v[..., columns])
        through -= (own * z[..., rows]).sum(2)[..., None]
        through *= pattern
        if added is not None:
            sums = distances.along_distances(through.sum(0))
            added = added.at[:, _window(rows, columns, T)].add(sums)
        d_scores = through * q.shape[2] ** -0.5
        dq.append(jnp.einsum("nhek,nhqk->nheq", k[..., columns], d_scores))
        dk = _add(dk, jnp.einsum("nheq,nhqk->nhek", q[..., rows], d_scores))
        dv = _add(dv, jnp.einsum("nheq,nhqk->nhek", own, pattern))
    found = (jnp.concatenate(dq, -1), dk, dv)
    return found if added is None else (*found, distances.without_later(added)[None])


def _add(whole: Array, first: Array) -> Array:
    """`first` added to the first positions of `whole`."""
    later = whole.shape[-1] - first.shape[-1]
    return whole + jnp.pad(first, ((0, 0), (0, 0), (0, 0), (0, later)))
