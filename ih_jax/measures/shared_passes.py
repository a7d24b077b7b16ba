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

# Beside these kinds, which act before a head has written, an ablation may stand apart.
BEFORE_WRITING = (Ablate, Preserve, PreviousToken, Induction)


@dataclass(frozen=True)
class Passes:
    """The passes that K clamps need."""

    holds: Holds  # of R passes, along a first axis
    left: np.ndarray | None  # [R, G, H]: 1 for the last layer's heads that are left; None: all
    place: np.ndarray  # [K]: where each clamp stands among R G


def passes(clamps: Mapping[str, Clamp], config: Config) -> Passes:
    """How to go through a model under these clamps. Errors as of `Clamp.arrays`."""
    groups: dict[tuple[Part, ...], list[tuple[int, ...]]] = {}
    found = []
    for clamp in clamps.values():
        clamp.arrays(config)  # a head that the model does not have is refused, as it was written
        rest, ablated = _apart(clamp, config)
        members = groups.setdefault(rest, [])
        if ablated not in members:
            members.append(ablated)
        found.append((rest, ablated))
    most = max(len(members) for members in groups.values())
    if most == 1:
        whole = list(clamps.values())
        return Passes(Clamp.stack(whole, config), None, np.arange(len(whole)))
    left = np.ones((len(groups), most, config.heads), np.float32)
    for row, members in zip(left, groups.values(), strict=True):
        for gates, ablated in zip(row, members, strict=False):
            gates[list(ablated)] = 0
    rests = list(groups)
    place = [rests.index(rest) * most + groups[rest].index(ablated) for rest, ablated in found]
    return Passes(Clamp.stack([Clamp(rest) for rest in rests], config), left, np.array(place))


def _apart(clamp: Clamp, config: Config) -> tuple[tuple[Part, ...], tuple[int, ...]]:
    """The parts of a clamp that a pass needs, and the heads of the last layer ablated beside."""
    last = config.layers - 1
    ablations = [p for p in clamp.parts if isinstance(p.held, Ablate) and p.held.layer == last]
    others = tuple(part for part in clamp.parts if part not in ablations)
    if not all(isinstance(part.held, BEFORE_WRITING) for part in others):
        return clamp.parts, ()
    heads = {h for part in ablations if isinstance(part.held, Ablate) for h in part.held.heads}
    return others, tuple(sorted(heads))


def each(params: Params, plan: Passes, batch: Batch, function: Callable[[Sites], Array]) -> Array:
    """`function(sites)` under each of K clamps, along a first axis: of "query" rows, by `logits`.

    One pass after the other: all at once would need more memory, and weights shared under vmap
    crash XLA on CPU. The clean pass that some clamps read is the same for all, and computed once.
    """
    given = None
    if plan.holds.needs_given and plan.holds.replaced is None:
        given = forward(params, batch, Holds(), "all" if plan.holds.needs_all_rows else "query")

    def one(own: tuple[Array, Holds, Array | None]) -> Array:
        _, holds, left = own
        sites = forward(params, batch, holds, "query", given)
        if left is None:
            return function(sites)[None]
        logits = transformer.logits_of(params, sites, left)
        return jax.vmap(lambda own: function({**sites, "logits": [own]}))(logits)

    holds = jax.tree.map(jnp.asarray, plan.holds)
    left = None if plan.left is None else jnp.asarray(plan.left)
    # Clamps that hold nothing have no arrays to count them by.
    count = len(plan.place) if plan.left is None else len(plan.left)
    found: Array = jax.lax.map(one, (jnp.arange(count), holds, left))
    return found.reshape(-1, *found.shape[2:])[plan.place]
