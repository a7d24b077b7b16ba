"""Holds: the arrays by which a clamp acts on a forward pass.

A hold is a gate and a rule at one site of one layer. The rule is a function and so part of the
program; the gate, the rule's arguments and the times are arrays, one value a run, so that runs with
different clamps stack along an axis and share one program (`stack`).

Layouts of values and the glossary of shapes: see `ih_jax.model.sites`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array

from ih_jax.errors import UserError
from ih_jax.model.sites import query_axis, rank, to_program

HeldRows = Literal["all", "query", "label"]
Leaf = Array | np.ndarray  # of a recipe (numpy, stackable at no cost) or traced
Key = tuple[str, int, int, str, int]


@dataclass(frozen=True)
class Rule:
    """What value a hold gives. `function(scene, arguments) -> value` in the program's layout.

    `rows`: which query positions of the site it gives; the others are left alone.
    `order`: where two holds meet at a site, the one of higher order is applied later and wins.
    `needs_all_rows`: the value may depend on rows that training for the query alone leaves out.
    `needs_given`: the value is read from a finished pass ("clean" pass of the same weights).
    `elementwise`: an element of the value depends on that element of the arguments only.
    `across`: the value of a sequence depends on the other sequences of the batch.
    `causal`: a row's value depends on no later token, and the last row's can be had from a pass
        that has the last rows alone.
    """

    name: str
    function: Callable[..., Array]
    rows: HeldRows = "all"
    order: int = 50
    needs_all_rows: bool = False
    needs_given: bool = False
    elementwise: bool = True
    across: bool = False
    causal: bool = True


@struct.dataclass
class Hold:
    """One gate and its rule at one site of one layer, for one run (or stacked: many runs)."""

    gate: Leaf  # public layout of the site, trailing axes may be 1; 1 holds, 0 leaves
    arguments: dict[str, Any]  # what the rule takes: arrays, broadcasting like the gate
    start: Leaf | None  # sequences or tokens seen; None: always
    stop: Leaf | None
    site: str = struct.field(pytree_node=False)
    layer: int = struct.field(pytree_node=False)
    rule: Rule = struct.field(pytree_node=False)
    slot: int = struct.field(pytree_node=False)  # tells apart holds of one rule, say two pulses
    soft: bool = struct.field(pytree_node=False)  # whether some gate lies between 0 and 1

    @property
    def key(self) -> Key:
        """What makes two holds of different runs the same part of a program."""
        return (self.site, self.layer, self.rule.order, self.rule.name, self.slot)

    def at(self, seen: Array | float) -> Hold:
        """This hold with its gate switched by the time, `seen` sequences or tokens."""
        if self.start is None or self.stop is None:
            return self
        on = (self.start <= seen) & (seen < self.stop)
        return replace(self, gate=jnp.where(on, self.gate, 0.0), start=None, stop=None)


@struct.dataclass
class Holds:
    """All that one run holds fixed: what a forward pass and a training step take as a clamp."""

    holds: tuple[Hold, ...] = ()
    frozen: Any = None  # like the parameters: 1 where a weight does not learn; None: all learn
    replaced: Any = None  # (gate, parameters): layers taken from another network; None: none

    def at(self, seen: Array | float) -> Holds:
        """These with gates switched by the time, `seen` sequences or tokens."""
        return replace(self, holds=tuple(hold.at(seen) for hold in self.holds))

    @property
    def needs_all_rows(self) -> bool:
        return any(hold.rule.needs_all_rows for hold in self.holds)

    @property
    def needs_given(self) -> bool:
        return any(hold.rule.needs_given for hold in self.holds)

    @property
    def across(self) -> bool:
        return any(hold.rule.across for hold in self.holds)

    @property
    def causal(self) -> bool:
        """Whether sequences that share a context may share what was computed for it."""
        return all(hold.rule.causal and not hold.rule.across for hold in self.holds)

    def here(self, site: str, layer: int) -> list[Hold]:
        """The holds at a site of a layer, the winning one last."""
        found = [h for h in self.holds if h.site == site and h.layer == layer]
        return sorted(found, key=lambda hold: hold.key)


def row_mask(rows: HeldRows, positions: int) -> np.ndarray:
    """[T] bool: which query positions a rule gives."""
    index = np.arange(positions)
    masks: dict[HeldRows, np.ndarray] = {
        "all": index >= 0,
        "query": index == positions - 1,
        "label": index % 2 == 1,
    }
    return masks[rows]


def select(gate: Array, held: Array, value: Array, soft: bool) -> Array:
    """The held value where the gate is 1 and the value where it is 0, bit for bit."""
    if not soft:
        return jnp.where(gate > 0, held, value)
    blend = gate * held + (1 - gate) * value
    return jnp.where(gate == 1, held, jnp.where(gate == 0, value, blend))


def apply_hold(hold: Hold, held: Array, value: Array, positions: int, halves: int) -> Array:
    """`value` with what the hold gives in its place, where its gate and its rows say so.

    Args:
        hold: the hold; its gate already switched by time.
        held: the rule's value, program layout, broadcastable to `value` over all T query rows.
        value: the site's value, program layout; it may have the query's row only.
        positions: T, of the whole sequence.
        halves: R of the glossary.
    """
    axis = query_axis(hold.site)
    rows = value.shape[axis]
    short = rows == 1 and positions > 1
    if short and hold.rule.rows == "label":
        return value  # the query is no label
    gate = jnp.reshape(hold.gate, (1,) * (rank(hold.site) - hold.gate.ndim) + hold.gate.shape)
    gate = to_program(hold.site, gate[..., None], halves)
    if short:
        held = held if held.shape[axis] == 1 else jax.lax.slice_in_dim(held, -1, None, axis=axis)
        gate = gate if gate.shape[axis] == 1 else jax.lax.slice_in_dim(gate, -1, None, axis=axis)
    elif hold.rule.rows != "all":
        mask = row_mask(hold.rule.rows, positions)
        gate = gate * mask.reshape([-1 if a == axis else 1 for a in range(gate.ndim)])
    if hold.rule.needs_given and hold.rule.rows == "all" and held.shape[axis] != rows:
        raise UserError(
            f"{hold.rule.name} at {hold.site} of layer {hold.layer} needs all rows of the given "
            "pass, which has the query's only: make that pass with rows='all'"
        )
    if _broadcast(gate.shape, held.shape, value.shape) != value.shape:
        raise UserError(
            f"{hold.rule.name} at {hold.site} of layer {hold.layer}: gate {gate.shape} and value "
            f"{held.shape} do not fit the site's {value.shape} (batch last, as in model/sites.py): "
            "give a gate and a value for sequences of this length"
        )
    return select(gate, held, value, hold.soft)


def _broadcast(*shapes: tuple[int, ...]) -> tuple[int, ...] | None:
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        return None


def stack(runs: Sequence[Holds]) -> Holds:
    """The holds of many runs along a new first axis; a part that a run lacks has gates of 0.

    Cheap parts cost a run that lacks them a select; all runs then share one program.
    """
    # By rule too: two functions of one name (lambdas, say) are two parts of the program.
    found: dict[tuple[Key, Rule], list[Hold | None]] = {}
    for index, run in enumerate(runs):
        for hold in run.holds:
            found.setdefault((hold.key, hold.rule), [None] * len(runs))[index] = hold
    parts = sorted(found.items(), key=lambda part: part[0][0])
    holds = tuple(_stack_part(present) for _, present in parts)
    frozen = _stack_optional([run.frozen for run in runs])
    replaced = _stack_optional([run.replaced for run in runs])
    return Holds(holds, frozen, replaced)


def _stack_part(found: list[Hold | None]) -> Hold:
    present = [hold for hold in found if hold is not None]
    first = present[0]
    shape = np.broadcast_shapes(*(hold.gate.shape for hold in present))
    timed = any(hold.start is not None for hold in present)

    def leaf(name: str, index: int) -> np.ndarray:
        hold = found[index]
        value = getattr(hold, name) if hold is not None else None
        if value is None:
            value = {"gate": 0.0, "start": 0.0, "stop": np.inf}[name]
        wide: np.ndarray = np.broadcast_to(np.asarray(value, np.float32), shape)
        return wide

    def stacked(name: str) -> np.ndarray:
        return np.stack([leaf(name, index) for index in range(len(found))])

    arguments = jax.tree.map(
        lambda *leaves: np.stack(np.broadcast_arrays(*leaves)),
        *((hold if hold is not None else first).arguments for hold in found),
    )
    return Hold(
        gate=stacked("gate"),
        arguments=arguments,
        start=stacked("start") if timed else None,
        stop=stacked("stop") if timed else None,
        site=first.site,
        layer=first.layer,
        rule=first.rule,
        slot=first.slot,
        soft=any(hold.soft for hold in present),
    )


def _stack_optional(parts: list[Any]) -> Any:
    present = [part for part in parts if part is not None]
    if not present:
        return None
    nothing = jax.tree.map(np.zeros_like, present[0])
    full = [nothing if part is None else part for part in parts]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *full)
