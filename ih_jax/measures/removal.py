"""What a head is for: language models without it, and what it adds to the logits by itself.

Paper: Olsson et al. 2022, "Per-token losses" and arguments 3 to 5. A head is removed in one of two
ways (`Kind`):

    full      its output is zero, and everything after it is computed again
    patterns  its output is zero, and all attention patterns stay as they were with it; without
              MLPs and norms, this subtracts every term of the network that contains the head

The clamp of training stays on in every pass: networks are measured as they were trained.

Glossary: L layers, H heads, B sequences of T tokens, V vocabulary. Positions are those of the
predicted token, 1 to T - 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ih_jax.clamps.apply import forward
from ih_jax.clamps.holds import Hold, Holds
from ih_jax.clamps.many import Kept
from ih_jax.clamps.patching import still
from ih_jax.data.batches import Tokens
from ih_jax.errors import UserError
from ih_jax.measures.base import measure
from ih_jax.measures.context import checked_positions
from ih_jax.measures.heads import BY_HEAD
from ih_jax.measures.probes import each_piece
from ih_jax.model.params import Params
from ih_jax.model.sites import ATTENTION_SITES, Sites
from ih_jax.tasks.language import in_context_score, token_losses

Kind = Kept
Removed = Callable[[Params, Holds, Tokens], dict[str, Array]]


def ablation_losses(positions: np.ndarray, early: int, late: int, kind: Kind) -> Removed:
    """A measure: what removing each head, one at a time, does to losses (nats, without less with).

        vector [L, H, B]  change of the loss at each sequence's own position; its product with a
                          unit vector from before to after a phase change attributes that to heads
        score [L, H]      change of the in-context learning score; above 0: the head served it
        loss [L, H]       change of the mean loss

    Args:
        positions: [B], of each sequence the position whose loss is in the vector.
        early, late: of the score, as `tasks.language.in_context_score`.
        kind: see the file.

    Raises:
        UserError: there is no such kind, or (when measured) positions do not fit the batch.
    """
    _check(kind)

    @measure(
        dims={"vector": (*BY_HEAD, "example"), "score": BY_HEAD, "loss": BY_HEAD},
        name="ablation_losses",
    )
    def of_network(params: Params, clamp: Holds, batch: Tokens) -> dict[str, Array]:
        def of(piece: Tokens, at: Array) -> tuple[Array, Array]:
            given = _clean(params, clamp, piece)
            sites = forward(params, piece, clamp, given=given)
            with_it = token_losses(sites, piece)  # [T - 1, B]

            def change(layer: int, head: Array) -> tuple[Array, Array]:
                left = without_head(params, clamp, piece, sites, layer, head, kind, given)
                return _changes(token_losses(left, piece) - with_it, at)

            layers = [
                jax.lax.map(partial(change, layer), jnp.arange(heads))
                for layer in range(params.config.layers)
            ]
            return jax.tree.map(lambda *each: jnp.stack(each), *layers)

        heads = params.config.heads
        return _summary(of, batch, positions, early, late)

    return of_network


def joint_ablation_losses(
    chosen: Callable[[Params, Holds, Tokens], Array],
    positions: np.ndarray,
    early: int,
    late: int,
    kind: Kind,
) -> Removed:
    """A measure: what removing several heads together does; as `ablation_losses`, without [L, H].

    Args:
        chosen: `chosen(params, clamp, batch) -> [L, H]`, a measure of the same network: not 0 where
            a head is to go, such as those whose prefix matching is above a threshold.
        positions, early, late, kind: as `ablation_losses`.
    """
    _check(kind)

    @measure(dims={"vector": ("example",), "score": (), "loss": ()}, name="joint_ablation_losses")
    def of_network(params: Params, clamp: Holds, batch: Tokens) -> dict[str, Array]:
        gone = chosen(params, clamp, batch)

        def of(piece: Tokens, at: Array) -> tuple[Array, Array]:
            given = _clean(params, clamp, piece)
            sites = forward(params, piece, clamp, given=given)
            left = without_heads(params, clamp, piece, sites, gone, kind, given)
            return _changes(token_losses(left, piece) - token_losses(sites, piece), at)

        return _summary(of, batch, positions, early, late)

    return of_network


def without_head(
    params: Params,
    clamp: Holds,
    batch: Tokens,
    sites: Sites,
    layer: int,
    head: Array | int,
    kind: Kind,
    given: Sites | None = None,
) -> Sites:
    """The pass without one head, from that of the whole network; nothing before it is recomputed.

    Args:
        params, clamp, batch: as `forward` takes them; the clamp already switched by time.
        sites: the pass of the whole network under the same clamp.
        layer, head: which; the head may be traced.
        kind: see the file.
        given: the clean pass, where the clamp reads one; None: computed here if needed.
    """
    left = sites["z"][layer] * (jnp.arange(params.config.heads) != head)[:, None, None, None]
    # With these two held, XLA drops whatever comes before them.
    held = [still("resid_pre", layer, sites["resid_pre"][layer]), still("z", layer, left)]
    if kind == "patterns":
        held += _patterns(clamp, sites, range(layer + 1, params.config.layers))
    return forward(params, batch, replace(clamp, holds=(*clamp.holds, *held)), given=given)


def without_heads(
    params: Params,
    clamp: Holds,
    batch: Tokens,
    sites: Sites,
    gone: Array,
    kind: Kind,
    given: Sites | None = None,
) -> Sites:
    """The pass without the heads that are not 0 in `gone` [L, H]; all else as `without_head`."""
    nothing = jnp.zeros((1, 1, 1, 1))
    held = [still("z", layer, nothing, each[:, None]) for layer, each in enumerate(gone != 0)]
    if kind == "patterns":
        held += _patterns(clamp, sites, range(params.config.layers))
    return forward(params, batch, replace(clamp, holds=(*clamp.holds, *held)), given=given)


def logit_attribution(params: Params, clamp: Holds, batch: Tokens, layer: int, head: int) -> Array:
    """[B, T, V]: what a head adds to the logits by itself, less the mean over the vocabulary.

    Its output through W_O and W_U, without the final norm and later heads (Olsson et al. 2022,
    "direct logit attribution").
    """
    z = forward(params, batch, clamp)["z"][layer][head]  # [E, T, B]
    return jnp.einsum("etb,ev->btv", z, _to_logits(params, layer, head))


def attribution_by_source(
    params: Params, clamp: Holds, batch: Tokens, layer: int, head: int, position: int
) -> Array:
    """[B, T, V]: `logit_attribution` at one position, by the position s that the head attends to.

    A[position, s] times the value at s, through W_O and W_U; the sum over s is the whole.
    """
    sites = forward(params, batch, clamp)
    attention = sites["pattern"][layer][head, position]  # [T, B]
    moved = attention[None] * sites["v"][layer][head]  # [E, T, B]
    return jnp.einsum("esb,ev->bsv", moved, _to_logits(params, layer, head))


def _to_logits(params: Params, layer: int, head: int) -> Array:
    """[E, V], from a head's z to logits less their mean."""
    W_O = params.blocks[layer].attention.W_O[head]
    return W_O @ (params.W_U - params.W_U.mean(0, keepdims=True)).T


def _check(kind: str) -> None:
    if kind not in get_args(Kind):
        raise UserError(f"kind is {kind!r}: give one of {', '.join(get_args(Kind))}")


def _clean(params: Params, clamp: Holds, batch: Tokens) -> Sites | None:
    """The clean pass that some clamps read, computed once; `forward` makes that of a graft."""
    if clamp.needs_given and clamp.replaced is None:
        return forward(params, batch, Holds())
    return None


def _patterns(clamp: Holds, sites: Sites, layers: range) -> list[Hold]:
    """Holds that keep these layers' patterns.

    Queries and keys decide patterns, and fused attention never has patterns in memory; but where
    the clamp holds attention itself, its rules might read more than these.
    """
    held = any(hold.site in ATTENTION_SITES for hold in clamp.holds)
    kept = ("pattern",) if held else ("q", "k")
    return [still(site, layer, sites[site][layer]) for layer in layers for site in kept]


def _changes(change: Array, at: Array) -> tuple[Array, Array]:
    """From changes [T - 1, B]: those at positions [B], and the mean over sequences [T - 1]."""
    return jnp.take_along_axis(change, at[None] - 1, axis=0)[0], change.mean(-1)


def _summary(
    of: Callable[[Tokens, Array], tuple[Array, Array]],
    batch: Tokens,
    positions: np.ndarray,
    early: int,
    late: int,
) -> dict[str, Array]:
    """What the measures return, from `of(piece, positions)`: changes [..., B], means [..., T - 1].

    The score is linear in the losses, so its change is the score of their changes.
    """
    own, mean = each_piece(of, batch, checked_positions(positions, batch))
    by_token = mean.mean(0)  # of pieces
    vector = jnp.moveaxis(own, 0, -2)
    return {
        "vector": vector.reshape(*vector.shape[:-2], -1),
        "score": in_context_score(jnp.moveaxis(by_token, -1, 0), early, late),
        "loss": by_token.mean(-1),
    }
