"""Training: laws 2 and 4, optimisers, schedules, and runs that go wrong."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ih_jax as ih
from ih_jax.data.images.features import of_gaussian
from ih_jax.sweeps import blocks, chunk, loop, packing
from ih_jax.sweeps.study import Study

SMALL = {"d_model": 16, "heads": 2, "batch": 8, "evaluation_sequences": 16}


def gaussian(classes=12, features=8):
    return ih.fewshot(
        of_gaussian(classes, features, exemplars=2),
        classes=8,
        test_classes=4,
        val_exemplars=1,
        batch=8,
        evaluation_sequences=16,
    )


def block_of(study, members=None):
    """(program, state, block, advance) of the first group of a study."""
    group = study.groups[0]
    runs = group.arrays
    pack = packing.packing(runs)
    block = pack.pack(runs, range(len(group.runs)) if members is None else members)
    state = chunk.starter(group.program, pack)(block)
    return state, block, chunk.advancer(group.program, pack, 1, "cpu")


def go(advance, state, block, *bounds):
    kinds = np.zeros(len(bounds) - 1, np.int32)
    return advance(jax.tree.map(jnp.array, state), block, np.array(bounds, np.int32), kinds)[0]


def same_bits(a, b):
    return all(
        np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def small_study(**settings):
    settings = {"d_model": 16, "heads": 2, "learning_rate": 1e-3, **settings}
    return Study(gaussian(), sequences=800, **settings)


def test_a_run_starts_at_the_bits_of_init(optimised):
    study = small_study(init=[3, 4])
    group = study.groups[0]
    pack = packing.packing(group.arrays)
    begin = jax.jit(chunk.starter(group.program, pack), compiler_options=optimised)
    state = begin(pack.pack(group.arrays, [0, 1]))
    init = jax.jit(ih.init, static_argnums=1, compiler_options=optimised)
    for i, seed in enumerate((3, 4)):
        own = jax.tree.map(lambda leaf, i=i: leaf[i], state.params)
        assert same_bits(own, init(jax.random.key(seed), study.runs[i].config))


@pytest.mark.usefixtures("optimised")
def test_twenty_and_thirty_steps_are_fifty():
    state, block, advance = block_of(small_study(init=[0, 1]))
    halves = go(advance, go(advance, state, block, 0, 20), block, 20, 50)
    assert same_bits(go(advance, state, block, 0, 50), halves)
    assert not same_bits(go(advance, state, block, 0, 49).params, halves.params)


@pytest.mark.usefixtures("optimised")
def test_a_run_has_the_same_bits_beside_other_neighbours_and_in_another_lane():
    clamps = {"none": None, "match": ih.induction(1, 1), "copy": ih.copy_from(1, 0)}
    study = small_study(init=[0, 1], clamp=clamps, learning_rate=[1e-3, 1e-2])
    group = study.groups[0]
    runs = group.arrays
    pack = packing.packing(runs)
    advance = chunk.advancer(group.program, pack, 1, "cpu")
    begin = chunk.starter(group.program, pack)
    results = []
    for members, lane in (([0, 1, 2, 3], 2), ([2, 11, 7, 5], 0), ([9, 9, 9, 2], 3)):
        block = pack.pack(runs, members)
        state = go(advance, begin(block), block, 0, 30)
        results.append(jax.tree.map(lambda leaf, lane=lane: np.asarray(leaf[lane]), state))
    assert same_bits(results[0], results[1])
    assert same_bits(results[0], results[2])


def test_with_a_perfect_layer_and_copying_learning_depends_on_classes_only():
    # Law 4: 2, 3 and 5 labels in a program padded to 5 have the same curve.
    clamp = ih.perfect_previous_layer() & ih.copy_from(1, 0)
    study = small_study(init=[3], clamp=clamp, labels=[3, 4, 5], labels_of_program=5)
    state, block, _ = block_of(study)
    group = study.groups[0]
    pack = packing.packing(group.arrays)
    advance = chunk.advancer(group.program, pack, 1, "cpu")
    kinds = np.array([loop.TRAIN_SET], np.int32)
    after, scores = advance(state, block, np.array([0, 60], np.int32), kinds)
    losses = np.asarray(scores)[0, :, 0, 0]
    assert len(losses) == 3
    np.testing.assert_allclose(losses, losses[0], rtol=1e-6)
    embeddings = np.asarray(after.params.W_E)
    np.testing.assert_allclose(embeddings[0], embeddings[1], rtol=1e-5, atol=1e-7)
    without = small_study(init=[3], labels=[3, 5], labels_of_program=5)
    state, block, advance = block_of(without)
    scores = np.asarray(advance(state, block, np.array([0, 60], np.int32), kinds)[1])[0, :, 0, 0]
    assert abs(scores[0] - scores[1]) > 1e-3


def test_a_clamped_head_keeps_its_queries_and_keys_to_the_bit():
    # Law 3, through the optimiser.
    study = small_study(clamp=ih.induction(1, 1))
    state, block, advance = block_of(study)
    after = go(advance, state, block, 0, 20)
    before, now = (np.asarray(s.params.blocks[1].attention.W_QKV)[0] for s in (state, after))
    assert np.array_equal(before[:2, 1], now[:2, 1])
    assert not np.array_equal(before[:2, 0], now[:2, 0])
    assert not np.array_equal(before[2, 1], now[2, 1])


def test_frozen_weights_stay_and_others_learn():
    study = small_study(clamp=ih.freeze("W_E", "blocks.0"), weight_decay=0.1)
    state, block, advance = block_of(study)
    after = go(advance, state, block, 0, 5)
    assert same_bits(state.params.W_E, after.params.W_E)
    assert same_bits(state.params.blocks[0], after.params.blocks[0])
    assert not same_bits(state.params.blocks[1], after.params.blocks[1])


def test_a_pulse_acts_only_while_it_is_on():
    clamps = {"none": None, "later": ih.ablate(1, [0, 1]).during(160, 320)}
    study = small_study(clamp=clamps)
    state, block, advance = block_of(study)
    before = go(advance, state, block, 0, 20)  # 160 sequences
    assert np.array_equal(before.params.W_E[0], before.params.W_E[1])
    during = go(advance, before, block, 20, 21)
    assert not np.array_equal(during.params.W_E[0], during.params.W_E[1])


@pytest.mark.usefixtures("optimised")
def test_a_run_that_diverges_is_frozen_and_its_neighbours_keep_their_bits():
    study = small_study(init=[0, 1, 2])
    group = study.groups[0]
    runs = group.arrays
    pack = packing.packing(runs)
    advance = chunk.advancer(group.program, pack, 1, "cpu")
    block = pack.pack(runs, [0, 1, 2])
    state = chunk.starter(group.program, pack)(block)
    poisoned = state._replace(
        params=dataclasses.replace(state.params, b_E=state.params.b_E.at[1].set(jnp.nan))
    )
    healthy, ill = go(advance, state, block, 0, 10), go(advance, poisoned, block, 0, 10)
    assert np.asarray(ill.diverged).tolist() == [-1, 0, -1]
    for lane in (0, 2):
        pick = lambda leaf, lane=lane: np.asarray(leaf[lane])  # noqa: E731
        assert same_bits(jax.tree.map(pick, healthy), jax.tree.map(pick, ill))
    assert np.array_equal(ill.params.W_E[1], state.params.W_E[1])


@pytest.mark.parametrize(
    ("settings", "optimiser"),
    [
        ({}, optax.adam(1e-3)),
        ({"optimiser": "sgd"}, optax.sgd(1e-3)),
        ({"weight_decay": 0.1}, optax.adamw(1e-3, weight_decay=0.1)),
        (
            {"clip_norm": 0.1, "optimiser": "sgd"},
            optax.chain(optax.clip_by_global_norm(0.1), optax.sgd(1e-3)),
        ),
        (
            {"schedule": "cosine", "warmup_steps": 5, "decay_steps": 15},
            optax.adam(optax.warmup_cosine_decay_schedule(0.0, 1e-3, 5, 15)),
        ),
        (
            {"schedule": "warmup", "warmup_steps": 5, "beta2": 0.98, "weight_decay": 0.01},
            optax.adamw(optax.linear_schedule(0.0, 1e-3, 5), b2=0.98, weight_decay=0.01),
        ),
    ],
)
def test_optimisers_are_those_of_optax(settings, optimiser):
    study = small_study(**settings)
    group = study.groups[0]
    run = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), group.arrays)
    program = group.program
    mine = loop.start(program, run)
    params, state = mine.params, optimiser.init(mine.params)
    advance = jax.jit(lambda s, i: loop.step(program, run, s, i))

    @jax.jit
    def theirs(params, state, i):
        key = jax.random.fold_in(jax.random.key(run.order), i)
        batch = program.task.sample(key, run.task.train, program.batch)

        def loss(p):
            sites = loop.forward(p, batch, run.holds, "query")
            return program.task.loss(sites, batch, run.task)

        updates, state = optimiser.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    for i in range(12):
        mine = advance(mine, jnp.int32(i))
        params, state = theirs(params, state, jnp.int32(i))
    for a, b in zip(jax.tree.leaves(mine.params), jax.tree.leaves(params), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-7)


def test_warmup_decay_meets_its_corners():
    study = small_study(
        schedule="warmup_decay",
        warmup_steps=10,
        decay_steps=100,
        first_learning_rate=1e-5,
        last_learning_rate=1e-6,
    )
    run = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), study.groups[0].arrays)
    rate = [
        float(loop.learning_rate(study.groups[0].program, run.hyper, jnp.int32(n)))
        for n in (0, 10, 85, 110, 1000)
    ]
    np.testing.assert_allclose(
        rate, [1e-5, 1e-3, 1e-6 + 0.5 * (1e-3 - 1e-6), 1e-6, 1e-6], rtol=1e-5
    )


def test_training_learns_the_task():
    study = small_study(learning_rate=3e-3, init=[1])
    state, block, advance = block_of(study)
    kinds = np.array([2, 2], np.int32)
    _, scores = advance(state, block, np.array([0, 0, 1500], np.int32), kinds)
    loss = np.asarray(scores)[:, 0, 0, 0]
    assert loss[1] < 0.6 * loss[0]


def test_times_beyond_what_an_int32_counts():
    """Three billion tokens are past 2^31: a clamp from one billion on is on, one up to two off."""
    own = {"on": ih.ablate(1, 0).during(1e9, 5e9), "off": ih.ablate(1, 0).during(0, 2e9)}
    clamps = {"none": None, "always": ih.ablate(1, 0), **own}
    study = small_study(clamp=clamps, batch=2_000, init=[3])
    group = study.groups[0]
    after = {}
    for name, number in zip(clamps, range(len(clamps)), strict=True):
        run = jax.tree.map(lambda leaf, i=number: jnp.asarray(leaf[i]), group.arrays)
        state = loop.start(group.program, run)
        after[name] = loop.step(group.program, run, state, jnp.int32(1_500_000)).params
    assert same_bits(after["on"], after["always"])
    assert same_bits(after["off"], after["none"])
    assert not same_bits(after["on"], after["off"])
    # Evaluations go by the same clock: the loss after one step, of each.
    state, block, advance = block_of(study)
    bounds, kinds = np.array([1_500_000, 1_500_001], np.int32), np.array([loop.TRAIN_SET], np.int32)
    scores = np.asarray(advance(state, block, bounds, kinds)[1])[0, :, 0, 0]
    loss = dict(zip(clamps, scores.tolist(), strict=True))
    assert loss["on"] == loss["always"] != loss["none"] == loss["off"]


@pytest.mark.parametrize("settings", [{}, {"mlp_ratio": 4.0}, {"positions": "learned"}])
def test_what_trajectories_take_is_known_before(settings):
    study = small_study(layers=3, checkpoints=[0, 400, 800], **settings)
    params = ih.init(jax.random.key(0), study.runs[0].config)
    one = 4 * sum(leaf.size for leaf in jax.tree.leaves(params))
    states = 2 * 3  # to go on from: weights and two moments
    assert blocks.estimate_bytes(study) == pytest.approx((3 + states) * one, rel=0.1)
