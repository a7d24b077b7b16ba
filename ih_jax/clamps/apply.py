"""The forward pass: every site of every layer, with what a clamp holds put in its place.

Paper: Singh et al. 2024, section 2 (model) and 3 (clamps). Layouts and shapes: see `holds`.

Nothing that is not read is computed: XLA drops the sites that nobody looks at, so returning all of
them costs nothing and there are no hooks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array

from ih_jax.clamps.holds import SITES, Holds, apply_hold, query_axis, to_public
from ih_jax.clamps.rules import Scene
from ih_jax.data.batches import Sequences, Tokens
from ih_jax.errors import UserError
from ih_jax.model.activations import Activations, Sites, from_public, public
from ih_jax.model.attention import causal_attention
from ih_jax.model.params import MLP, Attention, Block, Config, Norm, Params, Rows

__all__ = ["Activations", "Rows", "apply", "forward", "from_public", "public"]

CAUSAL = -1e20  # below any score that a clamp blocks, so that a blocked row stays causal
BROADCAST_UP_TO = 16  # positions; longer sequences are faster through batched matrix products
ONE_HOT_UP_TO = 512  # distinct tokens; beyond, a gather beats a product with one-hot columns

HoldAt = Callable[[str, int, Array], Array]  # (site, layer, value) -> the value after all holds


class Lowers(Protocol):
    """A recipe that a model makes arrays of: `clamp.Clamp`."""

    def arrays(self, config: Config) -> Holds:
        """One run's holds."""
        ...


@struct.dataclass
class Stream:
    """A residual stream [D, T, B]; while it is plain tokens, also the few distinct ones.

    What is linear or per token may be done to the distinct columns [D, V] and then laid out by
    `one_hot` [V, T, B]: in the paper's setting 56 columns stand for 160 tokens.
    """

    value: Array
    columns: Array | None = None
    one_hot: Array | None = None


def apply(
    params: Params,
    batch: Sequences,
    clamp: Lowers | Holds | None = None,
    *,
    rows: Rows = "all",
    given: Activations | None = None,
    seen: Array | float = 0.0,
) -> Activations:
    """Every site of a network under a clamp; jit, vmap and differentiate as you like.

    Args:
        params: the weights of one network.
        batch: B few-shot sequences of T = 2 P - 1 tokens, or for a language model `Tokens`.
        clamp: a `Clamp`, one run's `Holds`, or None: nothing is held.
        rows: "all", or "query": the last layer answers for the query (the last token) only, which
            is faster.
        given: the finished pass that holds such as `preserve` read; None: a clean one, computed
            here if it is needed.
        seen: sequences (language: tokens) seen so far, for clamps with `during`.

    Raises:
        UserError: the clamp or the batch does not fit the model, or `given` has too few rows.
    """
    if clamp is None:
        holds = Holds()
    else:
        holds = clamp if isinstance(clamp, Holds) else clamp.arrays(params.config)
    sites = None if given is None else from_public(given, params.config)
    return public(forward(params, batch, holds.at(seen), rows, sites))


def forward(
    params: Params,
    batch: Sequences,
    holds: Holds,
    rows: Rows = "all",
    given: Sites | None = None,
) -> Sites:
    """All sites in the program's layout (batch last), each a list over layers.

    Args:
        params, batch, rows: as in `apply`. Where a rule needs all rows, "query" computes them all
            and then leaves out the same ones.
        holds: one run's holds, already switched by time (`Holds.at`).
        given: the sites of a clean pass with the same `rows` or "all", for holds that read one;
            computed here where it is needed and not given.
    """
    if rows not in get_args(Rows):
        raise UserError(f"rows is {rows!r}: give one of {', '.join(get_args(Rows))}")
    if rows == "query" and holds.needs_all_rows:
        return _query_only(forward(params, batch, holds, "all", given))
    if holds.replaced is not None:
        gate, donor_params = holds.replaced
        params = jax.tree.map(lambda g, d, p: jnp.where(g > 0, d, p), gate, donor_params, params)
    if holds.needs_given and given is None:
        given = forward(params, batch, Holds(), rows)
    config = params.config
    T = batch.positions
    if params.W_pos is not None and len(params.W_pos) < T:
        raise UserError(
            f"sequences have {T} tokens, the model has positions for {len(params.W_pos)}: "
            "raise Config.max_positions"
        )
    sites: Sites = {site: [] for site in SITES}

    def donor(weights: Params) -> Sites:
        return forward(weights, batch, Holds(), rows)

    def hold(site: str, layer: int, value: Array) -> Array:
        for each in holds.here(site, layer):

            def so_far(value: Array = value) -> tuple[Activations, tuple[int, ...]]:
                activations = public({**sites, site: [*sites[site], value]})
                return activations, to_public(site, value).shape[1:]

            scene = Scene(batch, config, layer, site, value, sites, given, donor, so_far)
            held = each.rule.function(scene, **each.arguments)
            value = apply_hold(each, held, value, T, scene.halves)
        sites[site].append(value)
        return value

    stream = _embed(params, batch)
    stream = _same(stream, hold("embed", 0, stream.value))
    if config.positions in ("sinusoidal", "learned"):
        stream = Stream(stream.value + position_columns(params, T)[..., None])
    for layer, block in enumerate(params.blocks):
        short = rows == "query" and layer == config.layers - 1
        stream = _layer(params, block, layer, stream, hold, T, short)
    x = stream.value
    if rows == "query":
        x = x[:, -1:]
    logits = _linear(params.W_U, _norm(params.norm, x)) + params.b_U[:, None, None]
    hold("logits", 0, logits)
    return sites


def _same(stream: Stream, value: Array) -> Stream:
    """The stream, if no hold changed its value, else a stream of the new value alone."""
    return stream if value is stream.value else Stream(value)


def _embed(params: Params, batch: Sequences) -> Stream:
    """Tokens, or x1 y1 x2 y2 ... xq; a token or label beyond the model's own embeds as zero."""
    D, C = params.config.d_model, params.config.labels
    if isinstance(batch, Tokens) != params.config.language:
        raise UserError(
            f"a batch of {type(batch).__name__} for a model of {C} "
            f"{'tokens' if params.config.language else 'labels'}: give the model's own kind "
            "(Tokens for a language model, Batch for a few-shot one)"
        )
    zero = jnp.zeros((D, 1))
    if isinstance(batch, Tokens):
        known = (batch.tokens >= 0) & (batch.tokens < C)
        columns = jnp.concatenate([params.W_E, zero], axis=1)
        index = jnp.where(known, batch.tokens, C).T  # [T, B]
    else:
        assert params.b_E is not None
        assert params.W_L is not None
        exemplars = _linear(params.W_E, batch.table.T) + params.b_E[:, None]
        columns = jnp.concatenate([exemplars, params.W_L, zero], axis=1)
        V = exemplars.shape[1]
        B, P = batch.labels.shape
        rows = jnp.arange(B * P).reshape(B, P) if batch.rows is None else batch.rows
        labels = V + jnp.where((batch.labels >= 0) & (batch.labels < C), batch.labels, C)
        index = jnp.stack([rows.T, labels.T], axis=1).reshape(2 * P, B)[:-1]  # [T, B]
    if columns.shape[1] > ONE_HOT_UP_TO:
        return Stream(columns[:, index])
    one_hot = (index[None] == jnp.arange(columns.shape[1])[:, None, None]).astype(columns.dtype)
    return Stream(_linear(columns, one_hot), columns, one_hot)


@jax.custom_vjp
def _linear(weight: Array, x: Array) -> Array:
    """weight [K, D] times x [D, ...]."""
    return jnp.tensordot(weight, x, axes=1)


def _linear_forwards(weight: Array, x: Array) -> tuple[Array, tuple[Array, Array]]:
    return _linear(weight, x), (weight, x)


def _linear_backwards(kept: tuple[Array, Array], slope: Array) -> tuple[Array, Array]:
    """As JAX would have it, but without transposed copies of what is as large as x.

    A quarter of a step's time on CPU. The price: no forward-mode derivatives (`jax.jvp`,
    `jax.hessian`); reverse mode twice gives what they would.
    """
    weight, x = kept
    flat = slope.reshape(len(weight), -1)
    return flat @ x.reshape(len(x), -1).T, (weight.T @ flat).reshape(x.shape)


_linear.defvjp(_linear_forwards, _linear_backwards)


def _norm(norm: Norm | None, x: Array) -> Array:
    """Layer norm over the first axis; as it is without one."""
    if norm is None:
        return x
    shape = (-1,) + (1,) * (x.ndim - 1)
    centred = x - x.mean(0, keepdims=True)
    scaled = centred * jax.lax.rsqrt(jnp.mean(centred**2, axis=0, keepdims=True) + 1e-5)
    return scaled * norm.scale.reshape(shape) + norm.bias.reshape(shape)


def position_columns(params: Params, T: int) -> Array:
    """[D, T], what is added to tokens (or to inputs of queries and keys)."""
    config = params.config
    if config.positions != "sinusoidal":
        assert params.W_pos is not None
        return params.W_pos[:T].T
    d = np.arange(config.d_model)
    angle = np.arange(T) / config.position_base ** (2 * (d // 2) / config.d_model)[:, None]
    return jnp.asarray(np.where(d[:, None] % 2 == 0, np.sin(angle), np.cos(angle)), jnp.float32)


def _layer(
    params: Params, block: Block, layer: int, stream: Stream, hold: HoldAt, T: int, short: bool
) -> Stream:
    """One layer: from the stream before it to the stream after it."""
    config = params.config
    stream = _same(stream, hold("resid_pre", layer, stream.value))
    queries = Stream(stream.value[:, -1:]) if short else stream
    q_in = _same(queries, hold("q_input", layer, queries.value))
    k_in = _same(stream, hold("k_input", layer, stream.value))
    v_in = _same(stream, hold("v_input", layer, stream.value))
    q, k, v = _project(config, block, [q_in, k_in, v_in])
    if config.positions == "shortformer":
        W_q, W_k, _ = _matrices(config, block.attention)
        table = position_columns(params, T)
        q = q + (W_q @ table[:, -q.shape[1] :])[..., None]
        k = k + (W_k @ table)[..., None]
    R = 2 if config.positions == "rope" else 1
    paired = (R, config.heads, config.d_head // R)
    q = hold("q", layer, q.reshape(*paired, *q.shape[1:]))
    k = hold("k", layer, k.reshape(*paired, *k.shape[1:]))
    v = hold("v", layer, v.reshape(config.heads, config.d_head, *v.shape[1:]))
    q, k = _rope(config, q, T), _rope(config, _smear(block.attention, k), T)
    causal = np.tril(np.ones((T, T), bool))[None, -q.shape[3] :, :, None]
    learned = jnp.where(causal, _scores(q, k) * config.d_head**-0.5, CAUSAL)
    scores = hold("attn_scores", layer, learned)
    softmax = jax.nn.softmax(scores, axis=2)
    pattern = hold("pattern", layer, softmax)
    held = scores is not learned or pattern is not softmax
    # Both are the same; nobody computes a pattern that nobody reads.
    plain = held or short or T <= BROADCAST_UP_TO
    z = hold("z", layer, _mix(pattern, v) if plain else causal_attention(q, k, v))
    W_out = block.attention.W_out.reshape(config.d_model, -1)
    attn_out = hold("attn_out", layer, _linear(W_out, z.reshape(-1, *z.shape[2:])))
    x = (stream.value[:, -1:] if short else stream.value) + attn_out
    if block.mlp is not None:
        x = x + hold("mlp_out", layer, _mlp(block.mlp, _norm(block.norm2, x)))
    return Stream(hold("resid_post", layer, x))


def _matrices(config: Config, attention: Attention) -> list[Array]:
    """W_Q, W_K, W_V as [H * E, D]; for rope with the first of each pair in the first half."""
    R = 2 if config.positions == "rope" else 1
    H, E, D = config.heads, config.d_head, config.d_model
    paired = attention.W_QKV[:2].reshape(2, H, E // R, R, D).transpose(0, 3, 1, 2, 4)
    return [*paired.reshape(2, H * E, D), attention.W_QKV[2].reshape(H * E, D)]


def _project(config: Config, block: Block, inputs: list[Stream]) -> list[Array]:
    """Queries, keys and values [H * E, T, B]; what shares an input shares one matrix product."""
    matrices = _matrices(config, block.attention)
    groups: list[list[int]] = []
    for index, stream in enumerate(inputs):
        same = [group for group in groups if inputs[group[0]] is stream]
        if same:
            same[0].append(index)
        else:
            groups.append([index])
    out: list[Array] = [jnp.zeros(0)] * 3
    for group in groups:
        weight = jnp.concatenate([matrices[index] for index in group])
        stream = inputs[group[0]]
        if stream.columns is not None and stream.one_hot is not None:
            few = _linear(weight, _norm(block.norm1, stream.columns))
            joint = _linear(few, stream.one_hot)
        else:
            joint = _linear(weight, _norm(block.norm1, stream.value))
        for index, part in zip(group, jnp.split(joint, len(group)), strict=True):
            out[index] = part
    return out


def _smear(attention: Attention, k: Array) -> Array:
    """k_j <- s k_j + (1 - s) k_{j-1}, s = sigmoid(smear) a head; the first key stays.

    Olsson et al. 2022, "Smeared Key": before positions are turned in.
    """
    if attention.smear is None:
        return k
    s = jax.nn.sigmoid(attention.smear)[None, :, None, None, None]
    before = jnp.concatenate([k[..., :1, :], k[..., :-1, :]], axis=-2)
    return s * k + (1 - s) * before


def _rope(config: Config, x: Array, T: int) -> Array:
    """Pairs (x[0], x[1]) of the first axis [2, H, E/2, T, B] turned by position times frequency."""
    if config.positions != "rope":
        return x
    pair = np.arange(config.d_head // 2)[:, None]
    angle = np.arange(T)[-x.shape[3] :] * config.position_base ** (-2 * pair / config.d_head)
    sine = np.stack([-np.sin(angle), np.sin(angle)])[:, None, ..., None]
    cosine = np.cos(angle)[None, None, ..., None]
    return x * cosine.astype(np.float32) + x[::-1] * sine.astype(np.float32)


def _scores(q: Array, k: Array) -> Array:
    """[H, Tq, Tk, B] from [R, H, E/R, T, B]."""
    if k.shape[3] <= BROADCAST_UP_TO:
        return jnp.sum(q[:, :, :, :, None] * k[:, :, :, None], axis=(0, 2))
    return jnp.einsum("rheqb,rhekb->hqkb", q, k)


def _mix(pattern: Array, v: Array) -> Array:
    """z [H, E, Tq, B] from a pattern [H, Tq, Tk, B] and values [H, E, Tk, B]."""
    if v.shape[2] <= BROADCAST_UP_TO:
        return jnp.sum(pattern[:, None] * v[:, :, None], axis=3)
    return jnp.einsum("hqkb,hekb->heqb", pattern, v)


def _mlp(mlp: MLP, x: Array) -> Array:
    hidden = jax.nn.gelu(_linear(mlp.W_in, x) + mlp.b_in[:, None, None], approximate=True)
    return _linear(mlp.W_out, hidden) + mlp.b_out[:, None, None]


def _query_only(sites: Sites) -> Sites:
    """What rows="query" leaves of a pass over all rows: see `Activations`."""
    ending = ("q_input", "q", "attn_scores", "pattern", "z", "attn_out", "mlp_out", "resid_post")
    short = {site: [*sites[site]] for site in sites}
    for site in (*ending, "logits"):
        if sites[site]:
            last = sites[site][-1]
            short[site][-1] = jax.lax.slice_in_dim(last, -1, None, axis=query_axis(site))
    return short
