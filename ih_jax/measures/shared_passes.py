"""Passes under many clamps: those that differ in the last layer's ablations only share one.

Nothing reads a head of the last layer but the logits, so that one pass tells what any selection of
these heads gives: of the 264 clamps of Singh et al. 2024, fig. 11, 33 passes.

Glossary: K clamps, R passes, G selections of heads of the last layer to each, H heads, B sequences.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ih_jax.clamps.apply import forward
from ih_jax.clamps.clamp import Clamp, Part
from ih_jax.clamps.holds import Holds
from ih_jax.clamps.kinds.attention import Induction, PreviousToken
from ih_jax.clamps.kinds.passes import Preserve
from ih_jax.clamps.kinds.sites import Ablate
from ih_jax.data.batches import Batch
from ih_jax.model import transformer
from ih_jax.model.params import Config, Params
from ih_jax.model.sites import Sites

# Beside these kinds, which act before a head has written and do not look at what is ablated, an
# ablation may stand apart. Of others, such as rules of one's own, nothing is known.
BEFORE_WRITING = (Ablate, Preserve, PreviousToken, Induction)


@dataclass(frozen=True)
class Passes:
    """The passes that K clamps need."""

    clean: bool  # whether the first holds nothing
    holds: Holds | None  # of the others, along a first axis
    left: np.ndarray  # [R, G, H]: 1 for the heads of the last layer that are left
    place: np.ndarray  # [K]: where each clamp stands among R G


def plan_passes(clamps: Mapping[str, Clamp], config: Config) -> Passes:
    """How to go through a model under these clamps. Errors as of `Clamp.arrays`."""
    groups: dict[tuple[Part, ...], list[tuple[int, ...]]] = {}
    found = [_apart(clamp, config) for clamp in clamps.values()]
    for rest, ablated in sorted(found, key=lambda each: bool(each[0])):  # the clean one first
        members = groups.setdefault(rest, [])
        if ablated not in members:
            members.append(ablated)
    most = max(len(members) for members in groups.values())
    left = np.ones((len(groups), most, config.heads), np.float32)
    for row, members in zip(left, groups.values(), strict=True):
        for gates, ablated in zip(row, members, strict=False):
            gates[list(ablated)] = 0
    rests = list(groups)
    place = [rests.index(rest) * most + groups[rest].index(ablated) for rest, ablated in found]
    held = [Clamp(rest) for rest in rests if rest]
    stacked = Clamp.stack(held, config) if held else None
    return Passes(() in groups, stacked, left, np.array(place))


def _apart(clamp: Clamp, config: Config) -> tuple[tuple[Part, ...], tuple[int, ...]]:
    """The parts of a clamp that a pass needs, and the heads of the last layer ablated beside."""
    last = config.layers - 1
    ablations = [p for p in clamp.parts if isinstance(p.held, Ablate) and p.held.layer == last]
    others = tuple(part for part in clamp.parts if part not in ablations)
    if not all(isinstance(part.held, BEFORE_WRITING) for part in others):
        return clamp.parts, ()
    heads = {h for part in ablations if isinstance(part.held, Ablate) for h in part.held.heads}
    for part in ablations:
        part.holds(config)  # a head that the model does not have is refused as it was written
    return others, tuple(sorted(heads))


def under_each(
    params: Params, plan: Passes, batch: Batch, function: Callable[[Sites], Array]
) -> Array:
    """`function(sites)` [K, ...] under each of K clamps; `sites` are those of rows "query".

    The function may read nothing but the logits where clamps share a pass.

    One pass after the other: all at once would need more memory, and weights shared under vmap
    crash XLA on CPU. The clean pass, which some clamps read, is computed once.
    """
    one_each = plan.left.shape[1] == 1 and plan.left.all()

    def selections(sites: Sites, left: Array) -> Array:
        if one_each:
            return function(sites)[None]
        logits = transformer.logits_with_heads(params, sites, left)
        return jax.vmap(lambda own: function({**sites, "logits": [own]}))(logits)

    left, found, clean = jnp.asarray(plan.left), [], None
    holds = plan.holds
    reads = holds is not None and holds.needs_given and holds.replaced is None
    if plan.clean or reads:
        every = reads and holds is not None and holds.needs_all_rows
        clean = forward(params, batch, Holds(), "all" if every else "query")
        if plan.clean:
            found.append(selections(transformer.query_only(clean), left[0])[None])
    if holds is not None:
        given = clean if reads else None
        found.append(
            jax.lax.map(
                lambda own: selections(forward(params, batch, own[0], "query", given), own[1]),
                (jax.tree.map(jnp.asarray, holds), left[len(found) :]),
            )
        )
    both = jnp.concatenate(found)
    return both.reshape(-1, *both.shape[2:])[plan.place]
