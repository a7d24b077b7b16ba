"""Closed-form predictors of linear regression, each against brute force."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate

import ih_jax as ih
from ih_jax.measures.regression import (
    against_the_best,
    finite_set,
    least_squares,
    ridge,
    with_answers,
)

B, N, D, NOISE = 3, 5, 2, 0.25


@pytest.fixture(scope="module")
def examples():
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(B, N, D)), rng.normal(size=(B, 1, D))
    return x, (x * w).sum(-1) + NOISE**0.5 * rng.normal(size=(B, N))


def one_by_one(x, y, w_of):
    """w of the examples before each, applied to it."""
    return np.array([[w_of(x[b, :k], y[b, :k]) @ x[b, k] for k in range(N)] for b in range(len(x))])


def test_least_squares_is_the_shortest_solution_of_numpys(examples):
    x, y = examples

    def w_of(x, y):
        return np.linalg.lstsq(x, y, rcond=None)[0] if len(x) else np.zeros(D)

    np.testing.assert_allclose(
        least_squares(jnp.asarray(x), jnp.asarray(y)), one_by_one(x, y, w_of), rtol=2e-4, atol=1e-4
    )


def test_ridge_is_least_squares_with_the_penalty_as_further_examples(examples):
    x, y = examples

    def w_of(x, y):
        rows = np.concatenate([x, NOISE**0.5 * np.eye(D)])
        return np.linalg.lstsq(rows, np.append(y, np.zeros(D)), rcond=None)[0]

    told = ridge(jnp.asarray(x), jnp.asarray(y), NOISE)
    np.testing.assert_allclose(told, one_by_one(x, y, w_of), rtol=1e-4, atol=1e-5)


def test_ridge_is_the_mean_over_all_w_by_quadrature():
    x, y = np.array([0.7, -1.2, 0.4]), np.array([1.1, -0.8, 0.0])

    def density(w):
        return np.exp(-(w**2) / 2 - ((y[:2] - w * x[:2]) ** 2).sum() / (2 * NOISE))

    total = scipy.integrate.quad(density, -10, 10)[0]
    mean = scipy.integrate.quad(lambda w: w * density(w), -10, 10)[0] / total
    told = ridge(jnp.asarray(x)[None, :, None], jnp.asarray(y)[None], NOISE)
    np.testing.assert_allclose(told[0, 2], mean * x[2], rtol=1e-5)


def test_the_answer_for_a_finite_set_is_bayes_rule_step_by_step(examples):
    x, y = examples
    tasks = np.random.default_rng(1).normal(size=(4, D))
    expected = np.zeros((B, N))
    for b in range(B):
        belief = np.full(4, 1 / 4)
        for k in range(N):
            expected[b, k] = belief @ (tasks @ x[b, k])
            belief = belief * np.exp(-((y[b, k] - tasks @ x[b, k]) ** 2) / (2 * NOISE))
            belief /= belief.sum()
    told = finite_set(jnp.asarray(x), jnp.asarray(y), jnp.asarray(tasks), NOISE)
    np.testing.assert_allclose(told, expected, rtol=1e-4, atol=1e-5)


def test_each_is_best_where_it_is_bayes_answer():
    task = ih.Regression(dimensions=D, examples=3, tasks=3, most_tasks=8)
    for which, best, other in (("train", "finite_set", "ridge"), ("new", "ridge", "finite_set")):
        targets = with_answers(task, 2000, which).targets
        error = {
            name: float(((targets[name] - targets["y"]) ** 2).mean()) for name in (best, other)
        }
        assert NOISE < error[best] < error[other]


def test_sequences_that_a_task_does_not_have_are_refused():
    task = ih.Regression(dimensions=D, examples=3)
    with pytest.raises(ih.UserError, match=r"unknown evaluation set 'held_out': .*train, new"):
        with_answers(task, 100, "held_out")
    with pytest.raises(ih.UserError, match="sequences is 0: give a whole number from 1"):
        with_answers(task, 0)


@pytest.mark.parametrize("targets", [None, {"y": np.zeros((B, N)), "ridge": np.zeros((B, N))}])
def test_a_probe_without_answers_is_refused(targets):
    probe = ih.Vectors(np.zeros((B, 2 * N - 1, D + 1), np.float32), targets=targets)
    with pytest.raises(ih.UserError, match=r"no answers of least_squares, .*with_answers"):
        against_the_best(None, None, probe)
