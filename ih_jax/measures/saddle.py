"""Whether a plateau is a saddle: the gradient of the loss and its extreme curvatures.

Near a saddle the gradient is small and the lowest eigenvalue of the Hessian is below 0, and smaller
in size than the highest. Lanczos' method finds both from products of the Hessian with vectors,
which the derivative of the gradient gives without the matrix (Pearlmutter 1994).

Glossary: N weights, S steps of Lanczos' method.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree

from ih_jax.clamps.apply import forward
from ih_jax.clamps.holds import Holds
from ih_jax.data.batches import Batch
from ih_jax.measures.base import measure
from ih_jax.measures.probes import by_pieces
from ih_jax.model.params import Params
from ih_jax.tasks.fewshot_scores import query_loss

STEPS = 48  # a few dozen settle both ends of a spectrum; memory is STEPS times the weights
State = tuple[Array, Array, Array]  # of Lanczos' method: vectors so far, the next, largest product
NOTHING = 1e-6  # share of the largest product below which what is left of one is rounding


class Extremes(NamedTuple):
    """Lowest and highest eigenvalues found of a symmetric matrix, and how far off they may be.

    Each value lies within its residual ||A x - value x|| of an eigenvalue, and (but for rounding)
    never beyond the extreme one: the lowest may be too high, the highest too low.
    """

    lowest: Array
    highest: Array
    lowest_residual: Array
    highest_residual: Array


def lanczos(
    product: Callable[[Array], Array],
    size: int,
    steps: int = STEPS,
    free: Array | None = None,
    seed: int = 0,
) -> Extremes:
    """Extreme eigenvalues of a symmetric N x N matrix A, given only `product(v) = A v`.

    From a random unit vector v_1, with V the vectors so far,

        w = A v_i;  a_i = v_i . w;  w <- w - V V^T w (twice);  b_i = ||w||;  v_{i+1} = w / b_i

    gives the tridiagonal matrix of a (diagonal) and b (off it), whose extreme eigenvalues are the
    ones sought; the residual of one with eigenvector s is b_S |s_S| (Paige 1980; Parlett 1998,
    "The Symmetric Eigenvalue Problem", chapter 13). All vectors are kept and w is made orthogonal
    to each (full reorthogonalisation), so that rounding makes no copies of eigenvalues. Where
    nothing is left of w (the vectors so far span an invariant space), a new random vector goes on
    with b_i = 0, so that eigenvalues which v_1 has no share in are found too.

    Args:
        product: A v for v, [N].
        size: N.
        steps: S, capped at N; with N (or as many as are free) all eigenvalues are exact.
        free: [N], 1 or 0: A is restricted to the coordinates of 1, at least S; None: all.
        seed: of the random vectors; the same for all networks, so that they are comparable.
    """
    count = min(steps, size)
    key = jax.random.key(seed)
    keep = jnp.ones(size) if free is None else free.astype(jnp.float32)

    def unit(w: Array) -> Array:
        return w / jnp.linalg.norm(w)

    def orthogonal(w: Array, V: Array) -> Array:
        for _ in range(2):
            w = w - (V @ w) @ V
        return w

    def fresh(i: int | Array) -> Array:
        return keep * jax.random.normal(jax.random.fold_in(key, i), (size,))

    def body(state: State, i: Array) -> tuple[State, tuple[Array, Array]]:
        V, v, scale = state
        V = V.at[i].set(v)
        w = keep * product(v)
        alpha = v @ w
        scale = jnp.maximum(scale, jnp.linalg.norm(w))
        w = orthogonal(w, V)
        beta = jnp.linalg.norm(w)
        over = beta <= NOTHING * scale
        w = jnp.where(over, orthogonal(fresh(i + 1), V), w / jnp.where(over, 1.0, beta))
        return (V, unit(w), scale), (alpha, jnp.where(over, 0.0, beta))

    start = (jnp.zeros((count, size)), unit(fresh(0)), jnp.zeros(()))
    _, (alpha, beta) = jax.lax.scan(body, start, jnp.arange(count))
    between = beta[:-1]
    T = jnp.diag(alpha) + jnp.diag(between, 1) + jnp.diag(between, -1)
    values, vectors = jnp.linalg.eigh(T)
    floor = NOTHING * jnp.max(jnp.abs(values))
    residual = jnp.maximum(beta[-1] * jnp.abs(vectors[-1]), floor)
    return Extremes(values[0], values[-1], residual[0], residual[-1])


def curvature(
    steps: int = STEPS, label_count: int | None = None
) -> Callable[[Params, Holds, Batch], dict[str, Array]]:
    """A measure: the training loss on a batch, its gradient's size and its extreme curvatures.

        loss              nats, the mean over B under the clamp of training (`tasks.query_loss`)
        gradient_norm     nats a unit of weight, Euclidean norm over all weights that learn
        lowest, highest   nats a squared unit of weight, extreme eigenvalues of the Hessian of the
                          loss with respect to the weights that learn (`lanczos`)
        lowest_residual, highest_residual   their residuals, same units

    Weights that the clamp freezes are left out; weights without effect give eigenvalues of 0. Each
    result is one number per network. Use a few thousand sequences at most: every step goes through
    all of them, forwards and backwards twice. On CPU, vmap over networks that share weights or
    holds needs `sweeps.chunk.compiler_options` (`Trajectories.measure` sets them).

    Args:
        steps: S of `lanczos`.
        label_count: labels in use, if the network has logits for more; None: all.
    """

    used = None if label_count is None else np.asarray(label_count)

    @measure(dims=dict.fromkeys(("loss", "gradient_norm", *Extremes._fields), ()), name="curvature")
    def of_network(params: Params, clamp: Holds, batch: Batch) -> dict[str, Array]:
        flat, unravel = ravel_pytree(params)
        free = jnp.ones_like(flat)
        if clamp.frozen is not None:
            wide = jax.tree.map(lambda m, p: jnp.broadcast_to(m, np.shape(p)), clamp.frozen, params)
            free = 1.0 - (ravel_pytree(wide)[0] > 0)

        def loss_of(weights: Array, piece: Batch) -> Array:
            return query_loss(forward(unravel(weights), piece, clamp, "query"), piece, used)

        def product(v: Array) -> Array:
            def of(piece: Batch) -> Array:
                slope = jax.grad(lambda weights: loss_of(weights, piece))
                return jax.grad(lambda weights: slope(weights) @ v)(flat)

            found: Array = by_pieces(of, batch)
            return found

        loss, gradient = by_pieces(
            lambda piece: jax.value_and_grad(lambda weights: loss_of(weights, piece))(flat), batch
        )
        return {
            "loss": loss,
            "gradient_norm": jnp.linalg.norm(free * gradient),
            **lanczos(product, flat.size, steps, free)._asdict(),
        }

    return of_network
