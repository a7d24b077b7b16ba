"""Causal attention of long sequences whose patterns nobody looks at or holds.

The plain formula writes scores and patterns [H, T, T, B] to memory and reads them back a dozen
times a step; on CPU that costs more than all matrix products. Here a few sequences at a time go
through, so that theirs stay in the cache; half of the queries at a time, so that a quarter of what
causality masks is never computed; and the backward pass computes patterns again from the scores'
log-sum-exp (Dao et al. 2022, "FlashAttention", algorithm 4) instead of keeping them.

Glossary of shapes: as in `holds`; N sequences at a time, here batch first: [N, H, T, E].
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

AT_ONCE = {"cpu": 4}  # sequences; elsewhere all
SPANS = 2  # of queries; each sees the keys up to its own end


@jax.custom_vjp
def causal_attention(q: Array, k: Array, v: Array) -> Array:
    """z [H, E, T, B] of queries and keys [R, H, E/R, T, B] (scaled by E ** -0.5) and values.

    Values are [H, E, T, B]. Equal, but for rounding, to softmax of the causal scores times values.
    Differentiates in reverse mode, once or more often.
    """
    return _forwards(q, k, v)[0]


def _forwards(q: Array, k: Array, v: Array) -> tuple[Array, tuple[Array, ...]]:
    halves = q.shape[0]
    own = (_batch_first(q), _batch_first(k), _batch_first(v[None]))
    z, log_sum = _by_pieces(_attend, own)
    return _batch_last(z, 1)[0], (*own, z, log_sum, jnp.zeros((halves, 0)))


def _backwards(kept: tuple[Array, ...], slope: Array) -> tuple[Array, Array, Array]:
    *own, halves = kept
    dq, dk, dv = _by_pieces(_attend_backwards, (*own, _batch_first(slope[None])))
    R = halves.shape[0]
    return _batch_last(dq, R), _batch_last(dk, R), _batch_last(dv, 1)[0]


causal_attention.defvjp(_forwards, _backwards)


def _batch_first(x: Array) -> Array:
    """[B, H, T, E] from [R, H, E/R, T, B]."""
    R, H, half, T, B = x.shape
    return x.transpose(4, 1, 3, 0, 2).reshape(B, H, T, R * half)


def _batch_last(x: Array, halves: int) -> Array:
    B, H, T, E = x.shape
    return x.reshape(B, H, T, halves, E // halves).transpose(3, 1, 4, 2, 0)


def _by_pieces(
    function: Callable[..., tuple[Array, ...]], own: tuple[Array, ...]
) -> tuple[Array, ...]:
    """`function` of a few sequences after the other."""
    B = len(own[0])
    most = min(B, AT_ONCE.get(jax.default_backend(), B))
    size = next(n for n in range(most, 0, -1) if B % n == 0)
    if size == B:
        return function(*own)
    pieces = [x.reshape(B // size, size, *x.shape[1:]) for x in own]
    found = jax.lax.map(lambda piece: function(*piece), tuple(pieces))
    return tuple(x.reshape(B, *x.shape[2:]) for x in found)


def _spans(T: int) -> list[tuple[slice, slice]]:
    """Queries, and the keys that they may see."""
    ends = [round(T * (i + 1) / SPANS) for i in range(SPANS)]
    starts = [0, *ends[:-1]]
    return [(slice(a, b), slice(0, b)) for a, b in zip(starts, ends, strict=True) if b > a]


def _scores(q: Array, k: Array, rows: slice, columns: slice) -> Array:
    """[N, H, Tq, Tk], -inf where a key is later than the query; no row is empty."""
    seen = np.arange(rows.start, rows.stop)[:, None] >= np.arange(columns.stop)
    scores = jnp.einsum("nhqe,nhke->nhqk", q, k) * q.shape[-1] ** -0.5
    return jnp.where(seen, scores, -jnp.inf)


def _attend(q: Array, k: Array, v: Array) -> tuple[Array, Array]:
    """z [N, H, T, E] and the scores' log-sum-exp [N, H, T, 1]."""
    z, log_sum = [], []
    for rows, columns in _spans(q.shape[2]):
        scores = _scores(q[:, :, rows], k[:, :, columns], rows, columns)
        top = scores.max(-1, keepdims=True)
        weight = jnp.exp(scores - top)
        total = weight.sum(-1, keepdims=True)
        z.append(jnp.einsum("nhqk,nhke->nhqe", weight, v[:, :, columns]) / total)
        log_sum.append(top + jnp.log(total))
    return jnp.concatenate(z, 2), jnp.concatenate(log_sum, 2)


def _attend_backwards(
    q: Array, k: Array, v: Array, z: Array, log_sum: Array, slope: Array
) -> tuple[Array, Array, Array]:
    """Gradients with respect to q, k and v, from that with respect to z."""
    dq, dk, dv = [], jnp.zeros_like(k), jnp.zeros_like(v)
    for rows, columns in _spans(q.shape[2]):
        of_queries = partial(lambda x, rows: x[:, :, rows], rows=rows)
        scores = _scores(of_queries(q), k[:, :, columns], rows, columns)
        pattern = jnp.exp(scores - of_queries(log_sum))
        own = of_queries(slope)
        through = jnp.einsum("nhqe,nhke->nhqk", own, v[:, :, columns])
        through -= (own * of_queries(z)).sum(-1, keepdims=True)
        d_scores = pattern * through * q.shape[-1] ** -0.5
        dq.append(jnp.einsum("nhqk,nhke->nhqe", d_scores, k[:, :, columns]))
        dk = _add(dk, jnp.einsum("nhqk,nhqe->nhke", d_scores, of_queries(q)))
        dv = _add(dv, jnp.einsum("nhqk,nhqe->nhke", pattern, own))
    return jnp.concatenate(dq, 2), dk, dv


def _add(whole: Array, first: Array) -> Array:
    """`first` added to the first positions of `whole`."""
    later = whole.shape[2] - first.shape[2]
    return whole + jnp.pad(first, ((0, 0), (0, 0), (0, later), (0, 0)))
