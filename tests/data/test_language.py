"""Languages, and the task, clamps and training of models that read them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ih_jax as ih
from ih_jax.data.languages import Bigrams, Markov, Mixture, RandomRepeats, Repeats
from ih_jax.data.languages.recipe import of_card
from ih_jax.data.languages.synthetic import table_of
from ih_jax.sweeps.loop import step
from ih_jax.tasks import language

SMALL = {"d_model": 16, "heads": 2, "layers": 2}
RECIPES = [
    Bigrams(tokens=8, length=24, successors=3),
    Bigrams(tokens=8, length=24, successors=0, own=1.0, follow=0.7),
    Repeats(tokens=8, length=24, successors=4, shortest=2, spread=4, triggers=2),
    Markov(length=24),
    RandomRepeats(tokens=8, length=24, shortest=4, longest=7),
]


def draw(recipe, sequences=4000, seed=0):
    source = jax.tree.map(jnp.asarray, recipe.source())
    sample = jax.jit(recipe.sample, static_argnums=2)
    return np.asarray(sample(jax.random.key(seed), source, sequences).tokens)


def model(recipe, **settings):
    own = {"positions": "shortformer", "max_positions": recipe.length} | SMALL | settings
    return ih.Config(features=0, labels=recipe.vocabulary, **own)


# --- recipes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: type(r).__name__)
def test_sequences_begin_with_bos_and_hold_it_nowhere_else(recipe):
    tokens = draw(recipe, 200)
    assert tokens.shape == (200, recipe.length)
    assert (tokens[:, 0] == recipe.bos).all()
    assert ((tokens[:, 1:] >= 0) & (tokens[:, 1:] < recipe.tokens)).all()
    assert not np.array_equal(tokens, draw(recipe, 200, seed=1))
    assert np.array_equal(tokens, draw(recipe, 200))
    assert of_card(recipe.describe()) == recipe


@pytest.mark.parametrize("recipe", [*RECIPES, Mixture()], ids=lambda r: type(r).__name__)
def test_networks_read_what_the_recipe_draws(recipe):
    task = ih.language(recipe, batch=4)
    own = task.sample(jax.random.key(0), task.source("train"), 50).tokens
    assert np.array_equal(own, draw(recipe, 50))
    # Whatever the recipe's fields are called: `Mixture` has one named `repeats`.
    blocks = task.sample(jax.random.key(0), task.source("random_repeats"), 50).tokens
    assert not np.array_equal(blocks, own) or isinstance(recipe, RandomRepeats)


def test_bigrams_of_all_sequences_are_those_of_the_table():
    recipe = Bigrams(tokens=8, length=64, successors=3, own=0.0)
    tokens = draw(recipe, 2000)
    counts = np.zeros((8, 8))
    np.add.at(counts, (tokens[:, 1:-1].ravel(), tokens[:, 2:].ravel()), 1)
    found = counts / counts.sum(1, keepdims=True)
    np.testing.assert_allclose(found, table_of(recipe), atol=0.02)


def test_bigrams_of_a_sequences_own_follow_as_often_as_asked():
    recipe = Bigrams(tokens=8, length=200, successors=0, own=0.5, follow=0.9)
    tokens = draw(recipe, 300)[:, 1:]
    own, rest = [], []
    for row in tokens:
        counts = np.zeros((8, 8))
        np.add.at(counts, (row[:-1], row[1:]), 1)
        seen = counts.sum(1) > 10
        likely = counts.max(1)[seen] / counts.sum(1)[seen]
        own += likely[likely > 0.6].tolist()
        rest += likely[likely <= 0.6].tolist()
    # The own successor also comes by chance: .9 + .1 / 8.
    assert abs(np.mean(own) - 0.9125) < 0.02
    assert abs(len(own) / (len(own) + len(rest)) - 0.5) < 0.1
    assert max(map(np.mean, [rest])) < 0.45


def test_probabilities_of_a_recipe_are_arrays_of_one_program():
    recipe = Bigrams(own=0.3)
    assert recipe.static() == dataclasses.replace(recipe, own=0.9).static()
    assert recipe.static() != dataclasses.replace(recipe, successors=2).static()
    study = ih.sweep(ih.language(recipe), own=[0.2, 0.8], tokens=10_000, **SMALL)
    assert len(study.groups) == 1
    assert study.groups[0].arrays.task.train["own"].tolist() == pytest.approx([0.2, 0.8])


def test_random_repeats_have_a_period_of_the_lengths_asked_for():
    recipe = RandomRepeats(tokens=50, length=40, shortest=5, longest=9)
    for row in draw(recipe, 50)[:, 1:]:
        periods = [p for p in range(1, 20) if np.array_equal(row[p:], row[:-p])]
        assert 5 <= periods[0] <= 9


def test_pasted_spans_stand_earlier_in_the_sequence():
    recipe = Repeats(tokens=64, length=128, paste=1.0, shortest=8, spread=0, triggers=0)
    without = dataclasses.replace(recipe, paste=0.0)

    def copied(recipe):
        """The share of windows of 6 tokens that stand earlier."""
        found = []
        for row in draw(recipe, 50)[:, 1:]:
            windows = [tuple(row[i : i + 6]) for i in range(len(row) - 5)]
            found.append(np.mean([w in windows[:i] for i, w in enumerate(windows)]))
        return np.mean(found)

    assert copied(recipe) > 0.3
    assert copied(without) < 0.05


def test_triggers_have_one_successor_in_a_sequence():
    recipe = Repeats(
        tokens=16, length=200, paste=0.0, triggers=4, shortest=4, spread=4, successors=8
    )
    always = []
    for row in draw(recipe, 100)[:, 1:]:
        followers = [set(row[1:][row[:-1] == t]) for t in range(16)]
        many = [np.sum(row[:-1] == t) >= 8 for t in range(16)]
        always.append(sum(len(f) == 1 for f, m in zip(followers, many, strict=True) if m))
    assert 1 < np.mean(always) <= 4


def test_chains_have_rows_of_their_own():
    tokens = draw(Markov(tokens=3, length=400), 300)[:, 1:]
    rows = []
    for row in tokens:
        counts = np.zeros((3, 3))
        np.add.at(counts, (row[:-1], row[1:]), 1)
        rows.append(counts[0] / max(counts[0].sum(), 1))
    rows = np.array(rows)
    # Dirichlet(1) over three: mean 1/3, variance 1/18 each.
    np.testing.assert_allclose(rows.mean(0), 1 / 3, atol=0.05)
    np.testing.assert_allclose(rows.var(0), 1 / 18, atol=0.02)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Bigrams(tokens=1), "tokens 1"),
        (lambda: Bigrams(own=1.5), "probability"),
        (lambda: Bigrams(tokens=6), "successors"),
        (lambda: Repeats(shortest=120, spread=8), "shortest"),
        (lambda: RandomRepeats(shortest=0), "shortest"),
        (lambda: ih.language(early=60), "overlap"),
        (lambda: ih.language(late=64), "within 1 to 63"),
        (lambda: ih.language(batch=0), "batch 0"),
        (lambda: ih.language(colour=3), "colour"),
        (lambda: ih.sweep(ih.language(), sequences=100), "sequences"),
        (lambda: ih.sweep(ih.language(), max_positions=10), "positions"),
        (lambda: ih.sweep(ih.language(), beta2=1.0), "beta2"),
        (lambda: of_card({"recipe": "Proust"}), "Proust"),
    ],
)
def test_mistakes_get_one_line(make, words):
    with pytest.raises(ih.UserError, match=words) as caught:
        make()
    assert "\n" not in str(caught.value)


# --- the task -----------------------------------------------------------------------------------


def test_losses_are_those_of_the_next_token():
    recipe = RECIPES[0]
    params = ih.init(jax.random.key(0), model(recipe))
    batch = ih.Tokens(jnp.asarray(draw(recipe, 6)))
    logits = np.asarray(ih.apply(params, batch).logits, np.float64)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    tokens = np.asarray(batch.tokens)
    expected = [[-log_p[b, t, tokens[b, t + 1]] for b in range(6)] for t in range(23)]
    from ih_jax.clamps.apply import forward
    from ih_jax.clamps.holds import Holds

    sites = forward(params, batch, Holds())
    np.testing.assert_allclose(language.token_losses(sites, batch), expected, atol=1e-5)
    task = ih.language(recipe)
    loss = task.objective().loss(sites, batch, task.run_arrays())
    np.testing.assert_allclose(loss, np.mean(expected), atol=1e-5)


def test_the_in_context_score_is_late_less_early():
    losses = jnp.arange(63.0)  # of the tokens at positions 1 to 63
    assert float(language.in_context_score(losses, 10, 63)) == pytest.approx(60.5 - 10.5)
    assert ih.language().positions() == (10, 63)
    assert ih.language(Repeats()).positions() == (20, 127)


def test_later_tokens_do_not_reach_earlier_logits():
    recipe = RECIPES[0]
    for settings in ({}, {"smeared_keys": True}, {"mlp_ratio": 2.0}, {"positions": "rope"}):
        params = ih.init(jax.random.key(3), model(recipe, **settings))
        tokens = jnp.asarray(draw(recipe, 4))
        changed = tokens.at[:, 15:].set((tokens[:, 15:] + 1) % recipe.tokens)
        a, b = (ih.apply(params, ih.Tokens(t)).logits for t in (tokens, changed))
        assert np.array_equal(a[:, :15], b[:, :15])
        assert not np.allclose(a[:, 15:], b[:, 15:])


def test_smeared_keys_are_shares_of_two_neighbours():
    recipe = RECIPES[0]
    params = ih.init(jax.random.key(0), model(recipe, smeared_keys=True, positions="rope"))
    assert params.blocks[0].attention.smear.tolist() == [0.0, 0.0]
    own = dataclasses.replace(
        params,
        blocks=tuple(
            dataclasses.replace(
                block,
                attention=dataclasses.replace(block.attention, smear=jnp.array([-40.0, 40.0])),
            )
            for block in params.blocks
        ),
    )
    batch = ih.Tokens(jnp.asarray(draw(recipe, 3)))
    found = ih.apply(own, batch)
    plain = ih.apply(
        dataclasses.replace(
            own,
            blocks=tuple(
                dataclasses.replace(b, attention=dataclasses.replace(b.attention, smear=None))
                for b in own.blocks
            ),
        ),
        batch,
    )
    # Head 1 keeps its keys; head 0 has its neighbour's, so that its scores are shifted by one.
    np.testing.assert_allclose(found.attn_scores[0][:, 1], plain.attn_scores[0][:, 1], atol=1e-5)
    assert not np.allclose(found.attn_scores[0][:, 0], plain.attn_scores[0][:, 0], atol=1e-2)


# --- clamps -------------------------------------------------------------------------------------


def look(clamp, recipe=RECIPES[0], seed=1, **settings):
    params = ih.init(jax.random.key(seed), model(recipe, **settings))
    batch = ih.Tokens(jnp.asarray(draw(recipe, 5)))
    return ih.apply(params, batch, clamp), batch


def test_a_head_is_held_at_the_previous_token():
    found, _ = look(ih.previous_token(0, 1, strength=0.75))
    pattern = np.asarray(found.pattern[0])
    T = pattern.shape[-1]
    expected = 0.75 * np.eye(T, k=-1) + 0.25 * np.eye(T)
    expected[0] = np.eye(T)[0]
    np.testing.assert_allclose(pattern[:, 1], np.broadcast_to(expected, pattern[:, 1].shape))
    assert not np.allclose(pattern[:, 0], expected, atol=0.1)


@pytest.mark.parametrize("strength", [1.0, 0.6])
def test_a_head_is_held_at_what_followed_the_same_token(strength):
    found, batch = look(ih.induction(1, 0, strength=strength))
    pattern = np.asarray(found.pattern[1])[:, 0]
    for b, row in enumerate(np.asarray(batch.tokens)):
        for i, token in enumerate(row):
            matches = [j + 1 for j in range(i) if row[j] == token]
            expected = np.zeros(len(row))
            for j in matches:
                expected[j] += strength / len(matches)
            expected[0] += 1 - expected.sum()
            np.testing.assert_allclose(pattern[b, i], expected, atol=1e-6)


def test_nobody_may_look_at_the_previous_token():
    found, _ = look(ih.no_previous_token(0, [0, 1]))
    back = np.diagonal(np.asarray(found.pattern[0]), -1, 2, 3)
    assert np.all(back[..., 1:] < 1e-6)


def test_a_gate_of_zero_changes_no_bit():
    off = ih.hold("pattern", 0.0, layer=0, gate=0.0) & ih.hold("z", 1.0, layer=1, gate=0.0)
    plain, _ = look(None)
    held, _ = look(off)
    np.testing.assert_allclose(plain.logits, held.logits, atol=2e-6)  # another program's attention
    z_only, _ = look(ih.hold("z", 1.0, layer=1, gate=0.0))
    assert np.array_equal(plain.logits, z_only.logits)


@pytest.mark.parametrize(
    "clamp",
    [
        ih.match_by_similarity(1, 0),
        ih.labels_only(1, 0),
        ih.perfect_previous_layer(),
        ih.copy_from(1, 0),
        ih.previous_token(0, 0, rows="label"),
        ih.no_previous_token(0, 0, rows="label"),
    ],
    ids=lambda c: c.parts[0].held.kind,
)
def test_clamps_of_exemplars_and_labels_are_refused(clamp):
    with pytest.raises(ih.UserError, match="applies only to few-shot models"):
        look(clamp)


def test_a_batch_of_the_other_kind_is_refused():
    recipe = RECIPES[0]
    params = ih.init(jax.random.key(0), model(recipe))
    task = ih.fewshot(classes=4, test_classes=0)
    few = task.objective().sample(jax.random.key(0), task.run_arrays().train, 2)
    with pytest.raises(ih.UserError, match="Tokens"):
        ih.apply(params, few)
    with pytest.raises(ih.UserError, match="labels"):
        ih.apply(ih.init(jax.random.key(0), ih.Config()), ih.Tokens(jnp.zeros((2, 5), jnp.int32)))


def test_preserve_and_ablate_leave_the_patterns():
    clean, _ = look(None)
    found, _ = look(ih.ablate(0, 0) & ih.preserve("patterns"))
    for layer in range(2):
        np.testing.assert_allclose(found.pattern[layer], clean.pattern[layer], atol=1e-6)
    assert not np.allclose(found.logits, clean.logits, atol=1e-3)


@pytest.mark.users_code
def test_a_rule_of_ones_own_sees_one_sequence_of_tokens():
    def two_back(batch, activations, strength):
        assert batch.tokens.ndim == 1
        pattern = activations.pattern[-1]
        return strength * jnp.eye(pattern.shape[-1], k=-2) + (1 - strength) * pattern

    found, _ = look(ih.rule("pattern", two_back, layer=0, heads=[1], strength=1.0))
    pattern = np.asarray(found.pattern[0])[:, 1]
    np.testing.assert_allclose(pattern, np.broadcast_to(np.eye(24, k=-2), pattern.shape))


# --- training -----------------------------------------------------------------------------------


def sweep(**settings):
    own = {
        "tokens": 20 * 8 * 24,
        "evaluate": range(0, 20 * 8 * 24 + 1, 10 * 8 * 24),
        "checkpoints": [0, 20 * 8 * 24],
        "init": [0, 1],
    } | SMALL
    task = ih.language(RECIPES[0], batch=8, evaluation_sequences=16)
    return ih.sweep(task, **{**own, **settings})


def test_a_sweep_is_trained_read_and_made_again_from_its_card(tmp_path):
    clamp = {
        "none": None,
        "previous": ih.previous_token(0, 0),
        "pulse": ih.induction(1, 0).during(0, 2000),
    }
    trained = sweep(clamp=clamp).train(tmp_path / "a", progress=False)
    results = trained.results
    assert results["loss"].dims == ("clamp", "init", "tokens")
    assert results["tokens"].values.tolist() == [0, 1920, 3840]
    assert set(results["set"].values) == {"language", "random_repeats"}
    assert np.isfinite(results["in_context_score"]).all()
    again = ih.load(tmp_path / "a")
    assert again.study.describe() == trained.study.describe()
    seen = again.measure(lambda p, c, b: ih.apply(p, b, c).pattern[0].mean((0, 2, 3)), sequences=4)
    assert seen.dims[:3] == ("clamp", "init", "tokens")


@pytest.mark.usefixtures("optimised")
def test_a_runs_bits_do_not_depend_on_its_neighbours(tmp_path):
    together = sweep().train(tmp_path / "a", progress=False, width=2)
    alone = sweep(init=[1]).train(tmp_path / "b", progress=False, width=2)
    step = together.steps(1)[-1]
    for a, b in zip(
        jax.tree.leaves(together.params(1, step)),
        jax.tree.leaves(alone.params(0, step)),
        strict=True,
    ):
        assert np.array_equal(a, b)


def test_a_clamped_head_keeps_its_queries_and_keys():
    study = sweep(clamp=ih.previous_token(0, 0), weight_decay=0.0, init=[3])
    group = study.groups[0]
    run = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), group.arrays)
    from ih_jax.sweeps.loop import start

    state = before = start(group.program, run)
    advance = jax.jit(lambda s, i: step(group.program, run, s, i))
    for i in range(5):
        state = advance(state, jnp.int32(i))
    was, now = (s.params.blocks[0].attention.W_QKV for s in (before, state))
    assert np.array_equal(was[:2, 0], now[:2, 0])
    assert not np.array_equal(was[:2, 1], now[:2, 1])
    assert not np.array_equal(was[2, 0], now[2, 0])


def test_training_learns_the_bigrams():
    recipe = Bigrams(tokens=8, length=24, successors=2, own=0.0)
    study = ih.sweep(ih.language(recipe, batch=16), tokens=1000, **SMALL)
    group = study.groups[0]
    run = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), group.arrays)
    from ih_jax.clamps.apply import forward
    from ih_jax.sweeps.loop import start

    state = start(group.program, run)
    advance = jax.jit(
        lambda s: jax.lax.fori_loop(0, 400, lambda i, s: step(group.program, run, s, i), s)
    )
    state = advance(state)
    batch = ih.Tokens(jnp.asarray(draw(recipe, 64)))
    losses = language.token_losses(forward(state.params, batch, run.holds), batch)
    best = -np.sum(np.array([2 / 3, 1 / 3]) * np.log([2 / 3, 1 / 3]))
    assert float(losses[1:].mean()) < best + 0.05


@pytest.mark.parametrize("data", [5, "text.txt"])
def test_data_that_is_no_recipe_is_refused(data):
    with pytest.raises(ih.UserError, match="give a recipe, such as"):
        ih.language(data)
