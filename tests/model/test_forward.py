"""The forward pass: positions, smeared keys, layouts, rows, finished passes and time."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import look, network, sequences, small

from ih_jax.clamps import kinds as c
from ih_jax.clamps.apply import apply, forward
from ih_jax.clamps.clamp import Clamp
from ih_jax.clamps.holds import Holds
from ih_jax.data.batches import Batch
from ih_jax.errors import UserError
from ih_jax.model.activations import from_public, public
from ih_jax.model.params import Config, init
from ih_jax.model.sites import SITES

POSITIONS = ["rope", "shortformer", "sinusoidal", "learned", "relative"]
LOWER = np.tril_indices(5)


def same(a, b, atol: float = 1e-5) -> None:
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=atol), a, b)


def test_shapes_are_those_of_the_glossary() -> None:
    config = small(mlp_ratio=1.5)
    found = look(network(config), sequences(config, 3))
    shapes = {
        "embed": (3, 5, 16),
        "resid_pre": (3, 5, 16),
        "q_input": (3, 5, 16),
        "k_input": (3, 5, 16),
        "v_input": (3, 5, 16),
        "q": (3, 5, 4, 4),
        "k": (3, 5, 4, 4),
        "v": (3, 5, 4, 4),
        "attn_scores": (3, 4, 5, 5),
        "pattern": (3, 4, 5, 5),
        "z": (3, 5, 4, 4),
        "attn_out": (3, 5, 16),
        "mlp_out": (3, 5, 16),
        "resid_post": (3, 5, 16),
        "logits": (3, 5, 4),
    }
    assert set(shapes) == set(SITES)
    for site, shape in shapes.items():
        value = getattr(found, site)
        layers = (value,) if site in ("embed", "logits") else value
        assert len(layers) == (1 if site in ("embed", "logits") else 2)
        assert all(layer.shape == shape for layer in layers), site


def test_a_stream_is_the_sum_of_what_is_written_and_a_pattern_is_causal() -> None:
    config = small(mlp_ratio=1.5)
    found = look(network(config), sequences(config))
    for layer in range(2):
        written = found.attn_out[layer] + found.mlp_out[layer]
        same(found.resid_post[layer], found.resid_pre[layer] + written)
        pattern = np.asarray(found.pattern[layer])
        assert (np.triu(pattern, k=1) == 0).all()
        same(pattern.sum(-1), np.ones((6, 4, 5)))
        same(found.z[layer], np.einsum("bhqk,bkhe->bqhe", pattern, found.v[layer]))


def test_token_embeddings_have_the_standard_deviation_that_is_asked_for() -> None:
    of_tokens = [
        init(jax.random.key(0), Config(features=0, labels=99, embedding_std=std))
        for std in (None, 0.5)
    ]
    assert abs(float(jnp.std(of_tokens[1].W_E)) - 0.5) < 0.02
    same(of_tokens[1].W_E, 0.5 * 64**0.5 * of_tokens[0].W_E)
    same(of_tokens[1].blocks, of_tokens[0].blocks, 0)
    with pytest.raises(UserError, match=r"embedding_std is 0\.5.*leave it out"):
        small(embedding_std=0.5)


# --- positions ----------------------------------------------------------------------------------


def test_rope_scores_depend_on_how_far_apart_tokens_are_only() -> None:
    config = small(d_model=32)
    q, k = (0.5 * np.random.default_rng(i).normal(size=(1, 4, 8)) for i in (0, 1))
    clamp = c.hold("q", q) & c.hold("k", k)
    scores = look(network(config), sequences(config, 2), clamp.arrays(config)).attn_scores[0]
    scores = np.asarray(scores)
    for apart in range(5):
        along = np.diagonal(scores, -apart, axis1=-2, axis2=-1)
        same(along, np.broadcast_to(along[..., :1], along.shape))
    assert np.ptp(scores[0, :, -1], axis=-1).min() > 1e-3
    # Nobody turns a token against itself; further apart, pair i turns by distance / base ** (2i/E).
    distance = 3
    angle = distance * config.position_base ** (-np.arange(4) / 4.0)
    a, b = (x[0].reshape(4, 4, 2) for x in (q, k))
    a, b = a[..., 0] + 1j * a[..., 1], b[..., 0] + 1j * b[..., 1]
    expected = (a * np.conj(b) * np.exp(1j * angle)).real.sum(-1) / 8**0.5
    same(scores[0, :, 4, 1], expected)
    same(scores[0, :, 2, 2], (a * np.conj(b)).real.sum(-1) / 8**0.5)


@pytest.mark.parametrize("positions", POSITIONS)
def test_where_positions_enter(positions: str) -> None:
    """The same exemplar twice: only what a scheme touches may tell the two apart."""
    config = small(positions=positions, layers=1)
    params = network(config)
    examples = np.random.default_rng(0).normal(size=(1, 3, 6))
    examples[:, 1] = examples[:, 0]
    batch = Batch.of(jnp.asarray(examples, jnp.float32), jnp.asarray([[0, 1, 0]]))
    found = look(params, batch)
    added = np.asarray(found.resid_pre[0] - found.embed)[0]  # [T, D]

    def tells_apart(site: str) -> bool:
        value = np.asarray(getattr(found, site)[0])
        return bool(np.abs(value[:, 0] - value[:, 2]).max() > 1e-3)

    assert not np.abs(found.embed[:, 0] - found.embed[:, 2]).max() > 1e-6
    in_stream = positions in ("sinusoidal", "learned")
    assert tells_apart("v") == in_stream
    assert tells_apart("q") == tells_apart("k") == (positions not in ("rope", "relative"))
    if positions == "learned":
        same(added, params.W_pos[:5])
    elif positions == "sinusoidal":
        d = np.arange(16)
        angle = np.arange(5)[:, None] / 10_000 ** (2 * (d // 2) / 16)
        same(added, np.where(d % 2 == 0, np.sin(angle), np.cos(angle)))
    else:
        assert not added.any()
    if positions == "shortformer":  # what the table adds passes by the norm
        W_K = np.asarray(params.blocks[0].attention.W_K)
        expected = np.einsum("d,hde->he", params.W_pos[2] - params.W_pos[0], W_K)
        same(found.k[0][0, 2] - found.k[0][0, 0], expected)


def test_relative_positions_add_a_number_for_each_head_and_distance() -> None:
    config = small(positions="relative", max_positions=7)
    params = network(config)
    batch = sequences(config, 2)

    def scores(numbers: np.ndarray) -> np.ndarray:
        attention = dataclasses.replace(params.blocks[0].attention, distances=numbers)
        block = dataclasses.replace(params.blocks[0], attention=attention)
        changed = dataclasses.replace(params, blocks=(block, *params.blocks[1:]))
        return np.asarray(look(changed, batch).attn_scores[0])  # [B, H, T, T]

    numbers = np.random.default_rng(1).normal(size=(4, 7)).astype(np.float32)
    added = scores(numbers) - scores(np.zeros_like(numbers))
    for query in range(5):
        for key in range(query + 1):
            same(added[:, :, query, key], np.tile(8 * numbers[:, query - key], (2, 1)), 1e-4)


@pytest.mark.parametrize("positions", ["learned", "relative"])
def test_sequences_longer_than_the_table_of_positions_are_refused(positions: str) -> None:
    config = small(positions=positions, max_positions=4)
    with pytest.raises(UserError, match=r"5 tokens.* positions for 4.*max_positions"):
        look(network(config), sequences(config))


@pytest.mark.parametrize("positions", ["rope", "learned"])
def test_smeared_keys_mix_each_key_with_the_one_before_it(positions: str) -> None:
    config = small(positions=positions, smeared_keys=True, layers=1)
    params = network(config)
    found = look(params, sequences(config, 2))
    share = 1 / (1 + np.exp(-np.asarray(params.blocks[0].attention.smear)))[None, None, :, None]
    assert np.ptp(share) > 0.05
    q, k = np.asarray(found.q[0]), np.asarray(found.k[0])
    mixed = k.copy()
    mixed[:, 1:] = share * k[:, 1:] + (1 - share) * k[:, :-1]
    if positions == "rope":  # smearing comes first
        t = np.arange(5)[None, :, None, None]
        turn = np.exp(1j * t * 10_000.0 ** (-np.arange(2) / 2.0)[None, None, None])
        q, mixed = ((x[..., ::2] + 1j * x[..., 1::2]) * turn for x in (q, mixed))
    expected = np.einsum("bqhe,bkhe->bhqk", q, np.conj(mixed)).real / 2
    same(np.asarray(found.attn_scores[0])[..., *LOWER], expected[..., *LOWER])
    plain = dataclasses.replace(
        params,
        blocks=(
            dataclasses.replace(
                params.blocks[0],
                attention=dataclasses.replace(params.blocks[0].attention, smear=None),
            ),
        ),
    )
    other = look(plain, sequences(config, 2)).attn_scores[0]
    assert np.abs(np.asarray(other - found.attn_scores[0])[..., *LOWER]).max() > 1e-2


# --- shapes of networks and labels --------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        small(layers=1, d_model=15, heads=3, positions="learned"),
        small(layers=1, d_model=1, heads=1, positions="sinusoidal", norm=False),
        small(layers=3, d_model=6, heads=1, mlp_ratio=0.5),
    ],
    ids=["width 15", "width 1", "3 layers"],
)
@pytest.mark.parametrize("pairs", [1, 3])
def test_odd_shapes(config: Config, pairs: int) -> None:
    params, batch = network(config), sequences(config, 2, pairs)
    clamp = (c.previous_token(0, 0) & c.hold("q", 0.5, gate=0.5)).arrays(config)
    whole, query = (look(params, batch, clamp, rows=rows) for rows in ("all", "query"))
    assert np.isfinite(whole.logits).all()
    same(whole.logits[:, -1:], query.logits)
    assert query.logits.shape == (2, 1, 4)


def test_labels_beyond_the_models_embed_as_zero() -> None:
    config = small()
    params, batch = network(config), sequences(config, 2)
    labels = jnp.asarray([[9, 3, 9], [-1, 4, 4]])
    found = look(params, dataclasses.replace(batch, labels=labels))
    embed = np.asarray(found.embed)
    assert not embed[0, 1].any()
    assert not embed[1, 1].any()
    assert not embed[1, 3].any()
    same(embed[0, 3], params.W_L[:, 3])


@pytest.mark.parametrize("padded", ["classes", "labels"])
def test_many_distinct_tokens_give_the_same_as_few(padded: str) -> None:
    """Past ONE_HOT_UP_TO tokens are gathered; before, laid out by a matrix product.

    So do their gradients, which are zero for what does not occur. Labels beyond the model's, and
    rows that occur more than once, are among them.
    """
    config = small()
    params, few = network(config), sequences(config, 4)
    rows = jnp.asarray([[0, 1, 2], [2, 1, 0], [5, 5, 5], [0, 7, 0]])
    labels = jnp.asarray(few.labels).at[0, 0].set(10_000)
    few = dataclasses.replace(few, rows=rows, labels=labels)
    wide, many = params, few
    if padded == "classes":
        more = jnp.concatenate([few.table, jnp.ones((600, 6))])
        many = dataclasses.replace(few, table=more)
    else:
        wide = dataclasses.replace(
            params,
            W_L=jnp.pad(params.W_L, ((0, 0), (0, 600)), constant_values=1.0),
            config=dataclasses.replace(config, labels=config.labels + 600),
        )

    def of_patterns(weights, batch):
        return jnp.sum(apply(weights, batch).pattern[1] ** 2)

    both = jax.jit(jax.value_and_grad(of_patterns))
    (value, slopes), (value_of_many, slopes_of_many) = both(params, few), both(wide, many)
    same(value, value_of_many)
    for name in ("W_E", "b_E"):
        same(getattr(slopes, name), getattr(slopes_of_many, name))
    same(slopes.W_L, slopes_of_many.W_L[:, : config.labels])
    assert not slopes_of_many.W_L[:, config.labels :].any()


# --- rows, finished passes, time ----------------------------------------------------------------


def test_layouts_convert_back_and_forth() -> None:
    for config in (small(mlp_ratio=1.0), small(positions="learned")):
        for rows in ("all", "query"):

            def both(params, rows=rows, config=config):
                sites = forward(params, sequences(config, 2), Holds(), rows)
                return sites, from_public(public(sites), config)

            jax.tree.map(np.testing.assert_array_equal, *jax.jit(both)(network(config)))


def test_a_given_pass_is_the_one_that_holds_read() -> None:
    config = small()
    params, batch = network(config), sequences(config)
    clamp = (c.preserve("patterns") & c.ablate(0, [0, 1])).arrays(config)
    clean = look(params, batch)
    mine = look(params, batch, clamp)
    same(mine, look(params, batch, clamp, given=clean))
    same(mine.pattern[1], clean.pattern[1])
    other = look(params, batch, c.previous_token(1, 2).arrays(config))
    found = look(params, batch, clamp, given=other)
    same(found.pattern[1], other.pattern[1])
    assert np.abs(found.logits - mine.logits).max() > 1e-3
    same(look(params, batch, clamp, rows="query", given=clean).logits, mine.logits[:, -1:])
    short = look(params, batch, rows="query")
    with pytest.raises(UserError, match="needs all rows of the given pass"):
        look(params, batch, clamp, given=short)


def test_a_clamp_may_be_a_recipe_or_arrays_or_nothing() -> None:
    config = small()
    params, batch = network(config), sequences(config)
    clamp = c.ablate(0, 1)
    same(
        jax.jit(lambda p: apply(p, batch, clamp))(params), look(params, batch, clamp.arrays(config))
    )
    same(look(params, batch), look(params, batch, Clamp().arrays(config)))
    with pytest.raises(UserError, match="rows is 'last'"):
        apply(params, batch, rows="last")


def test_a_pulse_holds_from_its_start_up_to_its_stop() -> None:
    config = small()
    params, batch = network(config), sequences(config)
    on = look(params, batch, c.ablate(1, 2).arrays(config)).logits
    off = look(params, batch).logits
    assert np.abs(on - off).max() > 1e-2
    pulse = c.ablate(1, 2).during(10, 20).arrays(config)
    for seen, expected in [(0, off), (9, off), (10, on), (19, on), (20, off)]:
        same(look(params, batch, pulse, seen=float(seen)).logits, expected)


def test_two_pulses_on_one_head_each_have_their_time() -> None:
    config = small()
    params, batch = network(config), sequences(config)
    strong, weak = c.previous_token(0, 1, 1.0), c.previous_token(0, 1, 0.25)
    both = (strong.during(0, 10) & weak.during(20, 30) & c.previous_token(0, 3)).arrays(config)
    assert sorted(hold.slot for hold in both.holds) == [0, 1]
    for seen, share in [(5, 1.0), (15, None), (25, 0.25)]:
        pattern = np.asarray(look(params, batch, both, seen=float(seen)).pattern[0])
        same(pattern[:, 3, 4, 3], np.ones(6))
        if share is None:
            same(pattern[:, 1], look(params, batch).pattern[0][:, 1])
        else:
            same(pattern[:, 1, 4, 3], np.full(6, share))


@pytest.mark.parametrize("pairs", [2, 4])
def test_a_large_batch_in_a_program_of_ones_own_is_the_same(pairs: int) -> None:
    # jaxlib 0.10.2 adds up some fused products wrongly beyond 32,768 tokens (jax-ml/jax#39103).
    config = Config(features=6, labels=5, d_model=8, heads=2)
    params, random = init(jax.random.key(0), config), np.random.default_rng(0)
    count = 33_000 // (2 * pairs - 1) + 1
    exemplars = random.normal(size=(count, pairs, 6)).astype(np.float32)
    batch = Batch.of(jnp.asarray(exemplars), jnp.asarray(random.integers(0, 5, (count, pairs))))

    def logits(batch: Batch) -> jax.Array:
        return apply(params, batch, rows="query").logits

    np.testing.assert_allclose(jax.jit(logits)(batch), logits(batch), atol=1e-5)
