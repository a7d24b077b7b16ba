"""A pass that computes each context once gives what one does that takes every sequence whole."""

import itertools

import numpy as np
import pytest
from all_clamps import CLAMPS, CONFIG, draw
from networks import circuit_sequences, network

from ih_jax.clamps.apply import forward
from ih_jax.data.batches import Batch
from ih_jax.measures.probes import by_context, subset
from ih_jax.model.sites import SITES

KINDS = [name for name in CLAMPS if name.split()[0] not in ("hold", "mean", "resample", "stop")]


def shared() -> Batch:
    """Every sequence of three classes and three labels, those of one context together: [72]."""
    made = [
        ((a, b, (a, b)[q]), (y, z, (y, z)[q]))
        for a, b in itertools.permutations(range(3), 2)
        for y, z in itertools.permutations(range(3), 2)
        for q in (0, 1)
    ]
    rows, labels = (np.asarray([each[i] for each in made], np.int32) for i in (0, 1))
    return by_context(Batch(draw((3, CONFIG.features)).astype(np.float32), rows, labels))


# Of those that are named: a constant pattern may attend to the query, a mean is over sequences.
@pytest.mark.parametrize("name", [*KINDS, "hold pattern 0", "mean q", "resample k"])
def test_a_context_computed_once_gives_every_site_the_same_values(name: str) -> None:
    batch, params = shared(), network(CONFIG)
    holds, rows = CLAMPS[name].arrays(CONFIG), "all" if name in ("none", "rule") else "query"
    once = forward(params, batch, holds, rows)
    each = forward(params, batch.replace(queries=1), holds, rows)
    for site in SITES:
        for a, b in zip(once[site], each[site], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5, err_msg=site)


def test_by_context_puts_the_same_sequences_in_another_order() -> None:
    batch = circuit_sequences()
    found = by_context(batch)
    assert found.queries == 2
    first, second = found.by_query()
    np.testing.assert_array_equal(first.rows[:, :-1], second.rows[:, :-1])
    np.testing.assert_array_equal(first.labels[:, :-1], second.labels[:, :-1])
    assert (np.asarray(first.rows)[:, -1] != np.asarray(second.rows)[:, -1]).all()

    def each(batch: Batch) -> np.ndarray:
        return np.unique(np.concatenate([batch.rows, batch.labels], axis=1), axis=0)

    np.testing.assert_array_equal(each(found), each(batch))
    alone = subset(batch, 7)
    assert by_context(alone) is alone


@pytest.mark.parametrize("at_once", [8, 100, 1000])
def test_pieces_keep_the_sequences_of_a_context_together(at_once: int) -> None:
    batch, sizes = by_context(circuit_sequences()), []

    def of(piece: Batch) -> dict[str, object]:
        first, second = piece.by_query()
        sizes.append(len(piece.labels))
        same = (first.rows[:, :-1] == second.rows[:, :-1]).all()
        return {"same": same * 1.0, "mean": piece.labels.mean(0)}

    found = batch.mean_of(of, at_once)
    assert max(sizes) <= at_once
    assert found["same"] == 1
    np.testing.assert_allclose(found["mean"], np.asarray(batch.labels).mean(0), rtol=1e-5)
