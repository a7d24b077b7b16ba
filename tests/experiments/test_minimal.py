"""Reddy's minimal models: closed form against a head of one-hot tokens, flow against scipy's."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from ih_jax.experiments.reddy2024 import minimal

AT = np.array([0.7, 1.3, 2.1])


def softmax(scores):
    top = np.exp(scores - scores.max(-1, keepdims=True))
    return top / top.sum(-1, keepdims=True)


def by_attention(parameters, pairs, labels):
    """The loss of two layers of attention over tokens that are rows of an identity matrix."""
    b1, b2, xi = parameters
    T = 2 * pairs
    classes, of_labels = np.eye(pairs), np.eye(labels)[:pairs]
    tokens = np.zeros((T, pairs))  # what tokens hold of classes: labels hold nothing
    tokens[::2] = classes
    causal = np.tril(np.ones((T, T))) > 0
    scores = np.where(causal, b1 * np.eye(T, k=-1), -np.inf)
    holds = (softmax(scores) @ tokens)[1::2]  # of labels, by the first layer
    losses = []
    for query in range(pairs):
        attention = softmax(b2 * holds @ classes[query])
        logits = xi * attention @ of_labels
        losses.append(-np.log(softmax(logits)[query]))
    return np.mean(losses)


@pytest.mark.parametrize(("pairs", "labels"), [(1, 3), (4, 8), (5, 5)])
def test_the_closed_form_is_that_of_two_layers_of_attention(pairs, labels):
    found = minimal.loss(AT, pairs, labels)
    np.testing.assert_allclose(found, by_attention(AT, pairs, labels), rtol=1e-12)


def test_the_gradient_is_that_of_finite_differences():
    for pairs, labels in ((4, 8), (3, 3)):
        h = 1e-5 * np.eye(3)
        slope = [
            (by_attention(AT + e, pairs, labels) - by_attention(AT - e, pairs, labels)) / 2e-5
            for e in h
        ]
        np.testing.assert_allclose(minimal.gradient(AT, pairs, labels), slope, rtol=1e-7)


@pytest.mark.parametrize(
    ("labels", "start", "held"), [(8, minimal.START, ()), (4, (0.01, 0.01, 8.0), ("xi",))]
)
def test_the_flow_is_that_of_an_independent_integration(labels, start, held):
    """Of the brute-force loss, whose gradient is taken numerically."""
    moves = [name not in held for name in minimal.PARAMETERS]

    def down(time, at):
        h = 1e-4 * np.eye(3)
        each = [
            (
                8 * (by_attention(at + e, 4, labels) - by_attention(at - e, 4, labels))
                - by_attention(at + 2 * e, 4, labels)
                + by_attention(at - 2 * e, 4, labels)
            )
            / (12 * 1e-4)
            for e in h
        ]
        return -np.where(moves, each, 0.0)

    flow = minimal.flow(4, labels, 60.0, start, held, points=5)
    theirs = solve_ivp(
        down, (0, 60.0), start, "DOP853", t_eval=flow["time"].values, rtol=1e-9, atol=1e-10
    )
    ours = np.stack([flow[name] for name in minimal.PARAMETERS])
    assert np.ptp(ours[:2], axis=1).min() > 0.5  # there was something to integrate
    np.testing.assert_allclose(ours, theirs.y, atol=1e-6)


def test_without_spare_labels_the_start_is_a_saddle():
    at = np.array([0.0, 0.0, 0.0])
    assert np.abs(minimal.gradient(at, 4, 4)).max() < 1e-12
    assert minimal.gradient(at, 4, 8)[2] < -0.1
    with pytest.raises(ValueError, match="as many labels"):
        minimal.flow(4, 3, 1.0)
