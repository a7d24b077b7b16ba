"""Curvature of the loss: both ends of the spectrum of its Hessian."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from networks import (
    copies,
    network,
    query_loss,
    sequences,
    small,
)
from small_few_shot import OPTIONS, measured

from ih_jax.clamps import kinds as c
from ih_jax.clamps.apply import apply
from ih_jax.clamps.clamp import Clamp
from ih_jax.clamps.holds import Holds
from ih_jax.measures import saddle


def symmetric(values: np.ndarray, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    Q, _ = np.linalg.qr(rng.normal(size=(len(values), len(values))))
    return np.float32(Q * values @ Q.T)


def extremes(matrix: np.ndarray, **settings) -> saddle.Extremes:
    A = jnp.asarray(matrix)
    return jax.device_get(saddle.lanczos(lambda v: A @ v, len(matrix), **settings))


def test_lanczos_finds_both_ends_of_a_spectrum_in_fewer_steps_than_dimensions() -> None:
    values = np.concatenate([[-0.7], np.linspace(-0.05, 1, 98), [4.0]])
    matrix = symmetric(values)
    found = extremes(matrix, steps=30)
    exact = np.linalg.eigvalsh(matrix)
    np.testing.assert_allclose([found.lowest, found.highest], exact[[0, -1]], atol=1e-4)
    assert max(found.lowest_residual, found.highest_residual) < 1e-2
    # Too few steps stay inside the spectrum, and the residual says how far an eigenvalue may be.
    few = extremes(matrix, steps=4)
    assert exact[0] < few.lowest - 0.01
    assert np.abs(exact - few.lowest).min() <= few.lowest_residual * 1.001
    assert few.lowest_residual > found.lowest_residual


@pytest.mark.parametrize(
    "values",
    [
        np.array([-1.0, 2.0, 5.0]),
        np.array([3.0] * 9 + [-2.0]),  # two distinct values: an invariant space after two steps
        np.zeros(6),
        np.array([1e-3] * 5 + [-1e-3]),
    ],
    ids=["three", "repeated", "zero", "small"],
)
def test_lanczos_with_as_many_steps_as_dimensions_is_exact(values: np.ndarray) -> None:
    matrix = symmetric(values)
    found = extremes(matrix, steps=50)
    exact = np.linalg.eigvalsh(matrix)[[0, -1]]
    atol = 1e-5 * max(np.abs(values).max(), 1e-9)
    np.testing.assert_allclose([found.lowest, found.highest], exact, atol=atol)
    assert max(found.lowest_residual, found.highest_residual) <= atol


def test_lanczos_reaches_a_block_that_the_first_vector_has_no_share_in() -> None:
    start = np.asarray(jax.random.normal(jax.random.fold_in(jax.random.key(0), 0), (8,)))
    aside = np.eye(8)[0] - start * start[0] / (start @ start)
    aside /= np.linalg.norm(aside)
    found = extremes(np.float32(2 * np.eye(8) - 5 * np.outer(aside, aside)), steps=8)
    np.testing.assert_allclose([found.lowest, found.highest], [-3, 2], atol=1e-5)
    identity = extremes(np.eye(5, dtype=np.float32), steps=5)
    np.testing.assert_allclose([identity.lowest, identity.highest], [1, 1], atol=1e-5)


def test_lanczos_stays_among_the_free_coordinates() -> None:
    matrix = symmetric(np.linspace(-3, 5, 12))
    free = np.arange(12) % 3 != 0
    found = extremes(matrix, steps=8, free=jnp.asarray(free))
    exact = np.linalg.eigvalsh(matrix[np.ix_(free, free)])
    np.testing.assert_allclose([found.lowest, found.highest], exact[[0, -1]], atol=1e-4)


TINY = small(features=3, d_model=4, heads=2, labels=3, layers=2)


@pytest.mark.parametrize(
    "clamp",
    [Clamp(), c.ablate(1, 0) & c.previous_token(0, 1), c.freeze("W_E", "blocks.0")],
    ids=["none", "held", "frozen"],
)
def test_curvature_is_that_of_the_whole_hessian(clamp: Clamp) -> None:
    params, batch = network(TINY, 3), sequences(TINY, 5)
    holds = clamp.arrays(TINY)
    flat, unravel = ravel_pytree(params)

    def loss_of(weights: jax.Array) -> jax.Array:
        return query_loss(apply(unravel(weights), batch, holds), batch)

    loss = jax.jit(loss_of)(flat)
    gradient = np.asarray(jax.jit(jax.grad(loss_of), compiler_options=OPTIONS)(flat))
    # Reverse over reverse: another road than that of the measure.
    whole = np.asarray(jax.jit(jax.jacrev(jax.grad(loss_of)), compiler_options=OPTIONS)(flat))
    learns = np.ones(len(flat), bool)
    if holds.frozen is not None:
        marked = jax.tree.map(np.ones_like, params)
        still = dataclasses.replace(
            marked,
            W_E=0 * marked.W_E,
            blocks=(jax.tree.map(np.zeros_like, marked.blocks[0]), marked.blocks[1]),
        )
        learns = np.asarray(ravel_pytree(still)[0]) == 1
    exact = np.linalg.eigvalsh(whole[np.ix_(learns, learns)].astype(float))
    found = measured(saddle.curvature(steps=60), params, batch, clamp, TINY)
    np.testing.assert_allclose(found["loss"], loss, rtol=1e-5)
    np.testing.assert_allclose(found["gradient_norm"], np.linalg.norm(gradient[learns]), rtol=1e-4)
    scale = np.abs(exact).max()
    np.testing.assert_allclose(found["lowest"], exact[0], atol=1e-3 * scale)
    np.testing.assert_allclose(found["highest"], exact[-1], atol=1e-3 * scale)
    assert exact[0] < -0.01 * scale  # a saddle, or the lowest would be no test
    assert found["lowest_residual"] < 0.05 * scale


def test_curvature_maps_over_networks_that_share_weights() -> None:
    params, batch = network(TINY, 3), sequences(TINY, 5)
    measure = saddle.curvature(steps=10)
    mapped = jax.vmap(lambda params: measure(params, Holds(), batch))
    found = jax.jit(mapped, compiler_options=OPTIONS)(copies(params, 2))
    one = measured(measure, params, batch)
    for name in ("loss", "gradient_norm", "lowest", "highest"):
        np.testing.assert_allclose(found[name], [one[name]] * 2, rtol=1e-2)
