"""The toy model of two mechanisms that share parts, and cost each other: four vectors.

Singh et al. 2025, section 6. Vectors a, b, c, d learn by gradient descent, at rate 1,

    (L1 + mu1) (L2 + mu2) + alpha 1/2 mean_ij (a_i d_j)^2,
    L1 = 1/2 mean_ijk (a_i b_j c_k - a*_i b*_j c*_k)^2,  L2 the same with d in the place of a.

Mechanism 1 stands for in-context learning, mechanism 2 for the in-weights learning that outlasts
it; either makes the first term small. They cooperate by sharing b and c, and compete for a and d,
which together cost alpha. Mechanism 2 has the longer vector, and is slower; mechanism 1 leaves mu1
of the loss.

A mean of squares of a difference of two outer products is made of inner products alone,

    2 D L1 = |a|^2 |b|^2 |c|^2 - 2 (a.a*) (b.b*) (c.c*) + |a*|^2 |b*|^2 |c*|^2,

D the number of its entries, and so is its gradient: no tensor is ever made. In double precision,
where the difference keeps nine digits at the losses at which the authors stop (1e-6).

Glossary of shapes: S  rows, each a draw in a variant; T  steps that are kept; a vector is
[S, D], for D of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import numpy as np
import xarray as xr
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
SIZES = {"a": 20, "b": 20, "c": 20, "d": 160}  # entries, of the paper's figure
PAPER_SEED = 7
STEPS = 16_000
KEPT_EVERY = 20
LEARNING_RATE = 1.0
DONE = 1e-6  # the loss at which the authors stop


@dataclass(frozen=True)
class Variant:
    """What the loss is, and which vectors are held: the paper's by default."""

    mu1: float = 0.1
    mu2: float = 0.0
    alpha: float = 0.1
    # At this share of its true value, put back after every step: 1 is given, 0 takes it away.
    held: Mapping[str, float] = field(default_factory=dict)


class Draw(NamedTuple):
    """Vectors by name, [S, D] each."""

    truth: dict[str, Doubles]
    initial: dict[str, Doubles]


class Losses(NamedTuple):
    """[S] each."""

    total: Doubles
    first: Doubles  # L1
    second: Doubles  # L2


def draw(seeds: Iterable[int], sizes: Mapping[str, int] = SIZES) -> Draw:
    """Standard normal vectors with the random bits of the authors' JAX (before 0.5).

    A key is split once for each vector; what was split off gives its true and its first value.
    """
    truth: dict[str, list[np.ndarray]] = {name: [] for name in sizes}
    initial: dict[str, list[np.ndarray]] = {name: [] for name in sizes}
    with jax.threefry_partitionable(False):
        for seed in seeds:
            key = jax.random.key(seed)
            for name, size in sizes.items():
                key, own = jax.random.split(key)
                for vectors, each in zip((truth, initial), jax.random.split(own), strict=True):
                    vectors[name].append(np.asarray(jax.random.normal(each, (size,)), np.float64))
    return Draw(
        {name: np.stack(rows) for name, rows in truth.items()},
        {name: np.stack(rows) for name, rows in initial.items()},
    )


class Coefficients(NamedTuple):
    """What differs between rows of a stack: numbers [S], and shares [S] at which vectors are held.

    NaN: free.
    """

    mu1: Doubles
    mu2: Doubles
    alpha: Doubles
    shares: dict[str, Doubles]


def coefficients(variants: Sequence[Variant], draws: int) -> Coefficients:
    """Those of every variant in so many draws, the draws of one variant side by side."""
    mu1, mu2, alpha = (
        np.repeat([getattr(variant, name) for variant in variants], draws)
        for name in ("mu1", "mu2", "alpha")
    )
    names = sorted({name for variant in variants for name in variant.held})
    shares = {n: np.repeat([v.held.get(n, np.nan) for v in variants], draws) for n in names}
    return Coefficients(mu1, mu2, alpha, shares)


def hold(
    vectors: Mapping[str, Doubles], truth: Mapping[str, Doubles], shares: Mapping[str, Doubles]
) -> dict[str, Doubles]:
    """The vectors, the held ones at their share of the truth."""
    found = dict(vectors)
    for name, share in shares.items():
        free = np.isnan(share)[:, None]
        found[name] = np.where(free, vectors[name], np.nan_to_num(share)[:, None] * truth[name])
    return found


def losses_and_gradients(
    vectors: Mapping[str, Doubles], truth: Mapping[str, Doubles], c: Coefficients
) -> tuple[Losses, dict[str, Doubles]]:
    """The losses, [S], and the gradient of the total with respect to every vector."""
    squares = {name: _dot(x, x) for name, x in vectors.items()}
    overlaps = {name: _dot(x, truth[name]) for name, x in vectors.items()}
    true_squares = {name: _dot(x, x) for name, x in truth.items()}

    def mechanism(own: str) -> tuple[Doubles, dict[str, Doubles]]:
        """The loss of vector `own` with b and c, and its gradient without the outer factor."""
        entries = vectors[own].shape[1] * vectors["b"].shape[1] * vectors["c"].shape[1]
        gradient = {}
        for name, one, two in ((own, "b", "c"), ("b", own, "c"), ("c", own, "b")):
            square = (squares[one] * squares[two] / entries)[:, None]
            overlap = (overlaps[one] * overlaps[two] / entries)[:, None]
            gradient[name] = square * vectors[name] - overlap * truth[name]
        products = (each[own] * each["b"] * each["c"] for each in (squares, overlaps, true_squares))
        product, overlap, true = products
        return 0.5 * (product - 2 * overlap + true) / entries, gradient

    first, of_first = mechanism("a")
    second, of_second = mechanism("d")
    entries = vectors["a"].shape[1] * vectors["d"].shape[1]
    total = (first + c.mu1) * (second + c.mu2)
    total = total + c.alpha * 0.5 * squares["a"] * squares["d"] / entries
    outer1, outer2 = (second + c.mu2)[:, None], (first + c.mu1)[:, None]
    cost = {name: (c.alpha * squares[name] / entries)[:, None] for name in "ad"}
    gradients = {
        "a": outer1 * of_first["a"] + cost["d"] * vectors["a"],
        "b": outer1 * of_first["b"] + outer2 * of_second["b"],
        "c": outer1 * of_first["c"] + outer2 * of_second["c"],
        "d": outer2 * of_second["d"] + cost["a"] * vectors["d"],
    }
    return Losses(total, first, second), gradients


def _dot(x: Doubles, y: Doubles) -> Doubles:
    found: Doubles = np.einsum("sd,sd->s", x, y)
    return found


def descend(start: Draw, c: Coefficients, steps: int = STEPS) -> tuple[Losses, NDArray[np.int64]]:
    """Gradient descent of all vectors at once, the held ones put back after each step.

    Returns:
        The losses [S, T] before steps 0, KEPT_EVERY, 2 KEPT_EVERY ..., and the first step [S] at
        which the total is below DONE (-1: never).
    """
    truth = start.truth
    vectors = hold(start.initial, truth, c.shares)
    kept, done = [], np.full(len(truth["a"]), -1)
    for step in range(steps + 1):
        losses, gradients = losses_and_gradients(vectors, truth, c)
        done = np.where((done < 0) & (losses.total < DONE), step, done)
        if step % KEPT_EVERY == 0:
            kept.append(losses)
        moved = {name: x - LEARNING_RATE * gradients[name] for name, x in vectors.items()}
        vectors = hold(moved, truth, c.shares)
    return Losses(*(np.stack(each, axis=1) for each in zip(*kept, strict=True))), done


def run(variants: Mapping[str, Variant], seeds: Iterable[int], steps: int = STEPS) -> xr.Dataset:
    """Every variant from every draw: total, first and second [variant, seed, step] and `done`.

    `nothing` [seed, mechanism] is what a mechanism's loss is while its vectors are 0.
    """
    seeds = list(seeds)
    start = draw(seeds)
    V, S = len(variants), len(seeds)
    whole = jax.tree.map(lambda x: np.tile(x, (V, 1)), start)
    losses, done = descend(whole, coefficients(list(variants.values()), S), steps)
    dims = ("variant", "seed", "step")
    results = xr.Dataset(
        {n: (dims, x.reshape(V, S, -1).astype("f4")) for n, x in losses._asdict().items()},
        {
            "variant": list(variants),
            "seed": seeds,
            "step": np.arange(losses.total.shape[1]) * KEPT_EVERY,
            "mechanism": ["first", "second"],
        },
    )
    results["done"] = (("variant", "seed"), done.reshape(V, S))
    nothing = [
        0.5 * np.prod([np.mean(start.truth[name] ** 2, axis=1) for name in names], axis=0)
        for names in ("abc", "dbc")
    ]
    results["nothing"] = (("seed", "mechanism"), np.stack(nothing, axis=1))
    return results
