"""Measures of language models: heads, probes, losses by position, trajectories, references."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import language_networks as by_hand
import numpy as np
import pytest
from networks import look, network
from small_languages import VOCABULARY, language, losses_of, measured, sequences

from ih_jax import platforms
from ih_jax.claims import phase_change as changes
from ih_jax.clamps import kinds as c
from ih_jax.data.languages.synthetic import Markov
from ih_jax.errors import UserError
from ih_jax.measures import circuits, context, heads, probes


def random_patterns(B: int = 3, H: int = 4, T: int = 12, seed: int = 0):
    scores = np.random.default_rng(seed).normal(size=(B, H, T, T)) * 2
    weights = np.exp(scores) * np.tril(np.ones((T, T)))
    return weights / weights.sum(-1, keepdims=True)


def loop_over_matches(pattern, tokens, begin, shift):
    """[H], of one shift: sums over pairs, written again."""
    B, H, T, _ = pattern.shape
    found = np.zeros(H)
    for h in range(H):
        for b in range(B):
            for i in range(begin, T):
                for j in range(i):
                    if tokens[b, j] == tokens[b, i] and 0 <= j + shift <= i:
                        found[h] += pattern[b, h, i, j + shift]
    return found / (B * (T - begin))


def loop_over_copies(z, pattern, W_O, W_U, tokens):
    """The ratio [H] and the signed logits [H], by whole vocabularies."""
    B, T, H, _ = z.shape
    ratios, signed = np.zeros((H, B, T)), np.zeros((H, B, T))
    for h in range(H):
        for b in range(B):
            sample = sorted(set(tokens[b].tolist()))
            for t in range(T):
                logits = W_U @ (z[b, t, h] @ W_O[h])
                logits -= logits.mean()
                raised = np.maximum(logits, 0)
                a = sum(pattern[b, h, t, s] * raised[tokens[b, s]] for s in range(T))
                total = sum(raised[v] for v in sample)
                ratios[h, b, t] = a / (a + total) if a + total > 0 else 0
                here = sum(pattern[b, h, t, s] * logits[tokens[b, s]] for s in range(T))
                signed[h, b, t] = here - np.mean([logits[v] for v in sample])
    return ratios.mean((1, 2)), signed.mean((1, 2))


# --- functions of patterns ----------------------------------------------------------------------


def test_attention_to_the_previous_token_and_by_offset_agree_with_loops() -> None:
    pattern = random_patterns()
    each = [
        [
            np.mean([pattern[b, h, i, i - o] for b in range(3) for i in range(o, 12)])
            for o in range(12)
        ]
        for h in range(4)
    ]
    found = heads.attention_by_offset(jnp.asarray(pattern), 12)
    np.testing.assert_allclose(found, each, rtol=1e-5)
    previous = heads.previous_token_attention(jnp.asarray(pattern))
    np.testing.assert_allclose(previous, np.asarray(each)[:, 1], rtol=1e-5)
    with pytest.raises(UserError, match="13 offsets in sequences of 12"):
        heads.attention_by_offset(jnp.asarray(pattern), 13)


@pytest.mark.parametrize("begin", [0, 5])
def test_attention_after_a_match_agrees_with_loops(begin: int) -> None:
    pattern = random_patterns()
    tokens = np.random.default_rng(1).integers(0, 4, (3, 12))
    shifts = (-2, -1, 0, 1, 2, 7, 11)
    found = heads.attention_after_match(jnp.asarray(pattern), jnp.asarray(tokens), begin, shifts)
    expected = [loop_over_matches(pattern, tokens, begin, shift) for shift in shifts]
    np.testing.assert_allclose(found, np.transpose(expected), rtol=1e-4, atol=1e-7)
    prefix = heads.prefix_matching_attention(jnp.asarray(pattern), jnp.asarray(tokens), begin)
    np.testing.assert_allclose(prefix, expected[3], rtol=1e-5)
    with pytest.raises(UserError, match="begin is 12"):
        heads.prefix_matching_attention(jnp.asarray(pattern), jnp.asarray(tokens), 12)


def test_a_head_that_matches_several_tokens_back_shows_at_its_own_shift() -> None:
    """The trap of experiments.md, B3: it copies long spans, and has no prefix matching."""
    block, T = 9, 28
    probe = probes.repeated_tokens(12, T, block, times=3, sequences=2)
    to = np.clip(np.arange(T) - block + 6, 0, np.arange(T))
    pattern = jnp.asarray(np.broadcast_to(np.eye(T)[to], (2, 1, T, T)))
    found = heads.attention_after_match(pattern, probe.tokens, 1 + block)[0]
    by_shift = dict(zip(heads.SHIFTS, np.asarray(found), strict=True))
    assert by_shift[6] == 1
    assert by_shift[1] == 0


@pytest.mark.parametrize("kinds", [4, 30])
def test_copying_agrees_with_loops_over_the_whole_vocabulary(kinds: int) -> None:
    rng = np.random.default_rng(2)
    z, W_O, W_U = (rng.normal(size=s) for s in ((3, 12, 4, 5), (4, 5, 9), (30, 9)))
    tokens = rng.integers(0, kinds, (3, 12))  # of 4, most stand twice or more
    given = (z, random_patterns(), W_O, W_U, tokens)
    ratio, signed = loop_over_copies(*given)
    arrays = tuple(jnp.asarray(x) for x in given)
    np.testing.assert_allclose(heads.copying_ratio(*arrays), ratio, rtol=1e-4)
    np.testing.assert_allclose(heads.copying_logits(*arrays), signed, rtol=1e-3, atol=1e-5)


def test_copying_of_heads_that_are_known() -> None:
    """One-hot tokens, so that a head's output is what it attends to; 25 of 100, once each."""
    V, T = 100, 25
    tokens = np.asarray(probes.random_tokens(V + 1, T, sequences=4).tokens)
    one_hot = np.eye(V)[tokens]
    causal = np.tril(np.ones((T, T)))
    sharp, even = np.eye(T), causal / causal.sum(-1, keepdims=True)
    pattern = np.stack([sharp, even, sharp, even, sharp])
    z = np.einsum("hts,bsv->bthv", pattern, one_hot)
    sign = np.array([1, 1, -1, -1, 0])
    W_O = sign[:, None, None] * np.eye(V)[None]
    given = (z, np.broadcast_to(pattern, (4, 5, T, T)), W_O, np.eye(V), tokens)
    arrays = tuple(jnp.asarray(x, jnp.float32) for x in given[:-1])
    scores = 4 * np.asarray(heads.copying_ratio(*arrays, jnp.asarray(tokens))) - 1
    logits = np.asarray(heads.copying_logits(*arrays, jnp.asarray(tokens)))
    np.testing.assert_allclose(scores[0], 1, atol=1e-4)
    spread = np.mean([4 / (n + 1) - 1 for n in range(1, T + 1)])
    np.testing.assert_allclose(scores[1], spread, atol=0.02)
    np.testing.assert_allclose(scores[4], -1)  # it raises nothing
    assert logits[0] > logits[1] > 0.05
    np.testing.assert_allclose(logits[2:4], -logits[:2], rtol=1e-4)
    np.testing.assert_allclose(logits[4], 0, atol=1e-6)
    assert (scores[2:4] < -0.9).all()


def test_random_heads_score_low_by_the_ratio_and_about_0_by_signed_logits() -> None:
    rng = np.random.default_rng(3)
    z, W_O, W_U = (rng.normal(size=s) for s in ((10, 25, 8, 16), (8, 16, 64), (1000, 64)))
    tokens = np.asarray(probes.random_tokens(1001, 25).tokens)
    given = (z, random_patterns(10, 8, 25), W_O, W_U, tokens)
    arrays = tuple(jnp.asarray(x) for x in given)
    scores = 4 * np.asarray(heads.copying_ratio(*arrays)) - 1
    logits = np.asarray(heads.copying_logits(*arrays))
    assert ((scores > -0.9) & (scores < -0.7)).all()
    assert np.abs(logits).max() < 0.1 * np.sqrt(16 * 64)  # of a logit's standard deviation


# --- measures of heads --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [{"norm": False, "layers": 3}, {"positions": "rope", "smeared_keys": True, "mlp_ratio": 2.0}],
    ids=["plain", "whole"],
)
def test_measures_of_heads_agree_with_loops_over_patterns(settings: dict[str, Any]) -> None:
    params, batch = network(language(**settings)), sequences(length=14)
    pattern = look(params, batch).pattern
    L, H = len(pattern), pattern[0].shape[1]
    found = measured(heads.previous_token_score, params, batch)
    expected = [
        [np.mean([each[b, h, i, i - 1] for b in range(5) for i in range(1, 14)]) for h in range(H)]
        for each in pattern
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    by_offset = measured(heads.offsets(3), params, batch)
    assert by_offset.shape == (L, H, 3)
    np.testing.assert_allclose(by_offset[..., 1], found, rtol=1e-5)

    probe = probes.repeated_tokens(VOCABULARY, 14, seed=4)
    assert probe.tokens.shape == (10, 13)  # 3 tokens 4 times
    seen = look(params, probe).pattern
    matching = measured(heads.prefix_matching(seed=4), params, batch)
    expected = [loop_over_matches(each, np.asarray(probe.tokens), 4, 1) for each in seen]
    np.testing.assert_allclose(matching, expected, rtol=1e-4)
    shifts = measured(heads.match_shifts((0, 1, -1), seed=4), params, batch)
    np.testing.assert_allclose(shifts[..., 1], matching, rtol=1e-5)

    sample = probes.random_tokens(VOCABULARY, 14, seed=5)
    sites = look(params, sample)
    copying = measured(heads.copying(seed=5), params, batch)
    for layer, block in enumerate(params.blocks):
        given = (sites.z[layer], sites.pattern[layer], np.asarray(block.attention.W_O), params.W_U)
        ratio, signed = loop_over_copies(*given, np.asarray(sample.tokens))
        np.testing.assert_allclose(copying["score"][layer], 4 * ratio - 1, atol=1e-4)
        np.testing.assert_allclose(copying["logits"][layer], signed, rtol=1e-3, atol=1e-4)


def test_measures_of_heads_see_the_clamp() -> None:
    params, batch = network(language()), sequences(length=25)
    clamp = c.previous_token(0, 1) & c.induction(1, 2) & c.ablate(1, 3)
    previous = measured(heads.previous_token_score, params, batch, clamp)
    np.testing.assert_allclose(previous[0, 1], 1, atol=1e-6)
    assert np.delete(previous.ravel(), 1).max() < 0.9
    matching = measured(heads.prefix_matching(), params, batch, clamp)
    np.testing.assert_allclose(matching[1, 2], 1, atol=1e-6)
    assert np.delete(matching.ravel(), 6).max() < 0.9
    copying = measured(heads.copying(), params, batch, clamp)
    assert copying["score"][1, 3] == -1
    assert copying["logits"][1, 3] == 0


def test_the_circuit_set_by_hand_has_its_two_heads() -> None:
    params = by_hand.circuit()
    batch = sequences(20, by_hand.POSITIONS, by_hand.TOKENS)
    previous = measured(heads.previous_token_score, params, batch)
    matching = measured(heads.prefix_matching(), params, batch)
    copying = measured(heads.copying(), params, batch)
    uniform = np.mean([1 / (i + 1) for i in range(1, by_hand.POSITIONS)])
    np.testing.assert_allclose(previous, [[1, uniform], [previous[1, 0], uniform]], atol=1e-3)
    assert matching[1, 0] >= 0.95
    assert np.delete(matching.ravel(), 2).max() < 0.1
    assert copying["score"][1, 0] > 0.95
    assert copying["logits"][1, 0] > 5
    assert np.delete(copying["score"].ravel(), 2).max() == -1  # none of them raises a token

    copies = measured(circuits.ov_copying, params, batch)
    np.testing.assert_allclose(copies, [[0, 0], [1, 0]], atol=1e-4)
    composition = measured(circuits.qkv_composition, params, batch)
    assert composition["K"][0, 0, 1, 0] > 0.1
    assert composition["Q"][0, 0, 1, 0] < 0 > composition["V"][0, 0, 1, 0]
    trace = measured(circuits.matching_trace, params, batch)
    assert trace["trace"][1, 0] > 1000
    np.testing.assert_allclose(trace["cosine"], [[0, 0], [1, 0]], atol=0.01)

    losses = measured(context.loss_by_token, params, probes.repeated_tokens(11, 41))
    assert losses[:11].min() > 1  # the first block, and what follows it, is news
    assert losses[11:].max() < 0.01


def test_the_same_weights_in_random_order_are_no_circuit() -> None:
    batch = sequences(20, by_hand.POSITIONS, by_hand.TOKENS)
    params = by_hand.shuffled(by_hand.circuit())
    matching = measured(heads.prefix_matching(), params, batch)
    # Uniform attention: of i + 1 positions, those after 1, 2 or 3 earlier occurrences.
    null = np.mean([(i - 1) // 10 / (i + 1) for i in range(11, 41)])
    np.testing.assert_allclose(matching, null, atol=0.05)
    assert measured(heads.previous_token_score, params, batch).max() < 0.3
    assert measured(heads.copying(), params, batch)["score"].max() < 0
    assert np.abs(measured(circuits.matching_trace, params, batch)["cosine"]).max() < 0.3
    scores = measured(circuits.qkv_composition, params, batch)
    # NaN: products of matrices that are mostly zeros may well be zero.
    assert all(np.nan_to_num(each).max() < 0.05 for each in scores.values())


# --- probes -------------------------------------------------------------------------------------


def test_probes_of_random_tokens_are_what_they_say() -> None:
    many = probes.repeated_tokens(65, 128, exclude=(0, 1, 63))
    rows = np.asarray(many.tokens)
    assert rows.shape == (10, 101)
    assert (rows[:, 0] == 64).all()
    blocks = rows[:, 1:].reshape(10, 4, 25)
    assert (blocks == blocks[:, :1]).all()
    assert all(len(set(row)) == 25 for row in blocks[:, 0].tolist())
    assert not set(blocks.ravel().tolist()) & {0, 1, 63, 64}
    assert len(np.unique(blocks[:, 0], axis=0)) == 10
    np.testing.assert_array_equal(rows, probes.repeated_tokens(65, 128, exclude=(0, 1, 63)).tokens)
    assert (rows != probes.repeated_tokens(65, 128, exclude=(0, 1, 63), seed=1).tokens).any()
    assert probes.repeated_tokens(33, 64).tokens.shape == (10, 61)  # the context is too short
    assert probes.repeated_tokens(4, 101).tokens.shape == (10, 13)  # 3 tokens are all
    single = np.asarray(probes.random_tokens(33, 64, sequences=3).tokens)
    assert single.shape == (3, 25)
    assert single.max() < 32


def test_probes_that_cannot_be_made_are_refused() -> None:
    with pytest.raises(UserError, match="20 distinct tokens: there are 16"):
        probes.repeated_tokens(17, 128, block=20)
    with pytest.raises(UserError, match="room for 15"):
        probes.repeated_tokens(65, 64, block=20)
    with pytest.raises(UserError, match="times is 1"):
        probes.repeated_tokens(65, 64, times=1)
    with pytest.raises(UserError, match="there are 0"):
        probes.random_tokens(3, 64, exclude=(0, 1))


# --- losses by position -------------------------------------------------------------------------


@pytest.mark.parametrize("at_once", [10_000, 24])
def test_losses_by_token_are_those_of_the_forward_pass(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # All sequences, or two, at a time.
    cpu = dataclasses.replace(platforms.CPU, probe_tokens=at_once)
    monkeypatch.setitem(platforms.PLATFORMS, "cpu", cpu)
    params, batch = network(language()), sequences(6)
    expected = losses_of(params, batch)
    found = measured(context.loss_by_token, params, batch)
    np.testing.assert_allclose(found, expected.mean(1), rtol=1e-5)
    at = context.random_positions(6, 12)
    vector = measured(context.per_token_losses(at), params, batch)
    np.testing.assert_allclose(vector, expected[at - 1, np.arange(6)], rtol=1e-5)
    held = c.ablate(0, range(4))
    vector = measured(context.per_token_losses(at), params, batch, held)
    expected = losses_of(params, batch, held.arrays(params.config))
    np.testing.assert_allclose(vector, expected[at - 1, np.arange(6)], rtol=1e-5)


def test_positions_are_checked_and_drawn_from_all() -> None:
    drawn = context.random_positions(10_000, 12)
    assert sorted(set(drawn.tolist())) == list(range(1, 12))
    np.testing.assert_allclose(np.bincount(drawn)[1:], 10_000 / 11, rtol=0.15)
    params, batch = network(language()), sequences(6)
    for wrong in (np.ones(5), np.zeros(6), np.full(6, 12)):
        with pytest.raises(UserError, match="give one per sequence, 1 to 11"):
            measured(context.per_token_losses(wrong), params, batch)


def test_in_context_scores_are_late_losses_less_early_ones() -> None:
    losses = np.random.default_rng(0).normal(size=(3, 2, 63))
    found = context.in_context_scores(losses, [(10, 63), (1, 4)])
    expected = losses[..., 59:63].mean(-1) - losses[..., 9:13].mean(-1)
    np.testing.assert_allclose(found[..., 0], expected)
    np.testing.assert_allclose(found[..., 1], 0, atol=1e-12)
    one = context.in_context_scores(losses, [(50, 60)], window=1)
    np.testing.assert_allclose(one[..., 0], losses[..., 59] - losses[..., 49])
    with pytest.raises(UserError, match="early 61"):
        context.in_context_scores(losses, [(61, 63)])


def test_derivatives_of_curves_that_are_straight_in_the_logarithm() -> None:
    index = np.arange(1, 64)
    losses = np.array([[2.0], [3.0]]) - np.array([[0.2], [-0.1]]) * np.log(index)
    found = changes.derivative_by_log_index(losses)
    np.testing.assert_allclose(found, np.broadcast_to([[-0.2], [0.1]], (2, 63)))
    noisy = losses + 0.05 * np.random.default_rng(0).normal(size=(2, 63))
    assert np.abs(changes.derivative_by_log_index(noisy) - found)[:, 20:].max() < 0.4
    tokens = np.array([0, 1e5, 2e5, 5e5, 2e6])
    loss = 9 - 0.7 * np.log(np.maximum(tokens, 1))
    slope = changes.derivative_by_log_tokens(loss, tokens)
    assert np.isnan(slope[0])
    np.testing.assert_allclose(slope[1:], -0.7)
    assert changes.derivative_by_log_tokens(np.stack([loss, loss]), tokens).shape == (2, 5)


# --- trajectories -------------------------------------------------------------------------------


def test_principal_components_find_a_plane_that_vectors_lie_in() -> None:
    rng = np.random.default_rng(0)
    plane = np.linalg.qr(rng.normal(size=(50, 2)))[0].T
    spread = rng.normal(size=(30, 2)) * [5, 1]
    noise = 1e-3 * rng.normal(size=(30, 50))
    found = changes.principal_components(7 + spread @ plane + noise)
    assert found.explained[0] > 0.9
    np.testing.assert_allclose(found.explained.sum(), 1, atol=1e-4)
    np.testing.assert_allclose(found.directions @ found.directions.T, np.eye(2), atol=1e-9)
    # Distances within the plane are kept.
    centred = spread - spread.mean(0)
    np.testing.assert_allclose(
        found.coordinates @ found.coordinates.T, centred @ centred.T, atol=0.1
    )
    np.testing.assert_allclose(found.mean, (7 + spread @ plane).mean(0), atol=1e-2)
    assert (found.directions.max(1) == np.abs(found.directions).max(1)).all()
    with pytest.raises(UserError, match="not finite"):
        changes.principal_components([[1.0, np.nan], [0, 0]])


@pytest.mark.parametrize("angle", [0, 30, 90, 150, 180])
def test_the_turning_angle_is_that_of_two_straight_lines(angle: float) -> None:
    t = np.linspace(0, 1, 20)[:, None]
    after = [np.cos(np.radians(angle)), np.sin(np.radians(angle))]
    path = np.concatenate([t * [1, 0], [1, 0] + t[1:] * after]) * 3 + 4
    tokens = np.arange(39) * 100.0
    window = changes.Window(1900, 2100, 2000, -0.5, 0.8, 0.05)  # from the corner on
    found = changes.turning_angle(path, tokens, window)
    np.testing.assert_allclose(found, angle, atol=0.1)
    # It stops where it could have turned; or it never moved.
    rng = np.random.default_rng(0)
    stops = np.concatenate([path[:20], path[19] + 0.01 * rng.normal(size=(19, 2))])
    for still in (stops, 0 * path):
        assert np.isnan(changes.turning_angle(still, tokens, window))


# --- references ---------------------------------------------------------------------------------


def test_references_of_markov_chains_agree_with_counting_by_hand() -> None:
    # BOS, then 0 0 1 0 of two states.
    found = context.markov_references([[2, 0, 0, 1, 0]], 2)
    np.testing.assert_allclose(found["uniform"], np.log(2))
    np.testing.assert_allclose(found["unigram"], -np.log(1 / 2 * 2 / 3 * 1 / 4 * 3 / 5) / 4)
    # After 0: 1/2 for 0, then (1, of 2 + 1) for 1; after 1: 1/2.
    np.testing.assert_allclose(found["bigram"], -np.log(1 / 2 * 1 / 2 * 1 / 3 * 1 / 2) / 4)
    with pytest.raises(UserError, match="give 0 to 1"):
        context.markov_references([[0, 0, 2]], 2)


def test_counted_bigrams_are_the_best_prediction_of_markov_chains() -> None:
    recipe = Markov(tokens=3, length=101)
    tokens = recipe.sample(jax.random.key(0), recipe.source(), 500).tokens
    found = context.markov_references(tokens, 3)
    assert found["bigram"] < found["unigram"] - 0.02 < found["uniform"] - 0.05
    other = np.asarray(tokens)[:, 1:]
    rows, total = np.full((500, 3, 3), 0.5), 0.0  # Bayes for another prior
    for t in range(1, 100):
        row = rows[np.arange(500), other[:, t - 1]]
        total -= np.log(row[np.arange(500), other[:, t]] / row.sum(1)).mean()
        rows[np.arange(500), other[:, t - 1], other[:, t]] += 1
    assert found["bigram"] < (total + np.log(3)) / 100
