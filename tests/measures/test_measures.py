"""Measures of trained networks: heads, probes, performance under clamps, circuits, curvature."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from networks import (
    CIRCUIT,
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
from ih_jax.clamps.holds import Holds
from ih_jax.data.batches import Batch
from ih_jax.errors import UserError
from ih_jax.measures import circuits, heads, performance, probes, saddle, shared_passes
from ih_jax.model.params import Config
from ih_jax.sweeps.chunk import compiler_options
from ih_jax.tasks.fewshot import fewshot

CONFIG = small()
OPTIONS = QUICK | compiler_options(jax.devices()[0].platform, 5)


def measured(measure, params, batch, clamp=None, config=CONFIG):
    holds = Holds() if clamp is None else clamp.arrays(config)
    return jax.device_get(jax.jit(measure, compiler_options=OPTIONS)(params, holds, batch))


def predictions(params, batch, clamp, config=CONFIG):
    """[B], of `apply` under one clamp: another road than `performance` takes."""
    return look(params, batch, clamp.arrays(config)).logits[:, -1].argmax(-1)


# --- heads --------------------------------------------------------------------------------------


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


# --- probes -------------------------------------------------------------------------------------


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


# --- performance under clamps -------------------------------------------------------------------

CLAMPS = {
    "none": Clamp(),
    "ablate": c.ablate(1, [0, 2]),
    "match": c.induction(1, 3),
    "patterns": c.ablate(0, 1) & c.preserve("patterns"),
    "values": c.ablate(0, range(4)) & c.preserve("values"),
    "layer": c.perfect_previous_layer(),
}


@pytest.mark.parametrize("some", [list(CLAMPS), ["ablate", "match"], ["patterns"]])
def test_under_clamps_is_the_forward_pass_with_each_of_them(some: list[str]) -> None:
    params, batch = network(CONFIG, 1), sequences(CONFIG, 40)
    clamps = {name: CLAMPS[name] for name in some}
    measure = performance.under(clamps, CONFIG)
    # The clamp of training is ignored.
    found = measured(measure, params, batch, c.ablate(0, range(4)))
    for i, clamp in enumerate(clamps.values()):
        direct = look(params, batch, clamp.arrays(CONFIG))
        np.testing.assert_allclose(found["loss"][i], query_loss(direct, batch), rtol=1e-5)
        np.testing.assert_allclose(found["accuracy"][i], accuracy(direct, batch), rtol=1e-6)
        among = np.take_along_axis(direct.logits[:, -1], np.asarray(batch.labels[:, :2]), 1)
        best = np.asarray(batch.labels)[np.arange(40), among.argmax(1)]
        right = np.mean(best == batch.labels[:, -1])
        np.testing.assert_allclose(found["in_context_accuracy"][i], right, rtol=1e-6)
    assert len(set(found["loss"].tolist())) == len(clamps)


SELECTIONS = {
    **performance.leave_one(4),
    **performance.ablate_one(4),
    **performance.perfect_match(4),
    "less": c.ablate(0, 1) & c.ablate(1, [0, 3]) & c.ablate(1, 2) & c.preserve("patterns"),
    "kept": c.ablate(0, 1) & c.preserve("patterns"),
    "values": c.ablate(0, 2) & c.ablate(1, 2) & c.preserve("values"),
    "mean": c.mean("z", 1, 1) & c.ablate(1, 2),
}


@pytest.mark.parametrize("config", [CONFIG, small(mlp_ratio=2)], ids=["attention", "mlp"])
def test_heads_of_the_last_layer_are_left_out_of_one_pass_as_of_many(config: Config) -> None:
    params, batch = network(config, 1), sequences(config, 24)
    found = measured(performance.under(SELECTIONS, config), params, batch)
    for i, (name, clamp) in enumerate(SELECTIONS.items()):
        direct = look(params, batch, clamp.arrays(config))
        np.testing.assert_allclose(
            found["loss"][i], query_loss(direct, batch), rtol=1e-5, err_msg=name
        )
    assert len(set(np.round(found["loss"], 5).tolist())) == len(SELECTIONS)


@pytest.mark.parametrize(
    ("clamps", "count"),
    [
        (performance.wiring(8), 33),
        (performance.leave_one(8), 1),
        (performance.perfect_match(8), 8),
        (performance.ablate_one(8, layer=0), 8),
        (performance.direct_path(8), 2),
    ],
)
def test_clamps_that_differ_in_heads_of_the_last_layer_share_a_pass(
    clamps: dict[str, Clamp], count: int
) -> None:
    plan = shared_passes.passes(clamps, small(heads=8))
    passes = len(plan.place) if plan.left is None else len(plan.left)
    assert passes == count and len(plan.place) == len(clamps)


def test_a_graft_is_read_under_its_own_clean_pass() -> None:
    params, other, batch = network(CONFIG, 1), network(CONFIG, 2), sequences(CONFIG, 20)
    clamps = {
        "none": Clamp(),
        "graft": c.graft(other, after=0) & c.ablate(0, 1) & c.preserve("patterns"),
    }
    found = measured(performance.under(clamps, CONFIG), params, batch)
    for i, clamp in enumerate(clamps.values()):
        direct = look(params, batch, clamp.arrays(CONFIG))
        np.testing.assert_allclose(found["loss"][i], query_loss(direct, batch), rtol=1e-5)


def test_under_clamps_maps_over_networks() -> None:
    batch = sequences(CONFIG, 20)
    networks = [network(CONFIG, seed) for seed in (1, 2)]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *networks)
    measure = performance.under(CLAMPS, CONFIG)
    mapped = jax.vmap(lambda params: measure(params, Holds(), batch))
    found = jax.jit(mapped, compiler_options=OPTIONS)(stacked)
    for i, params in enumerate(networks):
        one = measured(measure, params, batch)
        for name, values in one.items():
            np.testing.assert_allclose(found[name][i], values, rtol=1e-4, atol=1e-6)


def test_labels_that_a_run_does_not_use_are_never_its_answer() -> None:
    params = network(CONFIG, 1)
    params = dataclasses.replace(params, b_U=np.float32([0, 0, 0, 50]))
    batch = sequences(CONFIG, 40)
    clamps = {"none": Clamp()}
    few = Batch(batch.table, batch.rows, np.minimum(batch.labels, 2))
    all_four = measured(performance.under(clamps, CONFIG), params, few)
    three = measured(performance.under(clamps, CONFIG, label_count=3), params, few)
    assert all_four["accuracy"][0] == 0
    assert three["accuracy"][0] > 0
    missed = measured(performance.mistakes(clamps, CONFIG, label_count=3), params, few)
    np.testing.assert_allclose(1 - missed["wrong"], three["accuracy"], atol=1e-6)


def test_clamps_for_performance_are_checked() -> None:
    with pytest.raises(UserError, match="no clamps"):
        performance.under({}, CONFIG)
    with pytest.raises(UserError, match="'pulse' is limited in time"):
        performance.under({"pulse": c.ablate(0, 1).during(0, 10)}, CONFIG)
    with pytest.raises(UserError, match="head"):
        performance.mistakes({"beyond": c.ablate(0, 7)}, CONFIG)
    with pytest.raises(UserError, match=r"\[4\] are out of range"):
        performance.ablate_but(1, [4], 4)


def test_mistakes_of_one_clamp_that_another_gets_right_are_counted() -> None:
    params, batch = circuit(), circuit_sequences()
    clamps = {"none": Clamp(), **performance.ablate_one(2, 0), "blind": c.ablate(1, 0)}
    right = np.stack(
        [
            predictions(params, batch, clamp, CIRCUIT) == batch.labels[:, -1]
            for clamp in clamps.values()
        ]
    )
    found = measured(performance.mistakes(clamps, CIRCUIT), params, batch)
    assert found["missed"].tolist() == (~right).sum(1).tolist()
    assert 0 < found["missed"][1] != found["missed"][3] > 0
    np.testing.assert_allclose(found["wrong"], (~right).mean(1), rtol=1e-6)
    for a in range(4):
        for b in range(4):
            both = np.sum(~right[a] & right[b])
            np.testing.assert_allclose(found["rescued"][a, b], both / len(right[a]), atol=1e-6)
            share = both / found["missed"][a] if found["missed"][a] else np.nan
            np.testing.assert_allclose(found["corrected"][a, b], share, rtol=1e-5, atol=1e-7)
    assert np.isnan(found["corrected"][0]).all()  # no clamp: no mistakes
    np.testing.assert_allclose(found["corrected"][1, [0, 2]], 1)


def test_mistakes_fall_where_the_right_labels_say() -> None:
    params, batch = circuit(), circuit_sequences()
    clamps = {"none": Clamp(), **performance.ablate_one(2, 0), "blind": c.ablate(1, 0)}
    found = measured(performance.by_label(clamps, CIRCUIT), params, batch)
    target = np.asarray(batch.labels[:, -1])
    for i, clamp in enumerate(clamps.values()):
        right = predictions(params, batch, clamp, CIRCUIT) == target
        expected = [right[target == label].mean() for label in range(3)]
        np.testing.assert_allclose(found["label_accuracy"][i], expected, atol=1e-6)
        if right.all():
            assert np.isnan(found["mistake_share"][i]).all()
        else:
            shares = np.bincount(target[~right], minlength=3) / (~right).sum()
            np.testing.assert_allclose(found["mistake_share"][i], shares, atol=1e-6)
    # With nothing to see, label 0 is always the answer: no mistake is on it.
    np.testing.assert_allclose(found["label_accuracy"][-1], [1, 0, 0])
    np.testing.assert_allclose(found["mistake_share"][-1], [0, 0.5, 0.5], atol=1e-6)


def test_many_sequences_are_measured_as_few_are(monkeypatch: pytest.MonkeyPatch) -> None:
    params, batch = circuit(), circuit_sequences()
    clamps = {"a": c.ablate(0, 0), "b": c.ablate(0, 0) & c.preserve("patterns")}
    makers = (performance.under, performance.mistakes, performance.by_label)
    whole = [measured(make(clamps, CIRCUIT), params, batch) for make in makers]
    monkeypatch.setattr(probes.by_pieces, "__defaults__", (50,))
    pieces = [measured(make(clamps, CIRCUIT), params, batch) for make in makers]
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), whole, pieces)


def test_clamps_are_named_for_what_they_leave() -> None:
    def heads_ablated(clamp: Clamp, layer: int) -> list[int]:
        return sorted(
            h
            for part in clamp.parts
            if part.held.kind == "ablate" and part.held.layer == layer
            for h in part.held.heads
        )

    one, left = performance.ablate_one(4), performance.leave_one(4)
    assert list(one) == [f"without_l1h{h}" for h in range(4)]
    assert heads_ablated(one["without_l1h2"], 1) == [2]
    assert heads_ablated(left["only_l1h2"], 1) == [0, 1, 3]
    assert performance.leave_one(1) == {"only_l1h0": Clamp()}
    back = performance.add_back([3, 1, 2], 4)
    assert list(back) == ["3", "3+1", "3+1+2"]
    assert [heads_ablated(clamp, 1) for clamp in back.values()] == [[0, 1, 2], [0, 2], [0]]
    assert performance.add_back([0, 1], 2)["0+1"] == Clamp()
    match = performance.perfect_match(4)["match_l1h3"]
    assert match == c.ablate(1, [0, 1, 2]) & c.induction(1, 3)
    wires = performance.wiring(8)
    assert len(wires) == 264  # as many as the authors' notebook prints
    gone = wires["only_l1h5_remove_allbut_l0h2_pv"]
    assert heads_ablated(gone, 0) == [0, 1, 3, 4, 5, 6, 7]
    assert heads_ablated(gone, 1) == [0, 1, 2, 3, 4, 6, 7]
    assert heads_ablated(wires["only_l1h5_remove_l0h2_pp"], 0) == [2]
    assert [p.held.what for p in gone.parts if p.held.kind == "preserve"] == [("values",)]


# --- circuits -----------------------------------------------------------------------------------


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


# --- curvature ----------------------------------------------------------------------------------


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
