"""The laws of DESIGN.md that concern one network: 1, 3, 5 and 6."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import (
    QUICK,
    accuracy,
    circuit,
    circuit_sequences,
    copies,
    look,
    network,
    query_loss,
    sequences,
    small,
)

from ih_jax.clamps import kinds as c
from ih_jax.clamps.apply import apply
from ih_jax.clamps.clamp import Clamp
from ih_jax.model.params import Params

CONFIG = small()
ROPE, SHORTFORMER, SINUSOIDAL, LEARNED = "rope", "shortformer", "sinusoidal", "learned"
RELATIVE = "relative"


def train_view(params, batch, holds, seen=0.0):
    """What training uses: the query's logits and the gradient of the loss."""

    def loss(params):
        activations = apply(params, batch, holds, rows="query", seen=seen)
        return query_loss(activations, batch), activations.logits

    (_, logits), gradient = jax.value_and_grad(loss, has_aux=True)(params)
    return logits, gradient


# --- law 1 --------------------------------------------------------------------------------------

BLOCK_OF_FOUR = jax.jit(jax.vmap(train_view, in_axes=(0, None, 0)))


def block(seeds, clamps):
    """Four runs in one program, its parts decided by the four clamps with four fixed ones."""
    fixed = [
        c.ablate(0, [0, 2]).during(5, 9) & c.previous_token(0, 1, 0.7),
        c.hold("z", 0.3, layer=1, heads=1, gate=0.5) & c.no_previous_token(1, 3),
        c.match_by_similarity(1, 2),
        c.copy_from(1, 0),
    ]
    params = jax.tree.map(lambda *x: np.stack(x), *(network(CONFIG, seed) for seed in seeds))
    holds = jax.tree.map(lambda x: x[:4], Clamp.stack([*clamps, *fixed], CONFIG))
    return BLOCK_OF_FOUR(params, sequences(CONFIG), holds)


def same_bits(a, b) -> bool:
    return all(
        np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def run_of(tree, index):
    return jax.tree.map(lambda x: x[index], tree)


def test_law_1_a_run_gives_the_same_bits_whoever_its_neighbours_are() -> None:
    mine = c.previous_token(0, 1) & c.match_by_similarity(1, 2, 0.1)
    alone = block([3, 0, 1, 2], [mine, Clamp(), Clamp(), Clamp()])
    among = block(
        [7, 8, 3, 9], [c.ablate(0, 0), c.copy_from(1, 0), mine, c.no_previous_token(1, 3)]
    )
    assert same_bits(run_of(alone, 0), run_of(among, 2))
    assert not same_bits(run_of(alone, 0), run_of(among, 3))


def test_law_1_gates_of_zero_are_the_plain_model_bit_for_bit() -> None:
    off = c.ablate(0, [0, 2]).during(5, 9)  # seen is 0
    zero = c.hold("z", 7.0, layer=1, heads=1, gate=0.0)
    results = block([3, 3, 3, 3], [Clamp(), off, zero, off & zero])
    assert all(same_bits(run_of(results, 0), run_of(results, each)) for each in (1, 2, 3))
    plain = jax.jit(train_view)(network(CONFIG, 3), sequences(CONFIG), Clamp().arrays(CONFIG))
    jax.tree.map(  # another program: to a tolerance
        lambda x, y: np.testing.assert_allclose(x, y, 1e-5, 1e-5), run_of(results, 0), plain
    )


# --- law 3 --------------------------------------------------------------------------------------


def test_law_3_a_head_whose_loss_relevant_rows_are_clamped_does_not_learn_its_q_and_k() -> None:
    clamps = {
        "none": Clamp(),
        "all": c.previous_token(0, 1),
        "label": c.previous_token(0, 1, rows="label"),
        "query": c.induction(1, [1]) & c.previous_token(0, 1),
        "match": c.match_by_similarity(1, 1, 0.2),
        "blocked": c.labels_only(1, 1),
    }
    holds = Clamp.stack(list(clamps.values()), CONFIG)
    run = jax.jit(jax.vmap(train_view, in_axes=(0, None, 0)), compiler_options=QUICK)
    params = copies(network(CONFIG), len(clamps))
    gradients = jax.device_get(run(params, sequences(CONFIG), holds)[1])

    def learns(name: str, layer: int, head: int) -> bool:
        each = gradients.blocks[layer].attention.W_QKV[list(clamps).index(name)]  # [3, H, E, D]
        assert (np.asarray(each[2, head]) != 0).any(), "values learn under every one of these"
        return bool((np.asarray(each[:2, head]) != 0).any())

    for name in clamps:
        assert learns(name, 0, 1) == (name not in ("all", "query"))
        assert learns(name, 1, 1) == (name not in ("query", "match"))
        assert learns(name, 0, 0)
        assert learns(name, 1, 0)


# --- law 5 --------------------------------------------------------------------------------------


def test_law_5_a_circuit_set_by_hand_solves_the_task_by_its_two_heads() -> None:
    params, batch = circuit(), circuit_sequences()
    activations = look(params, batch)
    assert accuracy(activations, batch) == 1
    previous = np.asarray(activations.pattern[0][:, 0])
    expected = np.eye(5, k=-1)
    expected[0, 0] = 1
    np.testing.assert_allclose(previous, np.broadcast_to(expected, previous.shape), atol=1e-6)
    correct = np.asarray(batch.labels[:, :2] == batch.labels[:, 2:])
    query = np.asarray(activations.pattern[1][:, 0, -1])
    np.testing.assert_allclose(query[:, 1::2], correct, atol=1e-6)
    np.testing.assert_allclose(query[:, ::2], 0, atol=1e-6)


@pytest.mark.parametrize(
    ("clamp", "solves"),
    [
        (c.ablate(0, 0), False),
        (c.ablate(1, 0), False),
        (c.no_previous_token(0, 0), False),
        (c.previous_token(0, 0, strength=0), False),
        (c.ablate(0, 1) & c.ablate(1, 1), True),
        (c.previous_token(0, 0), True),
        (c.previous_token(0, 0, rows="label"), True),
        (c.induction(1, 0), True),
        (c.match_by_similarity(1, 0) & c.ablate(0, 0), True),
        (c.labels_only(1, 0), True),
        (c.copy_from(1, 0), True),
        (c.copy_from(1, 1), False),
        (c.ablate(0, 0) & c.preserve("patterns"), True),  # only keys read what it writes
        (c.ablate(0, 0) & c.preserve("values"), False),
        (c.ablate(1, 0) & c.preserve("patterns", "values"), False),
    ],
    ids=lambda x: x.describe() if isinstance(x, Clamp) else "solves" if x else "fails",
)
def test_law_5_clamps_on_the_circuit(clamp: Clamp, solves: bool) -> None:
    batch = circuit_sequences()
    found = accuracy(look(circuit(), batch, clamp.arrays(circuit().config)), batch)
    assert found == 1 if solves else found <= 0.6


# --- law 6 --------------------------------------------------------------------------------------


@pytest.mark.parametrize("smeared", [False, True], ids=["plain", "smeared"])
@pytest.mark.parametrize("positions", [ROPE, SHORTFORMER, SINUSOIDAL, LEARNED, RELATIVE])
def test_law_6_logits_do_not_depend_on_later_tokens(positions: str, smeared: bool) -> None:
    config = small(positions=positions, smeared_keys=smeared, mlp_ratio=1.0, d_model=8, heads=2)
    clamps = [
        Clamp(),
        c.no_previous_token(0, [0, 1]) & c.no_previous_token(1, 0, rows="label"),
        c.labels_only(1, [0, 1]) & c.previous_token(0, 0, 0.5),
        c.temperature(0, {0: 0.5}),
        c.no_previous_token(1, [0, 1]) & c.labels_only(1, [0, 1]),
    ]
    batch, params = sequences(config, 1), network(config)
    tokens = look(params, batch).embed[0]  # [T, D]
    held = Clamp.stack([each & c.hold("embed", tokens) for each in clamps], config)

    def logits(tokens, params, holds):
        """[T, C], of tokens [T, D] put in the place of the embedded ones."""
        embed = [
            dataclasses.replace(h, arguments={"value": tokens}) if h.site == "embed" else h
            for h in holds.holds
        ]
        return apply(params, batch, dataclasses.replace(holds, holds=tuple(embed))).logits[0]

    run = jax.jit(jax.vmap(jax.jacrev(logits), in_axes=(None, 0, 0)), compiler_options=QUICK)
    jacobian = run(tokens, copies(params, len(clamps)), held)
    depends = np.abs(np.asarray(jacobian)).max(axis=(2, 4))  # [clamps, T of logits, T of tokens]
    assert np.isfinite(depends).all()
    for each in depends:
        assert (np.triu(each, k=1) == 0).all()
        assert (np.diagonal(each) > 0).all()
    # In two layers everything before is reached, where nothing is blocked.
    assert (depends[0][np.tril_indices(len(tokens))] > 0).all()


def test_law_6_holds_for_exemplars_and_for_the_embeddings_of_labels() -> None:
    params, batch = network(CONFIG), sequences(CONFIG, 1)
    # Two labels, so that a column of W_L is one token's.
    batch = dataclasses.replace(batch, labels=jnp.asarray([[0, 1, 0]]))

    def logits(table: jax.Array, W_L: jax.Array) -> jax.Array:
        network: Params = dataclasses.replace(params, W_L=W_L)
        return apply(network, dataclasses.replace(batch, table=table)).logits[0]

    by_exemplar, by_label = jax.jit(jax.jacrev(logits, (0, 1)), compiler_options=QUICK)(
        batch.table, params.W_L
    )
    exemplars = np.abs(np.asarray(by_exemplar)).max(axis=(1, 3))  # [T, P]
    labels = np.abs(np.asarray(by_label)).max(axis=(1, 2))[:, :2]  # [T, P - 1]
    t = np.arange(5)[:, None]
    np.testing.assert_array_equal(exemplars > 0, t >= 2 * np.arange(3))
    np.testing.assert_array_equal(labels > 0, t >= 2 * np.arange(2) + 1)
