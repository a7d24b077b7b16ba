"""The tensor-product toy model: three vectors, learned together, with some of them clamped.

Singh et al. 2024, section 4 (fig. 5a) and its appendix (fig. 9). Three vectors a, b, c learn by
gradient descent, at rate 1, to have the tensor product of three true ones,

    L(a, b, c) = 1/2 mean_ijk (a_i b_j c_k - a*_i b*_j c*_k)^2,

and a clamped one is put back to its true value at the start and after every step. With b and c true
what remains is a least-squares problem whose curvature is the same in every direction of a, so

    a(t) - a* = (1 - |b*|^2 |c*|^2 / D^3)^t (a(0) - a*)

and the loss is exponential from the first step on; with fewer clamped each vector's gradient has
the others as a factor, not yet learned, and there is a plateau.

Glossary of shapes: D  entries of a vector; T  iterations; factors [3, D]  the vectors a, b, c;
clamp [3]  True where a vector is held. Written for one run; `run` maps it over draws and clamps.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax import Array
from numpy.typing import ArrayLike, NDArray

from ih_jax.claims import Bounds

DIMENSION = 20
ITERATIONS = 1000
LEARNING_RATE = 1.0
PAPER_SEED = 1
# The loss down to which curves are judged: single precision ends near 1e-12, and the authors'
# numbers are known to agree to 0.1% above this.
FLOOR = 1e-6


class Draw(NamedTuple):
    """What one seed decides."""

    truth: Array  # a*, b*, c*, [3, D]
    initial: Array  # a, b, c before training, [3, D]


class Curves(NamedTuple):
    """One run, before each iteration's step; [T] each."""

    loss: Array
    pm1: Array  # `off_axis`
    pm2: Array  # `given_the_rest`


def draw(key: Array, dimension: int = DIMENSION) -> Draw:
    """Six standard normal vectors from six splits of `key`: the true a, b, c, then the initial."""
    vectors = jnp.stack([jax.random.normal(k, (dimension,)) for k in jax.random.split(key, 6)])
    return Draw(vectors[:3], vectors[3:])


def draw_as_paper(seed: int, dimension: int = DIMENSION) -> Draw:
    """`draw` with the random bits of the paper's JAX (0.4.26), whose default has changed since."""
    with jax.threefry_partitionable(False):
        return draw(jax.random.key(seed), dimension)


def clamp(names: Iterable[str] = ()) -> NDArray[np.bool_]:
    """The clamp, [3], that holds the vectors of these names: "a", "b" or "c"."""
    held = set(names)
    if held - set("abc"):
        raise ValueError(f"there is no vector {min(held - set('abc'))!r} to clamp: give a, b or c")
    return np.array([name in held for name in "abc"])


def hold(factors: Array, truth: Array, clamp: Array) -> Array:
    """The factors, [3, D], with the clamped ones replaced by the true ones, to the bit."""
    return jnp.where(clamp[:, None], truth, factors)


def product(factors: Array) -> Array:
    """a (x) b (x) c, [D, D, D]."""
    a, b, c = factors
    return a[:, None, None] * b[None, :, None] * c[None, None, :]


def loss(factors: Array, truth: Array) -> Array:
    """1/2 mean (a (x) b (x) c - a* (x) b* (x) c*)^2."""
    return 0.5 * jnp.mean((product(factors) - product(truth)) ** 2)


def off_axis(a: Array, true: Array) -> Array:
    """Progress measure 1: 1 - cos^2(a*, a), in [0, 1] (fig. 9).

    Computed as |a - (a . a*) a* / |a*|^2|^2 / |a|^2, which keeps its relative precision near 0.
    """
    rest = a - jnp.dot(a, true) / jnp.dot(true, true) * true
    return jnp.dot(rest, rest) / jnp.dot(a, a)


def given_the_rest(a: Array, truth: Array) -> Array:
    """Progress measure 2: the lower loss of a and -a when b and c are true (fig. 9).

    The sign is free since b or c may have the other one.
    """
    return jnp.minimum(loss(truth.at[0].set(a), truth), loss(truth.at[0].set(-a), truth))


def descend(start: Draw, clamp: Array, iterations: int = ITERATIONS) -> Curves:
    """Gradient descent of all three vectors at once, the clamped ones put back after each step."""
    truth = start.truth

    def step(factors: Array, _: None) -> tuple[Array, Curves]:
        value, gradient = jax.value_and_grad(loss)(factors, truth)
        a = factors[0]
        seen = Curves(value, off_axis(a, truth[0]), given_the_rest(a, truth))
        return hold(factors - LEARNING_RATE * gradient, truth, clamp), seen

    return jax.lax.scan(step, hold(start.initial, truth, clamp), None, iterations)[1]


def run(
    clamps: Mapping[str, Iterable[str]], seeds: Iterable[int], iterations: int = ITERATIONS
) -> xr.Dataset:
    """Train every clamp of `clamps` (its name: the vectors it holds) from every draw.

    Gives loss, pm1 and pm2, [clamp, seed, iteration]. A seed draws truth and start alike, as in the
    paper, with the paper's random bits.
    """
    seeds = list(seeds)
    masks = np.stack([clamp(held) for held in clamps.values()])
    draws = jax.tree.map(lambda *x: jnp.stack(x), *[draw_as_paper(seed) for seed in seeds])
    which, whose = (i.ravel() for i in np.indices((len(masks), len(seeds))))
    # One axis for both, along which everything is mapped: see "Limits" in the README.
    together = jax.jit(jax.vmap(functools.partial(descend, iterations=iterations)))
    curves = together(jax.tree.map(lambda x: x[whose], draws), jnp.asarray(masks[which]))
    dims = ("clamp", "seed", "iteration")
    shape = (len(masks), len(seeds), iterations)
    results = xr.Dataset(
        {name: (dims, np.asarray(y).reshape(shape)) for name, y in curves._asdict().items()},
        coords={"clamp": list(clamps), "seed": seeds, "iteration": np.arange(iterations)},
    )
    results["pm1"].attrs["long_name"] = "progress measure 1: 1 - cos^2(a*, a)"
    results["pm2"].attrs["long_name"] = "progress measure 2: loss of a or -a with b and c true"
    return results


def first_below(curve: ArrayLike, share: float) -> Bounds:
    """The first iteration at which a curve, [T], is below this share of its first value.

    A curve that never is takes longer than its last iteration.
    """
    curve = np.asarray(curve, float)
    below = np.flatnonzero(curve < share * curve[0])
    if not len(below):
        return Bounds(float(len(curve) - 1), math.inf)
    return Bounds(float(below[0]), float(below[0]))


def log_linearity(curve: ArrayLike, start: int = 0) -> float:
    """R^2 of the straight line through ln(curve), [T], against the iteration.

    Over the iterations from `start` until the curve is first below FLOOR, or all there are; NaN if
    these are fewer than three.
    """
    curve = np.asarray(curve, float)
    stop = int(np.argmax(curve < FLOOR)) if (curve < FLOOR).any() else len(curve)
    if stop - start < 3:
        return math.nan
    y = np.log(curve[start:stop])
    return float(np.corrcoef(np.arange(start, stop), y)[0, 1] ** 2)


def abruptness(curve: ArrayLike) -> Bounds:
    """The time to a tenth of the first value over the time to half of it.

    ln 10 / ln 2 = 3.3 for an exponential, which starts at once; 1 for a step, which waits.
    """
    half, tenth = first_below(curve, 0.5), first_below(curve, 0.1)
    if half.high == math.inf:  # both are longer than the run: nothing is known
        return Bounds(1.0, math.inf)
    return Bounds(tenth.low / half.low, tenth.high / half.low)
