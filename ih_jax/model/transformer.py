"""The transformer: a plain network with a tap at every site.

Paper: Singh et al. 2024, section 2. Sites, layouts and shapes: see `sites`.

Nothing that is not read is computed: XLA drops the sites that nobody looks at, so returning all of
them costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ih_jax.data.batches import Sequences
from ih_jax.errors import UserError
from ih_jax.model import distances
from ih_jax.model.attention import causal_attention
from ih_jax.model.embedding import Stream, embed, last_token, position_columns, same_or_new
from ih_jax.model.heads import BROADCAST_UP_TO, matrices, mix, products, project, rope, smear
from ih_jax.model.layers import linear, mlp, norm
from ih_jax.model.params import TABLES, Block, Params, Rows
from ih_jax.model.sites import SITES, Sites, query_axis

CAUSAL = -1e20  # below any score that a tap may put in, so that a row stays causal

# (site, layer, value, sites before it) -> what stands there from now on: the value itself, where
# nothing is to change. Values are in the program's layout.
Tap = Callable[[str, int, Array, Sites], Array]
Here = Callable[[str, int, Array], Array]  # a tap that also keeps what it lets through


def forward(
    params: Params,
    batch: Sequences,
    tap: Tap | None = None,
    rows: Rows = "all",
    context: Sites | None = None,
) -> Sites:
    """All sites of a network, in the program's layout (batch last), each a list over layers.

    Args:
        params: the weights. What is no `Params` is a network of another architecture, which has a
            method `sites(batch, tap, rows)` that does the same.
        batch: B few-shot sequences of T = 2 P - 1 tokens, or for a language model `Tokens`.
        tap: is shown every site in the order of computation, and may put something else in its
            place, which everything later then reads; None: the plain network.
        rows: "all", or "query": the last layer answers for the last token only, which is faster.
        context: the sites of as many sequences that differ from these in their last tokens only
            (and a `Params` network). Keys and values of all earlier tokens are read there, and
            all sites have the last position only.

    Raises:
        UserError: the batch does not fit the model, or `rows` is neither.
    """
    if rows not in get_args(Rows):
        raise UserError(f"rows is {rows!r}: give one of {', '.join(get_args(Rows))}")
    if not isinstance(params, Params):
        return params.sites(batch, tap, rows)
    config = params.config
    T = batch.positions
    if config.positions in TABLES and config.max_positions < T:
        raise UserError(
            f"sequences have {T} tokens, the model has positions for {config.max_positions}: "
            "raise Config.max_positions"
        )
    sites: Sites = {site: [] for site in SITES}

    def here(site: str, layer: int, value: Array) -> Array:
        if tap is not None:
            value = tap(site, layer, value, sites)
        sites[site].append(value)
        return value

    stream = embed(params, batch)
    if context is not None:
        stream = last_token(stream)
    stream = same_or_new(stream, here("embed", 0, stream.value))
    if config.positions in ("sinusoidal", "learned"):
        table = position_columns(params, T)[:, -stream.value.shape[1] :]
        stream = Stream(stream.value + table[..., None])
    for layer, block in enumerate(params.blocks):
        short = rows == "query" and layer == config.layers - 1
        stream = _layer(params, block, layer, stream, here, T, short, context)
    x = stream.value
    if rows == "query":
        x = x[:, -1:]
    logits = linear(params.W_U, norm(params.norm, x)) + params.b_U[:, None, None]
    here("logits", 0, logits)
    return sites


def _layer(
    params: Params,
    block: Block,
    layer: int,
    stream: Stream,
    here: Here,
    T: int,
    short: bool,
    context: Sites | None,
) -> Stream:
    """One layer: from the stream before it to the stream after it."""
    stream = same_or_new(stream, here("resid_pre", layer, stream.value))
    short = short and context is None  # with one, there is no other row
    queries = Stream(stream.value[:, -1:]) if short else stream
    q_in = same_or_new(queries, here("q_input", layer, queries.value))
    k_in = same_or_new(stream, here("k_input", layer, stream.value))
    v_in = same_or_new(stream, here("v_input", layer, stream.value))
    z = _heads(params, block, layer, [q_in, k_in, v_in], here, T, context)
    W_out = block.attention.W_out.reshape(params.config.d_model, -1)
    attn_out = here("attn_out", layer, linear(W_out, z.reshape(-1, *z.shape[2:])))
    x = (stream.value[:, -1:] if short else stream.value) + attn_out
    if block.mlp is not None:
        x = x + here("mlp_out", layer, mlp(block.mlp, norm(block.norm2, x)))
    return Stream(here("resid_post", layer, x))


def _heads(
    params: Params,
    block: Block,
    layer: int,
    inputs: list[Stream],
    here: Here,
    T: int,
    context: Sites | None,
) -> Array:
    """z [H, E, Tq, B] of a layer's heads, from the inputs of queries, keys and values."""
    config = params.config
    q, k, v = project(config, block, inputs)
    if config.positions == "shortformer":
        W_q, W_k, _ = matrices(config, block.attention)
        table = position_columns(params, T)
        q = q + (W_q @ table[:, -q.shape[1] :])[..., None]
        k = k + (W_k @ table[:, -k.shape[1] :])[..., None]
    R = 2 if config.positions == "rope" else 1
    paired = (R, config.heads, config.d_head // R)
    q = here("q", layer, q.reshape(*paired, *q.shape[1:]))
    k = here("k", layer, k.reshape(*paired, *k.shape[1:]))
    v = here("v", layer, v.reshape(config.heads, config.d_head, *v.shape[1:]))
    if context is not None:
        k = jnp.concatenate([context["k"][layer][..., :-1, :], k], axis=3)
        v = jnp.concatenate([context["v"][layer][..., :-1, :], v], axis=2)
    q, k = rope(config, q, T), rope(config, smear(block.attention, k), T)
    causal = np.tril(np.ones((T, T), bool))[None, -q.shape[3] :, :, None]
    learned = products(q, k) * config.d_head**-0.5
    by_distance = distances.of_heads(block.attention, T)
    if by_distance is not None:
        learned += distances.square(by_distance)[:, -q.shape[3] :, :, None]
    learned = jnp.where(causal, learned, CAUSAL)
    scores = here("attn_scores", layer, learned)
    softmax = jax.nn.softmax(scores, axis=2)
    pattern = here("pattern", layer, softmax)
    changed = scores is not learned or pattern is not softmax
    # Both are the same; nobody computes a pattern that nobody reads.
    plain = changed or q.shape[3] < T or T <= BROADCAST_UP_TO
    return here("z", layer, mix(pattern, v) if plain else causal_attention(q, k, v, by_distance))


def logits_with_heads(params: Params, sites: Sites, left: Array) -> Array:
    """[G, C, 1, B]: the query's logits if only some heads of the last layer had written.

    Args:
        params: the weights.
        sites: of a pass; what is before the last layer and its heads' `z` are read.
        left: [G, H], 1 for a head that has written, 0 for one that has not, in each of G cases.
    """
    block = params.blocks[-1]
    z = sites["z"][-1][:, :, -1:]  # [H, E, 1, B]
    heads, d_head, *rest = z.shape
    W_out = block.attention.W_out.reshape(params.config.d_model, heads, d_head)
    written = jnp.einsum("dhe,heb->hdb", W_out, z.reshape(heads, d_head, -1))
    before = sites["resid_pre"][-1][:, -1:]

    def of(gates: Array) -> Array:
        x = before + jnp.tensordot(gates, written, axes=1).reshape(-1, *rest)
        if block.mlp is not None:
            x = x + mlp(block.mlp, norm(block.norm2, x))
        return linear(params.W_U, norm(params.norm, x)) + params.b_U[:, None, None]

    return jax.vmap(of)(left)


def split(sites: Sites, parts: int) -> list[Sites]:
    """The sites of equal parts of a batch, one after the other."""
    by_part: list[Sites] = [{site: [] for site in sites} for _ in range(parts)]
    for site, layers in sites.items():
        for value in layers:
            for own, piece in zip(by_part, jnp.split(value, parts, axis=-1), strict=True):
                own[site].append(piece)
    return by_part


def joined(first: Sites, others: list[Sites]) -> Sites:
    """The sites of a batch from those of its first part and the last rows of all other parts.

    That is what `forward` gives with `context=first`; earlier rows are those of the first part.
    """

    def whole(site: str, value: Array, last: Array) -> Array:
        axis = query_axis(site)
        before = jax.lax.slice_in_dim(value, 0, -1, axis=axis)
        return jnp.concatenate([before, last], axis=axis)

    found: Sites = {site: [] for site in first}
    for site, layers in first.items():
        for layer, value in enumerate(layers):
            last = [whole(site, value, other[site][layer]) for other in others]
            found[site].append(jnp.concatenate([value, *last], axis=-1))
    return found


def query_only(sites: Sites) -> Sites:
    """What rows="query" leaves of a pass over all rows: see `Activations`."""
    ending = ("q_input", "q", "attn_scores", "pattern", "z", "attn_out", "mlp_out", "resid_post")
    short = {site: [*sites[site]] for site in sites}
    for site in (*ending, "logits"):
        if sites[site]:
            last = sites[site][-1]
            short[site][-1] = jax.lax.slice_in_dim(last, -1, None, axis=query_axis(site))
    return short
