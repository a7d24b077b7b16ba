"""The network under a clamp: the forward pass with what is held put in its place.

Paper: Singh et al. 2024, section 3. Layouts and shapes: see `ih_jax.model.sites`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import jax
import jax.numpy as jnp
from jax import Array

from ih_jax import errors
from ih_jax.clamps.holds import Holds, apply_hold
from ih_jax.clamps.scene import Scene
from ih_jax.data.batches import Batch, Sequences
from ih_jax.model import transformer
from ih_jax.model.activations import Activations, from_public, public
from ih_jax.model.params import Config, Params, Rows
from ih_jax.model.sites import Sites, to_public


class Lowers(Protocol):
    """A recipe that a model makes arrays of: `clamp.Clamp`."""

    def arrays(self, config: Config) -> Holds:
        """One run's holds."""
        ...


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
    if not isinstance(params, Params) or not isinstance(batch, Sequences):
        raise errors.UserError(
            f"apply({errors.given(params)}, {errors.given(batch)}): give Params of a network, and "
            "what its task's sample draws"
        )
    if clamp is None:
        holds = Holds()
    elif not isinstance(clamp, Holds) and not hasattr(clamp, "arrays"):
        raise errors.UserError(
            f"clamp is {errors.given(clamp)}: give a Clamp, one run's Holds, or None"
        )
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
    context: Sites | None = None,
) -> Sites:
    """All sites in the program's layout (batch last), each a list over layers.

    Where a batch has several queries for each context, that is computed once, unless a hold looks
    elsewhere (`Rule.causal`).

    Args:
        params, batch, rows: as in `apply`. Where a rule needs all rows, "query" computes them all
            and then leaves out the same ones.
        holds: one run's holds, already switched by time (`Holds.at`).
        given: the sites of a clean pass with the same `rows` or "all", for holds that read one;
            computed here where it is needed and not given.
        context: as in `transformer.forward`, under the same holds.
    """
    if rows == "query" and holds.needs_all_rows:
        return transformer.query_only(forward(params, batch, holds, "all", given))
    if holds.replaced is not None:
        gate, donor = holds.replaced
        params = jax.tree.map(lambda g, d, p: jnp.where(g > 0, d, p), gate, donor, params)
        holds = replace(holds, replaced=None)
    if (
        isinstance(batch, Batch)
        and batch.queries > 1
        and holds.causal
        and isinstance(params, Params)
    ):
        return _context_once(params, batch, holds, rows, given)
    if holds.needs_given and given is None:
        given = transformer.forward(params, batch, rows=rows)
    tap = _tap(params, batch, holds, rows, given)
    return transformer.forward(params, batch, tap, rows, context)


def _context_once(
    params: Params, batch: Batch, holds: Holds, rows: Rows, given: Sites | None
) -> Sites:
    """`forward` of a batch whose parts differ in their queries only (`Batch.queries`)."""
    Q = batch.queries
    if holds.needs_given and given is None:
        given = forward(params, batch, Holds(), rows)
    clean = [None] * Q if given is None else transformer.split(given, Q)
    first, *others = batch.by_query()
    whole = forward(params, first, holds, rows, clean[0])
    last = [
        forward(params, part, holds, rows, own, whole)
        for part, own in zip(others, clean[1:], strict=True)
    ]
    return transformer.joined(whole, last)


def _tap(
    params: Params, batch: Sequences, holds: Holds, rows: Rows, given: Sites | None
) -> transformer.Tap:
    """What puts the holds in their places."""

    def donor(weights: Params) -> Sites:
        return transformer.forward(weights, batch, rows=rows)

    def tap(site: str, layer: int, value: Array, sites: Sites) -> Array:
        for hold in holds.here(site, layer):

            def so_far(value: Array = value) -> tuple[Activations, tuple[int, ...]]:
                activations = public({**sites, site: [*sites[site], value]})
                return activations, to_public(site, value).shape[1:]

            scene = Scene(batch, params.config, layer, site, value, sites, given, donor, so_far)
            held = hold.rule.function(scene, **hold.arguments)
            value = apply_hold(hold, held, value, batch.positions, scene.halves)
        return value

    return tap
