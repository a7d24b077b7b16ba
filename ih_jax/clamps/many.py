"""Many interventions of one kind by one program, each on a copy of the sequences of its own.

Copies stand beside each other in one larger batch, a few interventions at a time: all heads of a
network are one compiled program, whose memory does not grow with their number.

Glossary: N interventions, n of them at a time; B sequences of T positions; L layers of H heads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array

from ih_jax.clamps.apply import forward
from ih_jax.clamps.holds import Hold, Holds, Rule
from ih_jax.clamps.patching import count_of, gate_of, still
from ih_jax.data.batches import Batch, Sequences
from ih_jax.errors import UserError
from ih_jax.model.params import Config, Params
from ih_jax.model.sites import (
    ATTENTION_SITES,
    HEAD_SITES,
    PAIRED_SITES,
    Sites,
    rank,
    to_program,
    to_public,
)

ALL = -1  # every head, or every position
WITH_HEADS = (*ATTENTION_SITES, *PAIRED_SITES, *HEAD_SITES)

Kept = Literal["full", "patterns"]  # how a head is removed: `measures.removal.Kind`
Metric = Callable[[Array, Any], Array]  # (logits [B, T, C], batch) -> [B]


@struct.dataclass
class Places:
    """Where each of N interventions acts, [N] each; `ALL` is everywhere."""

    layer: Array
    head: Array
    position: Array


def places(
    layers: Sequence[int], heads: Sequence[int] = (ALL,), positions: Sequence[int] = (ALL,)
) -> Places:
    """Every layer with every head with every position, the last varying fastest."""
    grid = np.meshgrid(layers, heads, positions, indexing="ij")
    return Places(*(jnp.asarray(each.ravel(), jnp.int32) for each in grid))


def without_each(
    params: Params,
    batch: Sequences,
    holds: Holds,
    where: Places,
    kept: Kept,
    metric: Metric,
    at_once: int,
) -> tuple[Array, Array]:
    """The metric of the whole network [B], and without the heads of each intervention [N, B].

    Args:
        params, batch, holds: as `apply.forward` takes them.
        where: which head is removed: what it reads from others, `z`, is 0.
        kept: "patterns": all attention patterns stay as they were; "full": they follow.
        metric: of logits [B, T, C] and the batch, [B].
        at_once: interventions at a time.
    """
    clean = forward(params, batch, holds)

    def without(some: Places) -> Array:
        n, held = len(some.layer), []
        for layer in range(params.config.layers):
            gone = _at("z", some, layer, params.config, batch)
            held.append(_changed("z", layer, _where(gone, 0.0)))
            if kept == "patterns":
                # Queries and keys decide them, but for what is held of attention itself.
                of_attention = any(hold.site in ATTENTION_SITES for hold in holds.holds)
                for site in ("pattern",) if of_attention else ("q", "k"):
                    held.append(still(site, layer, _tiled(clean[site][layer], n)))
        return _measured(params, batch, n, holds, held, metric)

    return _metric_of(clean, batch, metric), _by_pieces(without, where, at_once)


def patched_each(
    params: Params,
    batch: Sequences,
    holds: Holds,
    source: Sites,
    where: Places,
    site: str,
    metric: Metric,
    at_once: int,
) -> tuple[Array, Array]:
    """The metric of the pass as it is [B], and with each place as in another pass [N, B].

    Args:
        params, batch, holds, metric, at_once: as `without_each`.
        source: the other pass; as many sequences and positions.
        where: which layer, head and position (at attention sites that of the query).
        site: which site.
    """

    def patched(some: Places) -> Array:
        n = len(some.layer)
        held = [
            _changed(
                site,
                layer,
                _where(_at(site, some, layer, params.config, batch), _tiled(value, n)),
            )
            for layer, value in enumerate(source[site])
        ]
        return _measured(params, batch, n, holds, held, metric)

    before = _metric_of(forward(params, batch, holds), batch, metric)
    return before, _by_pieces(patched, where, at_once)


def paths_each(
    params: Params,
    batch: Sequences,
    holds: Holds,
    source: Sites,
    where: Places,
    readers: tuple[int, tuple[int, ...]] | None,
    inputs: Sequence[str],
    metric: Metric,
    at_once: int,
) -> tuple[Array, Array]:
    """The metric of the pass as it is [B], and with each path as in another pass [N, B].

    A path: what one head writes, as `patching.path_patched` has it.

    Args:
        params, batch, holds, source, metric, at_once: as `patched_each`.
        where: the heads that write, in layers before the readers'.
        readers: their layer and heads; None: the logits.
        inputs: through which of "q", "k" and "v" they read.
    """
    config = params.config
    end = config.layers if readers is None else readers[0]
    clean = forward(params, batch, holds)
    blocks = params.blocks[:end]
    W_out = jnp.stack([jnp.swapaxes(block.attention.W_out, 0, 1) for block in blocks])  # by head
    change = jnp.stack([source["z"][i] - clean["z"][i] for i in range(end)])  # [end, H, E, T, B]

    def along(some: Places) -> Array:
        n = len(some.layer)

        def under(*held: Hold) -> Holds:
            return replace(holds, holds=(*holds.holds, *held))

        written = jnp.einsum(
            "nde,netb->dtnb", W_out[some.layer, some.head], change[some.layer, some.head]
        )
        written = written.reshape(*written.shape[:2], -1)
        stream = still("resid_post", end - 1, _tiled(clean["resid_post"][end - 1], n) + written)
        if readers is None:
            return _measured(params, batch, n, holds, [stream], metric)
        late, heads = readers
        read = forward(params, copies(batch, n), under(stream))
        held = [still("resid_pre", late, _tiled(clean["resid_pre"][late], n))]
        held += [
            still(name, late, read[name][late], gate_of(name, config, heads, None, batch.positions))
            for name in inputs
        ]
        return _measured(params, batch, n, holds, held, metric)

    return _metric_of(clean, batch, metric), _by_pieces(along, where, at_once)


def attributed(
    params: Params, batch: Sequences, holds: Holds, source: Sites, site: str, metric: Metric
) -> tuple[Array, Array]:
    """The metric of the pass as it is [B], and what patching each place would add to it.

    To first order (Nanda 2023, "Attribution patching"): the metric's gradient at the site, times
    the difference between the passes, summed over what is no head and no position.

    Args:
        params, batch, holds, source, site, metric: as `patched_each`.

    Returns:
        [B], and [L, H, T, B]; at sites without heads H is 1, and L is 1 at those without layers.
    """

    def total(added: list[Array]) -> tuple[Array, tuple[Array, Sites]]:
        held = [_changed(site, i, partial(jnp.add, each)) for i, each in enumerate(added)]
        sites = forward(params, batch, replace(holds, holds=(*holds.holds, *held)))
        found = _metric_of(sites, batch, metric)
        return found.sum(), (found, sites)

    nothing = [jnp.zeros_like(value) for value in source[site]]
    slopes, (before, clean) = jax.grad(total, has_aux=True)(nothing)
    products = [
        to_public(site, slope * (other - own)).sum(-1)
        for slope, other, own in zip(slopes, source[site], clean[site], strict=True)
    ]
    found = jnp.stack(products)  # [L, B, T], [L, B, T, H], or at attention sites [L, B, H, T]
    if site not in WITH_HEADS:
        return before, jnp.moveaxis(found, 1, 2)[:, None]
    return before, found.transpose((0, 2, 3, 1) if site in ATTENTION_SITES else (0, 3, 2, 1))


# --- copies -------------------------------------------------------------------------------------


def copies(batch: Sequences, count: int) -> Any:
    """The batch so many times over: sequence b of copy i is number i * B + b."""

    def tiled(leaf: Array) -> Array:
        return jnp.tile(leaf, (count, *[1] * (leaf.ndim - 1)))

    if not isinstance(batch, Batch):
        return jax.tree.map(tiled, batch)
    B, P = batch.labels.shape
    rows = jnp.arange(B * P).reshape(B, P) if batch.rows is None else batch.rows
    each = jax.tree.map(tiled, replace(batch, rows=rows))
    return replace(each, table=batch.table)  # one for all


def _tiled(value: Array, count: int) -> Array:
    """A value in the program's layout, for `copies`."""
    return jnp.tile(value, (*[1] * (value.ndim - 1), count))


def _changed(site: str, layer: int, change: Callable[[Array], Array]) -> Hold:
    """A hold that puts `change(value)` in the place of the value, after all that a clamp holds."""
    rule = Rule("changed", lambda scene: change(scene.value), order=99, causal=False)
    gate = np.ones((1,) * rank(site), np.float32)
    return Hold(gate, {}, None, None, site, layer, rule, slot=0, soft=False)


def _where(mask: Array, held: Array | float) -> Callable[[Array], Array]:
    return lambda value: jnp.where(mask, held, value)


def _at(site: str, some: Places, layer: int, config: Config, batch: Sequences) -> Array:
    """Bool, in the program's layout for `copies`: where each intervention acts in this layer."""

    def chosen(which: Array, size: int) -> Array:
        """[size, n]"""
        return (which == ALL)[None] | (jnp.arange(size)[:, None] == which[None])

    heads = chosen(some.head, config.heads)
    rows = chosen(some.position, batch.positions) & (some.layer == layer)[None]
    if site in ATTENTION_SITES:
        found = heads[:, None, None] & rows[None, :, None]
    elif site in WITH_HEADS:
        found = rows[:, None, None] & heads[None, :, None]
    else:
        found = rows[:, None]
    return to_program(site, jnp.repeat(found, count_of(batch), axis=-1))


def checked(metric: Metric, logits: Array, batch: Sequences) -> Array:
    """The metric, [B]. Raises UserError where it has another shape."""
    found = jnp.asarray(metric(logits, batch))
    if found.shape != logits.shape[:1]:
        raise UserError(
            f"the metric gives shape {found.shape} of logits {logits.shape}: give one number for "
            f"each of {len(logits)} sequences"
        )
    return found


def _metric_of(sites: Sites, batch: Sequences, metric: Metric) -> Array:
    """[B]"""
    return checked(metric, to_public("logits", sites["logits"][0]), batch)


def _measured(
    params: Params, batch: Sequences, n: int, holds: Holds, held: list[Hold], metric: Metric
) -> Array:
    """[n, B], the metric of n copies of a batch under further holds."""
    sites = forward(params, copies(batch, n), replace(holds, holds=(*holds.holds, *held)))
    logits = to_public("logits", sites["logits"][0])
    each = logits.reshape(n, -1, *logits.shape[1:])
    return jax.vmap(lambda one: checked(metric, one, batch))(each)


def _by_pieces(function: Callable[[Places], Array], where: Places, at_once: int) -> Array:
    """`function` of n places at a time, [N, B]; the last piece is filled up with what is there."""
    N = len(where.layer)
    n = min(at_once, N)
    filled = np.arange(-(-N // n) * n) % N
    pieces = jax.tree.map(lambda leaf: leaf[filled].reshape(-1, n), where)
    found = jax.lax.map(function, pieces)
    return found.reshape(-1, found.shape[-1])[:N]
