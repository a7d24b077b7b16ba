"""Attention of long sequences is that of short ones, forwards, backwards and twice backwards."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ih_jax as ih
from ih_jax import platforms
from ih_jax.model import attention, blockwise, transformer
from ih_jax.model.attention import causal_attention

SHAPES = [(1, 3, 4, 24, 6), (2, 2, 4, 17, 5), (1, 1, 2, 1, 3), (1, 2, 2, 2, 8)]  # R, H, E/R, T, B


def plain(q, k, v, by_distance=None):
    """softmax(q k / sqrt(E)) v, written again and otherwise than in the package."""
    R, _, half, T, _ = q.shape
    scores = jnp.einsum("rheqb,rhekb->hqkb", q, k) / np.sqrt(R * half)
    if by_distance is not None:
        apart = np.abs(np.arange(T)[:, None] - np.arange(T))
        scores += by_distance[:, apart][..., None]
    scores = jnp.where(np.tril(np.ones((T, T), bool))[None, :, :, None], scores, -jnp.inf)
    return jnp.einsum("hqkb,hekb->heqb", jax.nn.softmax(scores, axis=2), v)


def draw(shape, seed=0):
    R, H, half, T, B = shape
    keys = jax.random.split(jax.random.key(seed), 4)
    q, k = (2 * jax.random.normal(key, shape) for key in keys[:2])
    v, slope = (jax.random.normal(key, (H, R * half, T, B)) for key in keys[2:])
    return q, k, v, slope


def numbers(shape):
    """What distances add, [H, T]."""
    return 2 * jax.random.normal(jax.random.key(9), (shape[1], shape[3]))


@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_gradients_are_those_of_the_plain_formula(shape):
    q, k, v, slope = draw(shape)
    ours, back = jax.vjp(jax.jit(causal_attention), q, k, v)
    theirs, expected = jax.vjp(plain, q, k, v)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    for a, b in zip(back(slope), expected(slope), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


@pytest.fixture
def by_blocks(monkeypatch):
    """Contexts of 8 tokens and more go by blocks of 8."""
    monkeypatch.setattr(attention, "LONG", 8)
    monkeypatch.setattr(blockwise, "BLOCK", 8)


@pytest.mark.parametrize("shape", [(1, 2, 4, 24, 6), (2, 2, 2, 19, 3)])
def test_by_blocks_values_and_gradients_are_the_same(by_blocks, shape):
    q, k, v, slope = draw(shape)
    ours, back = jax.vjp(causal_attention, 5 * q, k, v)
    theirs, expected = jax.vjp(plain, 5 * q, k, v)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    for a, b in zip(back(slope), expected(slope), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)
    large, back = jax.vjp(causal_attention, 100 * q, k, v)
    assert all(np.isfinite(each).all() for each in (large, *back(slope)))


@pytest.mark.parametrize("long", [10_000, 8], ids=["at once", "by blocks"])
@pytest.mark.parametrize("shape", [(1, 2, 4, 24, 6), (2, 2, 2, 19, 10)])
def test_what_distances_add_and_its_gradient_are_those_of_the_plain_formula(
    monkeypatch, shape, long
):
    monkeypatch.setattr(attention, "LONG", long)
    monkeypatch.setattr(blockwise, "BLOCK", 8)
    q, k, v, slope = draw(shape)
    ours, back = jax.vjp(causal_attention, q, k, v, numbers(shape))
    theirs, expected = jax.vjp(plain, q, k, v, numbers(shape))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    for a, b in zip(back(slope), expected(slope), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_memory_of_long_contexts_does_not_grow_with_their_square():
    def needed(T):
        shapes = [jax.ShapeDtypeStruct(s, np.float32) for s in ((1, 1, 8, T, 1), (1, 8, T, 1))]

        def total(q, k, v):
            return causal_attention(q, k, v).sum()

        slopes = jax.jit(jax.grad(total, (0, 1, 2)))
        found = slopes.lower(shapes[0], shapes[0], shapes[1]).compile().memory_analysis()
        return found.temp_size_in_bytes

    assert needed(8192) < 5 * needed(2048)  # four times the tokens, sixteen times the pairs


def test_large_scores_overflow_nothing():
    q, k, v, slope = draw((1, 2, 4, 24, 4))
    ours, back = jax.vjp(causal_attention, 100 * q, k, v)
    np.testing.assert_allclose(ours, plain(100 * q, k, v), atol=1e-4)
    assert all(np.isfinite(each).all() for each in back(slope))


def test_it_differentiates_twice():
    q, k, v, slope = draw((1, 2, 2, 18, 2))

    def twice(function):
        def once(k):
            return jnp.sum(jax.grad(lambda q: jnp.sum(function(q, k, v) * slope))(q) ** 2)

        return jax.grad(once)(k)

    np.testing.assert_allclose(twice(causal_attention), twice(plain), rtol=2e-3, atol=1e-3)


def test_no_gradient_flows_from_earlier_to_later_positions():
    q, k, v, _ = draw((1, 2, 4, 20, 4))
    at = 7
    _, back = jax.vjp(causal_attention, q, k, v)
    only = jnp.zeros_like(v).at[:, :, at].set(1.0)
    for own in back(only):
        assert np.all(np.asarray(own)[..., at + 1 :, :] == 0)
        assert np.any(np.asarray(own)[..., : at + 1, :] != 0)


@pytest.mark.parametrize("positions", ["rope", "shortformer", "learned", "relative"])
@pytest.mark.parametrize("smeared", [False, True])
def test_a_long_network_is_the_same_with_and_without(monkeypatch, positions, smeared):
    config = ih.Config(
        features=0, labels=9, d_model=16, heads=4, positions=positions, smeared_keys=smeared
    )
    params = ih.init(jax.random.key(0), config)
    batch = ih.Tokens(jax.random.randint(jax.random.key(1), (6, 24), 0, 9))

    def loss(params):
        logits = ih.apply(params, batch).logits
        return jnp.mean(jax.nn.logsumexp(logits, -1) - logits[..., 0])

    fused = jax.value_and_grad(loss)(params)
    monkeypatch.setattr(transformer, "BROADCAST_UP_TO", 24)
    whole = jax.value_and_grad(loss)(params)
    for a, b in zip(jax.tree.leaves(fused), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


def test_pieces_are_no_larger_than_what_was_asked_for():
    sizes = []

    def look(x):
        sizes.append(len(x))
        return (x,)

    attention._by_pieces(look, (jnp.zeros((10, 1, 2, 2)),))
    assert max(sizes) <= platforms.CPU.attention_sequences
