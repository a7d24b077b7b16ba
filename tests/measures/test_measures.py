"""Measures of few-shot networks: heads, probes, composition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import (
    CIRCUIT,
    circuit,
    circuit_sequences,
    look,
    network,
    sequences,
)
from small_few_shot import CONFIG, measured

from ih_jax.clamps import kinds as c
from ih_jax.clamps.clamp import Clamp
from ih_jax.clamps.holds import Holds
from ih_jax.data.batches import Batch
from ih_jax.errors import UserError
from ih_jax.measures import circuits, heads, performance, probes
from ih_jax.tasks.fewshot import fewshot


def test_induction_strength_of_a_clamped_pattern_is_what_the_clamp_says() -> None:
    params, batch = network(CONFIG), sequences(CONFIG)
    free = measured(heads.induction_strength, params, batch)
    held = measured(heads.induction_strength, params, batch, c.induction(1, 0, 0.8))
    np.testing.assert_allclose(held[0], 2 * 0.8 - 1, atol=1e-6)
    np.testing.assert_allclose(held[1:], free[1:], atol=1e-6)
    assert abs(free[0] - 0.6) > 0.1
    against = measured(heads.induction_strength, params, batch, c.induction(1, 0, 0.0))
    np.testing.assert_allclose(against[0], -1, atol=1e-6)


def test_induction_strength_agrees_with_a_loop_over_sequences() -> None:
    params, batch = network(CONFIG), sequences(CONFIG, 6)
    pattern = look(params, batch).pattern[1][:, :, -1]
    expected = [
        np.mean(
            [
                pattern[b, h, 2 * p + 1] * (1 if labels[p] == labels[-1] else -1) * 2
                for b, labels in enumerate(np.asarray(batch.labels))
                for p in range(2)
            ]
        )
        for h in range(4)
    ]
    found = measured(heads.induction_strength, params, batch)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_previous_token_strength_of_a_clamped_pattern_is_1_for_that_head_alone() -> None:
    params, batch = network(CONFIG), sequences(CONFIG)
    free = measured(heads.previous_token_strength, params, batch)
    first = measured(heads.first_layer_previous_token_strength, params, batch)
    np.testing.assert_array_equal(first, free[0])
    held = measured(heads.previous_token_strength, params, batch, c.previous_token(0, 1))
    assert held.shape == (2, 4)
    np.testing.assert_allclose(held[0, 1], 1, atol=1e-6)
    np.testing.assert_allclose(np.delete(held[0], 1), np.delete(free[0], 1), atol=1e-6)
    assert free.max() < 0.9
    half = measured(heads.previous_token_strength, params, batch, c.previous_token(0, 1, 0.25))
    np.testing.assert_allclose(half[0, 1], 0.25, atol=1e-6)


def test_the_circuit_set_by_hand_has_its_two_heads_and_needs_both() -> None:
    params, batch = circuit(), circuit_sequences()
    induction = measured(heads.induction_strength, params, batch)
    previous = measured(heads.previous_token_strength, params, batch)
    np.testing.assert_allclose(induction, [1, 0], atol=1e-4)
    np.testing.assert_allclose(previous[0, 0], 1, atol=1e-4)
    assert previous[0, 1] < 0.6  # uniform over the tokens so far
    clamps = {
        "none": Clamp(),
        **performance.ablate_one(2, layer=0),
        **performance.ablate_one(2, layer=1),
        **performance.direct_path(2),
        **performance.paths_of({"previous": [0], "other": [1]}),
        **performance.wiring(2, only=[0]),
    }
    found = measured(performance.under(clamps, CIRCUIT), params, batch)
    by_name = dict(zip(clamps, found["accuracy"], strict=True))
    works = [
        "none",
        "without_l0h1",
        "without_l1h1",
        "direct_l0",
        "without_previous_pp",
        "without_other_pp",
        "without_other_pv",
        "only_l1h0",
        "only_l1h0_remove_l0h1_pv",
        "only_l1h0_remove_allbut_l0h0_pv",
        "only_l1h0_remove_l0h0_pp",
    ]
    breaks = [
        "without_l0h0",
        "without_l1h0",
        "without_l1",
        "without_previous_pv",
        "only_l1h0_remove_l0h0_pv",
        "only_l1h0_remove_allbut_l0h1_pv",
    ]
    assert {name: by_name[name] for name in works} == dict.fromkeys(works, 1.0)
    assert all(by_name[name] < 0.6 for name in breaks), by_name


def test_the_paper_s_setting_has_78_400_training_sequences_each_once() -> None:
    data = np.arange(150 * 5, dtype=np.float32).reshape(150, 5, 1)
    batch = probes.exhaustive(fewshot(data))
    assert batch.labels.shape == (78_400, 3)
    each = np.concatenate([np.asarray(batch.rows), np.asarray(batch.labels)], axis=1)
    assert len(np.unique(each, axis=0)) == 78_400
    with pytest.raises(UserError, match="only for one exemplar"):
        probes.exhaustive(fewshot(data, exemplars=2))


@pytest.mark.parametrize("at_once", [7, 100, 359, 360, 1000])
def test_a_mean_by_pieces_is_that_of_the_whole(at_once: int) -> None:
    batch = circuit_sequences()
    sizes = []

    def of(piece: Batch) -> dict[str, jax.Array]:
        sizes.append(len(piece.labels))
        weights = jnp.asarray([1.0, 10.0, 100.0])
        return {"a": (piece.labels @ weights).mean(), "b": piece.rows.mean(0)}

    found = probes.by_pieces(of, batch, at_once)
    assert max(sizes) <= at_once
    weighted = np.asarray(batch.labels) @ [1, 10, 100]
    np.testing.assert_allclose(found["a"], weighted.mean(), rtol=1e-5)
    np.testing.assert_allclose(found["b"], np.asarray(batch.rows).mean(0), rtol=1e-5)


def test_composition_scores_of_matrices_with_known_answers() -> None:
    E, D = 2, 6
    axes = np.eye(D, dtype=np.float32)
    one_direction = np.outer([3, 4], axes[0])
    written = np.stack([axes[:2], one_direction, 0 * axes[:2]])  # [H, E, D]
    read = np.stack([5 * axes[:, :2], axes[:, 2:4], np.outer(axes[0], [1, 2])])  # [H, D, E]
    found = np.asarray(circuits.composition_scores(jnp.float32(written), jnp.float32(read)))
    # Two directions written and both read; none read; one of the two read.
    np.testing.assert_allclose(found[0], [E**-0.5, 0, E**-0.5], atol=1e-6)
    np.testing.assert_allclose(found[1], [E**-0.5, 0, 1], atol=1e-6)
    assert np.isnan(found[2]).all()


def test_composition_scores_of_random_matrices_are_near_the_baseline() -> None:
    rng = np.random.default_rng(0)
    written = jnp.asarray(rng.normal(size=(8, 8, 64)), jnp.float32)
    read = jnp.asarray(rng.normal(size=(8, 64, 8)), jnp.float32)
    found = np.asarray(circuits.composition_scores(written, read))
    assert circuits.baseline(64) == 0.125
    assert abs(np.sqrt(np.mean(found**2)) - 0.125) < 0.005


def test_composition_reads_the_heads_of_the_two_layers() -> None:
    params = network(CONFIG)
    found = measured(circuits.composition(), params, sequences(CONFIG))
    early, late = (block.attention for block in params.blocks)
    for k in range(4):
        for h in range(4):
            for i, name in enumerate("QKV"):
                out = early.W_out[:, k]  # [D, E]
                product = late.W_QKV[i, h] @ out
                size = np.linalg.norm(out) * np.linalg.norm(late.W_QKV[i, h])
                np.testing.assert_allclose(
                    found[name][k, h], np.linalg.norm(product) / size, rtol=1e-5
                )
    hand = measured(circuits.composition(), circuit(), circuit_sequences())
    # What the previous token was feeds the match (K), not what is looked for or copied.
    assert hand["K"][0, 0] > 0.2
    assert hand["Q"][0, 0] == hand["V"][0, 0] == 0
    with pytest.raises(UserError, match="early < late"):
        circuits.composition(1, 1)
    with pytest.raises(UserError, match=r"no layer 2: give one of 0\.\.1"):
        circuits.composition(0, 2)(params, Holds(), sequences(CONFIG))
