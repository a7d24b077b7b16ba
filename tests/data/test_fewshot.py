"""What must be true of few-shot sequences, whatever draws them (Singh et al. 2024, section 2)."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ih_jax.data.fewshot import (
    Batch,
    Burst,
    Kind,
    Layout,
    Source,
    exhaustive,
    sample,
)
from ih_jax.data.splits import split_label_pairs
from ih_jax.data.weights import Weights, zipf_logits

MANY = 8192
PAPER = Layout()
# Tests compile many programs to run each once.
FAST = {"xla_backend_optimization_level": 0}
draw_once = jax.jit(sample, static_argnums=(1, 3), compiler_options=FAST)


def make_source(
    classes=6, exemplars=1, features=3, pairs=((0, 1), (1, 2), (0, 4)), logits=None, **arrays
):
    """A small source: feature f of exemplar e of class c tells which exemplar it is."""
    size = (classes, exemplars, features)
    return Source(
        table=jnp.asarray(np.arange(np.prod(size)).reshape(size), jnp.float32),
        class_logits=jnp.asarray(np.zeros(classes) if logits is None else logits, jnp.float32),
        label_pairs=jnp.asarray(pairs, jnp.int32),
        pair_count=arrays.pop("pair_count", jnp.int32(len(pairs))),
        noise=arrays.pop("noise", jnp.float32(0)),
        mixture_logits=arrays.pop("mixture_logits", jnp.asarray(np.zeros(1), jnp.float32)),
        **arrays,
    )


def draw_many(layout=PAPER, source=None, seed=0):
    batch = draw_once(jax.random.key(seed), layout, source or make_source(), MANY)
    return jax.tree.map(np.asarray, batch)


def assert_frequencies(observed, probabilities):
    """Counts of outcomes 0, 1, ... are within 5 standard errors of a distribution."""
    p = np.asarray(probabilities, float) / np.sum(probabilities)
    count = np.bincount(np.ravel(observed), minlength=len(p))
    assert len(count) == len(p), "an outcome that cannot be"
    n = np.size(observed)
    # Half a count more, for outcomes that are too rare to be normal.
    assert np.all(np.abs(count - n * p) <= 5 * np.sqrt(n * p * (1 - p)) + 0.5), (count, n * p)


def assert_same(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)


def test_the_query_is_answered_by_exactly_one_context_item():
    batch = draw_many()
    match = batch.classes[:, :2] == batch.classes[:, 2:]
    assert np.all(match.sum(axis=1) == 1)
    assert np.array_equal(match, batch.kinds[:, :2] == Kind.BURSTY)
    assert np.array_equal(~match, batch.kinds[:, :2] == Kind.DISTRACTOR)
    assert np.all(batch.kinds[:, 2] == Kind.QUERY)
    assert np.array_equal(batch.labels[:, :2][match], batch.labels[:, 2])
    assert np.all(batch.labels[:, :2][~match] != batch.labels[:, 2])
    # One exemplar a class: the query is that very item.
    assert np.array_equal(batch.examples[:, :2][match], batch.examples[:, 2])


def test_default_draws_are_uniform():
    batch = draw_many()
    first = (batch.kinds[:, 0] == Kind.BURSTY).astype(int)
    distractor = np.where(first, batch.classes[:, 1], batch.classes[:, 0])
    both = batch.classes[:, 2] * 6 + distractor
    assert_frequencies(first, [1, 1])
    assert_frequencies(both, 1 - np.eye(6).ravel())
    # Six ordered label pairs, independently of where the query's class stands.
    names = [(0, 1), (1, 0), (1, 2), (2, 1), (0, 4), (4, 0)]
    other = np.where(first, batch.labels[:, 1], batch.labels[:, 0])
    which = np.array([names.index(pair) for pair in zip(batch.labels[:, 2], other, strict=True)])
    assert_frequencies(which % 2, [1, 1])
    assert_frequencies(which * 2 + first, np.ones(12))
    assert_frequencies(which * 6 + batch.classes[:, 2], np.ones(36))


def test_context_order_is_a_uniform_permutation():
    burst = Burst(1, unique_rest=True)
    batch = draw_many(Layout(pairs=4, mixture=(burst,)))
    bursty = np.argmax(batch.kinds == Kind.BURSTY, axis=1)
    distractor = np.argmax(batch.kinds == Kind.DISTRACTOR, axis=1)
    assert_frequencies(bursty * 4 + distractor, 1 - np.eye(4).ravel())


def test_zipf_weights_rule_query_and_distractor():
    logits = zipf_logits(5, 1.5)
    np.testing.assert_allclose(jnp.exp(logits), [r**-1.5 for r in range(1, 6)], rtol=1e-5)
    batch = draw_many(source=make_source(5, logits=logits))
    weights = np.arange(1, 6) ** -1.5
    weights /= weights.sum()
    distractor = np.where(
        batch.kinds[:, 0] == Kind.BURSTY, batch.classes[:, 1], batch.classes[:, 0]
    )
    joint = np.outer(weights, weights) * (1 - np.eye(5)) / (1 - weights[:, None])
    assert_frequencies(batch.classes[:, 2] * 5 + distractor, joint.ravel())


def test_classes_of_weight_zero_never_occur():
    logits = jnp.array([-jnp.inf, 0.0, -jnp.inf, 1.0, 0.0, -jnp.inf])
    burst = Burst(1, no_support=True)
    batch = draw_many(Layout(4, (burst,)), make_source(6, logits=logits))
    assert set(np.unique(batch.classes)) == {1, 3, 4}


@pytest.mark.parametrize("alpha", [0.0, 1.0, 3.0])
def test_a_class_taken_out_is_never_drawn_at_any_edge(alpha):
    classes = 211
    weights = Weights.of(zipf_logits(classes, alpha))
    assert weights.running[-1] < 2**23  # or sums are not exact
    for out in (0, 1, 105, 209, 210):
        rest = weights.without(jnp.int32(out))
        # All uniforms next to the borders between classes, and the extremes.
        border = np.asarray(rest.running / rest.running[-1])
        steps = np.arange(-2, 3) * 2.0**-23
        uniforms = np.clip(border[:, None] + steps, 0, 1 - 2.0**-23).astype(np.float32).ravel()
        drawn = np.asarray(jax.vmap(rest.draw)(uniforms))
        assert drawn.min() >= 0 and drawn.max() < classes
        assert set(range(classes)) - set(drawn.tolist()) == {out}


def test_labels_change_nothing_else():
    source = make_source(exemplars=3)
    other = source.replace(label_pairs=source.label_pairs[::-1] + 1, pair_count=jnp.int32(2))
    one, two = draw_many(source=source), draw_many(source=other)
    for name in ("rows", "kinds", "classes"):
        assert np.array_equal(getattr(one, name), getattr(two, name))
    assert not np.array_equal(one.labels, two.labels)
    for layout in (Layout(scheme="none"), Layout(reverse_pairs=True)):
        changed = draw_many(layout, source)
        assert np.array_equal(one.rows, changed.rows)
        assert np.array_equal(one.kinds, changed.kinds)


def test_padding_of_label_pairs_changes_nothing():
    source = make_source()
    padding = jnp.full((7, 2), 99, jnp.int32)
    padded = source.replace(label_pairs=jnp.concatenate([source.label_pairs, padding]))
    assert_same(draw_many(source=source), draw_many(source=padded))


def test_keys_give_different_batches():
    one, two = draw_many(seed=0), draw_many(seed=1)
    assert np.mean(one.classes[:, 2] == two.classes[:, 2]) < 0.25
    assert np.mean(one.labels[:, 2] == two.labels[:, 2]) < 0.6


def test_jit_and_vmap_over_runs_change_nothing():
    layout = Layout(4, (Burst(2), Burst(1, no_support=True)), noisy=True)
    sources = [
        make_source(
            exemplars=2,
            logits=zipf_logits(6, alpha),
            noise=jnp.float32(alpha),
            mixture_logits=jnp.array([0.0, alpha]),
            pair_count=jnp.int32(count),
        )
        for alpha, count in ((0.0, 3), (1.0, 2))
    ]
    keys = jax.random.split(jax.random.key(3), 2)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *sources)
    runs = jax.vmap(lambda key, source: sample(key, layout, source, 64))
    together = jax.jit(runs, compiler_options=FAST)(keys, stacked)
    alone = [draw_once(key, layout, source, 64) for key, source in zip(keys, sources, strict=True)]
    for run, mine in enumerate(alone):
        other = jax.tree.map(lambda leaf, run=run: np.asarray(leaf[run]), together)
        assert_same(mine.replace(table=0), other.replace(table=0))
        np.testing.assert_allclose(mine.table, other.table, rtol=1e-6, atol=1e-6)
    optimised = jax.jit(sample, static_argnums=(1, 3))(keys[0], PAPER, make_source(), MANY)
    assert_same(draw_once(keys[0], PAPER, make_source(), MANY), optimised)


@pytest.mark.parametrize(
    "burst",
    [Burst(0), Burst(3), Burst(2, distractor=False), Burst(6, distractor=False)]
    + [Burst(2, no_support=True), Burst(1, False, no_support=True)]
    + [Burst(0, unique_rest=True), Burst(2, unique_rest=True)],
)
def test_what_a_context_is_made_of(burst):
    batch = draw_many(Layout(6, (burst,)), make_source(8))
    kinds, classes = batch.kinds[:, :6], batch.classes[:, :6]
    query = batch.classes[:, 6:]
    distractors = burst.burstiness if burst.distractor else 0
    assert np.all((kinds == Kind.BURSTY).sum(1) == burst.burstiness)
    assert np.all((kinds == Kind.DISTRACTOR).sum(1) == distractors)
    assert np.all((kinds == Kind.OTHER).sum(1) == 6 - burst.burstiness - distractors)
    assert np.all((classes == query)[kinds == Kind.BURSTY])
    assert not np.any((classes == query)[kinds == Kind.DISTRACTOR])
    if distractors:  # all of one class
        theirs = np.where(kinds == Kind.DISTRACTOR, classes, -1).max(1, keepdims=True)
        assert np.all((classes == theirs)[kinds == Kind.DISTRACTOR])
    else:
        theirs = np.full_like(query, -1)
    rest = kinds == Kind.OTHER
    taken = (classes == query) | (classes == theirs)
    if burst.no_support or burst.unique_rest:
        assert not np.any(taken[rest])
        if not distractors and not burst.unique_rest:  # unique items are not independent
            assert_frequencies(((classes - query) % 8)[rest] - 1, np.ones(7))
    elif rest.any():
        assert_frequencies(classes[rest], np.ones(8))
        assert_frequencies(((classes - query) % 8)[rest], np.ones(8))
    if burst.unique_rest:
        numbers = np.sort(np.where(rest, classes, 100 + np.arange(6)), axis=1)
        assert np.all(np.diff(numbers, axis=1) > 0)


def test_unique_rest_draws_by_weight_without_replacement():
    weights = np.array([4.0, 3.0, 2.0, 1.0])
    layout = Layout(2, (Burst(0, unique_rest=True),), scheme="none")
    batch = draw_many(layout, make_source(4, logits=np.log(weights)))
    expected = np.zeros((4, 4, 4))
    for query, first, second in itertools.permutations(range(4), 3):
        p = weights / weights.sum()
        chance = p[query] * p[first] / (1 - p[query]) * p[second] / (1 - p[query] - p[first])
        # The order in the context is shuffled, not that of drawing.
        expected[query, first, second] += chance / 2
        expected[query, second, first] += chance / 2
    outcome = batch.classes[:, 2] * 16 + batch.classes[:, 0] * 4 + batch.classes[:, 1]
    assert_frequencies(outcome, np.append(expected.ravel(), [])[:64])


def test_mixture_weights_pick_components():
    layout = Layout(4, (Burst(2), Burst(1), Burst(0)))
    source = make_source(mixture_logits=jnp.log(jnp.array([0.5, 0.3, 0.2])))
    batch = draw_many(layout, source)
    burstiness = (batch.kinds == Kind.BURSTY).sum(1)
    assert_frequencies(burstiness, [0.2, 0.3, 0.5])
    assert np.array_equal(burstiness, (batch.kinds == Kind.DISTRACTOR).sum(1))
    for count in range(3):  # which component says nothing about the query
        assert_frequencies(batch.classes[burstiness == count, 4], np.ones(6))
    only = draw_many(layout, source.replace(mixture_logits=jnp.array([-jnp.inf, 0.0, -jnp.inf])))
    assert np.all((only.kinds == Kind.BURSTY).sum(1) == 1)


def test_exemplars_are_uniform_and_independent():
    batch = draw_many(source=make_source(exemplars=3))
    assert np.array_equal(batch.rows // 3, batch.classes)
    exemplars = batch.rows % 3
    assert_frequencies(exemplars @ np.array([9, 3, 1]), np.ones(27))
    assert_frequencies(exemplars[:, 2] * 6 + batch.classes[:, 2], np.ones(18))


def test_matched_exemplars():
    layout = Layout(6, (Burst(2),), matched_exemplars=True)
    batch = draw_many(layout, make_source(exemplars=3))
    exemplars = batch.rows % 3
    mine = exemplars[:, 6:]
    assert np.all((exemplars == mine)[(batch.kinds == Kind.BURSTY)])
    of_distractor = batch.kinds == Kind.DISTRACTOR
    theirs = np.where(of_distractor, exemplars, -1).max(1, keepdims=True)
    assert np.all((exemplars == theirs)[of_distractor])
    others = exemplars[batch.kinds == Kind.OTHER].reshape(MANY, 2)
    joint = np.concatenate([mine, theirs, others], axis=1) @ np.array([27, 9, 3, 1])
    assert_frequencies(joint, np.ones(81))
    single = draw_many(layout, make_source())
    assert np.array_equal(single.rows, single.classes)


def test_items_outside_bursts_keep_their_raw_label():
    labels = jnp.array([40, 41, 42, 43, 44, 45], jnp.int32)
    for class_labels, raw in ((None, np.arange(6)), (labels, np.asarray(labels))):
        source = make_source(class_labels=class_labels)
        relabelled = draw_many(Layout(4), source)
        other = relabelled.kinds == Kind.OTHER
        assert np.array_equal(relabelled.labels[other], raw[relabelled.classes[other]])
        assert relabelled.labels[~other].max() <= 4  # those are of the label pairs
        plain = draw_many(Layout(4, scheme="none"), source)
        assert np.array_equal(plain.labels, raw[plain.classes])


def test_flip_swaps_the_labels_of_query_and_distractor():
    source = make_source(class_labels=jnp.arange(6, dtype=jnp.int32) + 10)
    batch = draw_many(
        Layout(5, (Burst(2), Burst(1)), scheme="flip"), source.replace(mixture_logits=jnp.zeros(2))
    )
    raw = batch.classes + 10
    theirs = np.where(batch.kinds == Kind.DISTRACTOR, raw, -1).max(1, keepdims=True)
    mine = raw[:, -1:]
    expected = np.select(
        [batch.kinds == Kind.OTHER, batch.kinds == Kind.DISTRACTOR],
        [raw, np.broadcast_to(mine, raw.shape)],
        np.broadcast_to(theirs, raw.shape),
    )
    assert np.array_equal(batch.labels, expected)


def test_reverse_pairs_never_permutes():
    batch = draw_many(Layout(reverse_pairs=True))
    other = np.where(batch.kinds[:, 0] == Kind.BURSTY, batch.labels[:, 1], batch.labels[:, 0])
    pairs = set(zip(other.tolist(), batch.labels[:, 2].tolist(), strict=True))
    assert pairs == {(0, 1), (1, 2), (0, 4)}


def test_random_query_label_is_on_one_uniform_context_item():
    burst = Burst(0, no_support=True)
    layout = Layout(4, (burst,), scheme="none", random_query_label=True)
    batch = draw_many(layout)
    assert np.array_equal(batch.labels[:, 4], batch.classes[:, 4])
    carries = batch.labels[:, :4] == batch.labels[:, 4:]
    assert np.all(carries.sum(1) == 1)
    assert_frequencies(np.argmax(carries, axis=1), np.ones(4))
    assert np.array_equal(batch.labels[:, :4][~carries], batch.classes[:, :4][~carries])
    # Relabelling comes later and has the last word.
    relabelled = draw_many(Layout(random_query_label=True))
    bursty = relabelled.kinds[:, :2] == Kind.BURSTY
    assert np.array_equal(relabelled.labels[:, :2][bursty], relabelled.labels[:, 2])
    assert relabelled.labels[:, :2][~bursty].max() == 4


def test_noise_is_gaussian_of_each_runs_scale_and_leaves_the_draws_alone():
    source = make_source(exemplars=2, features=8)
    scales = jnp.array([0.0, 0.5, 2.0])
    stacked = jax.vmap(lambda noise: source.replace(noise=noise))(scales)
    layout = Layout(noisy=True)
    batch = jax.jit(
        jax.vmap(lambda s: sample(jax.random.key(0), layout, s, 1024)), compiler_options=FAST
    )(stacked)
    assert batch.rows is None and batch.table.shape == (3, 1024 * 3, 8)
    clean, *noisy = (jax.tree.map(lambda leaf, i=i: leaf[i], batch) for i in range(3))
    assert set(np.unique(clean.examples)) <= set(np.unique(source.table))
    firsts = np.asarray(clean.examples[..., 0]) // 16  # 2 exemplars of 8 features a class
    assert np.array_equal(firsts, clean.classes)
    for scale, run in zip((0.5, 2.0), noisy, strict=True):
        assert_same((run.labels, run.kinds), (clean.labels, clean.kinds))
        noise = np.asarray(run.examples - clean.examples) / scale
        size = noise.size
        assert abs(noise.mean()) < 5 / np.sqrt(size)
        assert abs(noise.std() - 1) < 5 / np.sqrt(2 * size)
        assert abs(np.mean(noise**4) - 3) < 5 * np.sqrt(96 / size)
        # Every exemplar has noise of its own, the same exemplar twice in a sequence too.
        assert abs(np.corrcoef(noise[:, 0].ravel(), noise[:, 2].ravel())[0, 1]) < 0.05


def test_batch_of_examples_gives_them_back():
    examples = jax.random.normal(jax.random.key(0), (4, 3, 5))
    batch = Batch.of(examples, jnp.zeros((4, 3), jnp.int32))
    assert batch.table.shape == (12, 5) and batch.rows is None
    assert_same(batch.examples, examples)
    drawn = draw_many(source=make_source(exemplars=3))
    again = Batch.of(drawn.examples, drawn.labels)
    assert drawn.examples.shape == (MANY, 3, 3)
    assert np.array_equal(drawn.examples[..., 0], drawn.rows * 3)
    assert_same(again.examples, drawn.examples)


def code(batch):
    """One number for each sequence of classes and labels."""
    both = np.concatenate([batch.classes, batch.labels], axis=1).astype(np.int64)
    return both @ (64 ** np.arange(6, dtype=np.int64))


def test_exhaustive_is_every_sequence_once():
    pairs = split_label_pairs(5)["train"]
    padded = np.concatenate([pairs, np.full((3, 2), 63)])
    source = make_source(50, pairs=padded, pair_count=jnp.int32(8))
    batch = jax.tree.map(np.asarray, exhaustive(source))
    codes = code(batch)
    assert len(codes) == 78_400 == len(np.unique(codes))
    bursty = batch.kinds[:, :2] == Kind.BURSTY
    assert np.array_equal(bursty, batch.classes[:, :2] == batch.classes[:, 2:])
    assert np.array_equal(batch.labels[:, :2][bursty], batch.labels[:, 2])
    assert np.all(bursty.sum(1) == 1) and np.all(batch.kinds[:, 2] == Kind.QUERY)
    assert np.array_equal(batch.examples[:, :, 0], batch.classes * 3)
    drawn = draw_many(source=source)
    assert np.all(np.isin(code(drawn), codes))
    some = exhaustive(source.replace(class_logits=source.class_logits.at[5:].set(-jnp.inf)))
    assert len(some.labels) == 5 * 4 * 16 * 2 and some.classes.max() == 4
    with pytest.raises(ValueError, match="2 exemplars"):
        exhaustive(make_source(exemplars=2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(Layout, pairs=0), "0 pairs"),
        (partial(Layout, mixture=()), "0 Bursts"),
        (partial(Layout, mixture=(Burst(2),)), "does not fit"),
        (partial(Layout, mixture=(Burst(-1),)), "does not fit"),
        (partial(Layout, scheme="flop"), "'flop'"),
        (partial(Layout, scheme="flip", mixture=(Burst(0),)), "no distractor"),
        (partial(Layout, scheme="none", reverse_pairs=True), "reverse_pairs"),
        (partial(draw_many, Layout(), make_source(1)), "needs 2 classes"),
        (
            partial(draw_many, Layout(6, (Burst(1, unique_rest=True),)), make_source(5)),
            "needs 6 classes",
        ),
        (
            partial(draw_many, Layout(), make_source(mixture_logits=jnp.zeros(2))),
            "1 mixture weights",
        ),
    ],
)
def test_mistakes_are_one_clear_line(make, message):
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert "\n" not in str(error.value)
