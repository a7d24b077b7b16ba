"""Places: the model that a kind of clamp makes its holds for, and the times when they are on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ih_jax.clamps.holds import Hold, Rule
from ih_jax.clamps.scene import of_function
from ih_jax.clamps.values import name_of
from ih_jax.errors import UserError
from ih_jax.model.params import Config, Params
from ih_jax.model.sites import (
    ATTENTION_SITES,
    GLOBAL_SITES,
    HEAD_SITES,
    PAIRED_SITES,
    STREAM_SITES,
    rank,
)


@dataclass(frozen=True)
class Place:
    """A model and, in `described`, the clamp that is to act in it, for messages."""

    config: Config
    described: str
    start: float = 0.0  # sequences (language: tokens) seen
    stop: float = float("inf")

    def hold(
        self,
        site: str,
        layer: int,
        rule: Rule | Callable[..., Any],
        *,
        heads: Sequence[int] | None = None,
        gate: Any = 1.0,
        arguments: Mapping[str, Any] | None = None,
        per_head: Mapping[str, float] | None = None,
        query_only: bool = False,
    ) -> Hold:
        """One site of one layer held at what a rule gives.

        Args:
            site: a name of `ih_jax.model.sites.SITES`.
            layer: which layer; 0 for "embed" and "logits", which belong to none.
            rule: `function(batch, activations, **arguments) -> value`, for one sequence and in the
                public layout, as `ih.rule` takes it. Define it at the top of a module: runs whose
                rules are one and the same function share a program. (Built-in kinds give a `Rule`
                in the program's layout, which is faster.)
            heads: which heads are held, at sites that have heads; None: all.
            gate: in [0, 1], broadcastable to the site's public shape: 1 holds, 0 leaves.
            arguments: numbers or arrays that the rule takes; runs may differ in them.
            per_head: numbers that the rule takes laid out by head, 0 at heads that are not held.
            query_only: promise that the function is right when the last layer has only the query's
                row (Tq = 1); training is then faster.

        Raises:
            UserError: the model has no such site, layer or head, or an array does not fit.
        """
        layer = self.layer(layer)
        if site == "mlp_out" and self.config.mlp_ratio is None:
            raise self.error("the model has no MLPs: set Config.mlp_ratio")
        if site in GLOBAL_SITES and layer != 0:
            raise self.error(f"{site} belongs to no layer: leave layer out")
        if heads is not None and (site == "logits" or site in STREAM_SITES):
            raise self.error(f"{site} has no heads: leave heads out")
        chosen = np.ones((1,) * rank(site), np.float32)
        if heads is not None:
            chosen = self.by_head(dict.fromkeys(heads, 1.0), site)
        gates = chosen * self.array("gate", gate, site)
        given = dict(arguments or {})
        given |= {name: gates * value for name, value in (per_head or {}).items()}
        if not isinstance(rule, Rule):
            # Argument names are part of the name: with others it is another part of the program.
            name = f"rule[{name_of(rule)}({', '.join(given)})]"
            rule = of_function(rule, name, query_only)
        timed = self.start > 0 or self.stop < float("inf")
        for name, value in given.items():
            given[name] = value if isinstance(value, Params) else np.asarray(value, np.float32)
        return Hold(
            gates,
            given,
            np.full(gates.shape, self.start, np.float32) if timed else None,
            np.full(gates.shape, self.stop, np.float32) if timed else None,
            site,
            layer,
            rule,
            slot=0,
            soft=bool(((gates > 0) & (gates < 1)).any()),
        )

    def few_shot_only(self) -> None:
        """Raises UserError for a language model: the clamp looks at exemplars and labels."""
        if self.config.language:
            raise self.error("applies only to few-shot models, and this one reads tokens")

    def error(self, what: str) -> UserError:
        """What is wrong, after the clamp that it is wrong with."""
        return UserError(f"{self.described}: {what}")

    def layer(self, layer: int) -> int:
        """The layer. Raises UserError if the model has no such layer."""
        last = self.config.layers - 1
        if not 0 <= layer <= last:
            raise self.error(f"layer {layer} is out of range: the model has layers 0..{last}")
        return layer

    def by_head(self, values: Mapping[int, float], site: str, other: float = 0.0) -> np.ndarray:
        """[H, 1, 1] (or [H, 1] where heads come second): a value at these heads, else `other`."""
        H = self.config.heads
        each = np.full(H, other, np.float32)
        for head, value in values.items():
            if not 0 <= head < H:
                raise self.error(f"head {head} is out of range: the model has heads 0..{H - 1}")
            each[head] = value
        return each.reshape((H, 1, 1) if site in ATTENTION_SITES else (H, 1))

    def array(self, name: str, values: Any, site: str) -> np.ndarray:
        """A user's array for a site with all its axes. Raises UserError if it cannot fit there."""
        array = np.asarray(values, np.float32)
        axes = rank(site)
        if array.ndim > axes:
            raise self.error(
                f"{name} has {array.ndim} axes, {site} has {axes} without the batch: "
                "give an array that broadcasts to it"
            )
        array = array.reshape((1,) * (axes - array.ndim) + array.shape)
        D, H, E, C = (getattr(self.config, n) for n in ("d_model", "heads", "d_head", "labels"))
        if site in ATTENTION_SITES:
            sizes = {0: H}
        elif site in HEAD_SITES + PAIRED_SITES:
            sizes = {1: H, 2: E}
        else:
            sizes = {1: C if site == "logits" else D}
        for axis, size in sizes.items():
            if array.shape[axis] not in (1, size):
                raise self.error(
                    f"{name} has shape {array.shape}: axis {axis} of {site} is of size {size}"
                )
        return array
