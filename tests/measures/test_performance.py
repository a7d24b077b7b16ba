"""What networks answer under clamps that are held when they are measured."""

import dataclasses

import jax
import numpy as np
import pytest
from networks import (
    CIRCUIT,
    accuracy,
    circuit,
    circuit_sequences,
    look,
    network,
    query_loss,
    sequences,
    small,
)
from small_few_shot import CONFIG, OPTIONS, measured

from ih_jax.clamps import kinds as c
from ih_jax.clamps.clamp import Clamp
from ih_jax.clamps.holds import Holds
from ih_jax.data.batches import Batch
from ih_jax.errors import UserError
from ih_jax.measures import performance, probes, shared_passes
from ih_jax.model.params import Config


def predictions(params, batch, clamp, config=CONFIG):
    """[B], of `apply` under one clamp: another road than `performance` takes."""
    return look(params, batch, clamp.arrays(config)).logits[:, -1].argmax(-1)


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
    plan = shared_passes.plan_passes(clamps, small(heads=8))
    assert len(plan.left) == count and len(plan.place) == len(clamps)
    held = 0 if plan.holds is None else len(jax.tree.leaves(plan.holds)[0])
    assert held == count - plan.clean


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
