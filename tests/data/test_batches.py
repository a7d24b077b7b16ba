"""Batches split into equal pieces, whose mean is that of the whole."""

import chex
import jax
import jax.numpy as jnp
import pytest

from ih_jax.data.batches import Batch, Tokens, Vectors, size_of_pieces


@pytest.mark.parametrize(
    ("count", "most", "least", "size"),
    [(12, 12, 1, 12), (12, 7, 1, 6), (12, 7, 7, 12), (7, 3, 1, 1), (7, 3, 2, 7), (8, 100, 1, 8)],
)
def test_the_largest_equal_pieces(count: int, most: int, least: int, size: int) -> None:
    assert size_of_pieces(count, most, least) == size


@pytest.mark.parametrize("at_once", [1, 4, 5, 12])
def test_a_mean_over_pieces_is_that_of_the_whole(at_once: int) -> None:
    key = jax.random.key(0)
    tokens = jax.random.randint(key, (12, 5), 0, 9)
    table = jax.random.normal(key, (9, 3))
    few_shot = Batch(table, tokens, tokens % 4)
    vectors = Vectors(table[tokens], None, targets=tokens % 4)
    cases = [
        (Tokens(tokens), lambda piece: piece.tokens.mean(0) * 1.0),
        (few_shot, lambda piece: (piece.examples * piece.labels[..., None]).mean(0)),
        (vectors, lambda piece: (piece.vectors * piece.targets[..., None]).mean(0)),
    ]
    for batch, function in cases:
        found = batch.mean_of(function, at_once)
        chex.assert_trees_all_close(found, jnp.asarray(function(batch)), rtol=1e-5, atol=1e-6)
