"""Alignment of two objectives' gradients, against finite differences of the losses themselves."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import ih_jax as ih
from ih_jax.measures import alignment
from ih_jax.measures.alignment import gradient_alignment, group_names, groups_of
from ih_jax.measures.probes import of_sets

NAMES = ("icl", "iwl")
# Without norms: those of labels, whose embeddings are tiny at first, bend the loss too much for
# finite differences in single precision.
CONFIG = ih.Config(features=3, labels=2, layers=1, d_model=4, heads=2, mlp_ratio=1.0, norm=False)
TASK = ih.GaussianClasses(
    dimensions=3, pairs=2, labels=2, classes=4, most_classes=4, evaluation_sequences=8
)


def loss(params, clamp, batch):
    return TASK.loss(ih.apply(params, batch, clamp, rows="query"), batch)


@pytest.fixture(scope="module")
def network():
    params = jax.jit(lambda: ih.init(jax.random.key(0), CONFIG))()
    return params, ih.Clamp().arrays(CONFIG), of_sets(NAMES, 16)(TASK)


@pytest.fixture(scope="module")
def found(network):
    measure = gradient_alignment(NAMES, CONFIG, loss, step=1e-2)
    return jax.tree.map(np.asarray, jax.jit(measure)(*network))


def test_gradients_are_those_of_finite_differences(network, found):
    params, clamp, probe = network
    flat, unravel = ravel_pytree(params)
    of = [jax.jit(lambda w, n=n: loss(unravel(w), clamp, probe[n])) for n in NAMES]
    h = 2e-2
    slopes = np.array(
        [
            [(f(flat.at[i].add(h)) - f(flat.at[i].add(-h))) / (2 * h) for i in range(flat.size)]
            for f in of
        ]
    )
    size = np.linalg.norm(slopes, axis=1)
    np.testing.assert_allclose(found["size"][:, 0], size, rtol=1e-2)
    cosine = slopes[0] @ slopes[1] / size.prod()
    np.testing.assert_allclose(found["cosine"][0, 1, 0], cosine, atol=1e-2)
    for b in range(2):
        moved = flat - 1e-2 * slopes[b] / size[b]
        change = [f(moved) - f(flat) for f in of]
        np.testing.assert_allclose(found["change"][:, b], change, atol=2e-5)


def test_a_step_down_a_loss_lowers_it_by_its_slope_and_others_by_their_cosine(found):
    expected = -1e-2 * found["size"][:, :1] * found["cosine"][:, :, 0]
    np.testing.assert_allclose(found["change"], expected, atol=0.1 * np.abs(expected).max())
    assert (np.diag(found["change"]) < 0).all()


def test_groups_hold_every_weight_once(network, found):
    params, _, _ = network
    groups = groups_of(params)
    assert list(groups) == group_names(CONFIG)
    with_norms = replace(CONFIG, norm=True, mlp_ratio=None, layers=2)
    normed = jax.jit(lambda: ih.init(jax.random.key(0), with_norms))()
    assert list(groups_of(normed)) == group_names(with_norms)
    count = {name: sum(x.size for x in own) for name, own in groups.items()}
    assert count.pop("all") == sum(count.values())
    squares = found["size"] ** 2
    np.testing.assert_allclose(squares[:, 1:].sum(1), squares[:, 0], rtol=1e-5)
    np.testing.assert_allclose(np.diagonal(found["cosine"][..., 0]), 1, rtol=1e-5)


def test_frozen_weights_neither_count_nor_move(network):
    params, _, probe = network
    clamp = ih.freeze("W_E", "b_E", "W_L").arrays(CONFIG)
    measure = gradient_alignment(NAMES, CONFIG, loss)
    seen = jax.jit(measure)(params, clamp, probe)
    names = group_names(CONFIG)
    assert (np.asarray(seen["size"])[:, names.index("embed")] == 0).all()
    assert (np.asarray(seen["size"])[:, names.index("unembed")] > 0).all()


def test_what_does_not_fit_is_said_in_a_line(network):
    params, clamp, probe = network
    for objectives in ("icl", ["icl"], ["icl", "icl"]):
        with pytest.raises(ih.UserError, match="two or more"):
            gradient_alignment(objectives, CONFIG)
    with pytest.raises(ih.UserError, match="above 0"):
        gradient_alignment(NAMES, CONFIG, step=0.0)
    with pytest.raises(ih.UserError, match="iwl"):
        gradient_alignment(NAMES, CONFIG, loss)(params, clamp, {"icl": probe["icl"]})
    with pytest.raises(ih.UserError, match="did you mean 'icl'"):
        of_sets(["icll"])(TASK)


def test_the_loss_of_the_few_shot_task_is_the_default():
    task = ih.fewshot(classes=4, labels=3, evaluation_sequences=4)
    config = task.config(d_model=4, heads=1, layers=1)
    batch = of_sets(["train"], 8)(task)["train"]

    @jax.jit
    def both():
        params = ih.init(jax.random.key(1), config)
        logits = ih.apply(params, batch, rows="query").logits[:, -1]
        return alignment.query_label(params, ih.Clamp().arrays(config), batch), logits

    nats, logits = map(np.asarray, both())
    top = np.exp(logits)
    chosen = top[np.arange(8), np.asarray(batch.labels)[:, -1]] / top.sum(1)
    np.testing.assert_allclose(nats, -np.log(chosen).mean(), rtol=1e-5)
