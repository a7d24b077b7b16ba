"""Clamps of any site: ablations, constants, rules of one's own, and what stops learning.

Each kind: its rule, the class, the constructor. Rules have the program's layout: batch last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ih_jax.clamps.clamp import Clamp
from ih_jax.clamps.holds import Hold, Rule
from ih_jax.clamps.kind import Decision, Kind, clamp_kind
from ih_jax.clamps.place import Place
from ih_jax.clamps.scene import Scene
from ih_jax.clamps.values import gate_values, head_indices, indices_shown, nested, shown
from ih_jax.errors import UserError, unknown
from ih_jax.model.params import Config, Params, init
from ih_jax.model.sites import GLOBAL_SITES, to_program

_ABLATE = Rule("ablate", lambda scene: jnp.zeros((1,) * scene.value.ndim), order=90)
_MEAN = Rule("mean", lambda scene: scene.value.mean(-1, keepdims=True), order=30, across=True)
# Sequences of a batch are independent draws: the neighbour's activation is a fresh one.
_RESAMPLE = Rule("resample", lambda scene: jnp.roll(scene.value, 1, axis=-1), order=30, across=True)
_STOP = Rule("stop_gradient", lambda scene: jax.lax.stop_gradient(scene.value), order=95)


def _decided(site: str, layer: int, heads: tuple[int, ...] | None) -> list[Decision]:
    layer = 0 if site in GLOBAL_SITES else layer
    return [Decision(site, layer, head) for head in heads or (None,)]


@clamp_kind("ablate")
@dataclass(frozen=True)
class Ablate(Kind):
    """See `ablate`. It wins wherever it meets another clamp, and decides nothing."""

    layer: int
    heads: tuple[int, ...]

    def holds(self, place: Place) -> Iterable[Hold]:
        yield place.hold("v", self.layer, _ABLATE, heads=self.heads)


def ablate(layer: int, heads: int | Sequence[int]) -> Clamp:
    """The heads' values are 0, so they write nothing (Singh et al. 2024, section 3)."""
    return Clamp.of(Ablate(layer, head_indices(heads)))


@clamp_kind("mean")
@dataclass(frozen=True)
class Mean(Kind):
    """See `mean`."""

    site: str
    layer: int
    heads: tuple[int, ...] | None = None

    def decides(self) -> Iterable[Decision]:
        return _decided(self.site, self.layer, self.heads)

    def holds(self, place: Place) -> Iterable[Hold]:
        yield place.hold(self.site, self.layer, _MEAN, heads=self.heads)


def mean(site: str, layer: int, heads: int | Sequence[int] | None = None) -> Clamp:
    """A site is its mean over the batch (mean ablation); `heads` where it has heads."""
    return Clamp.of(Mean(site, layer, None if heads is None else head_indices(heads)))


@clamp_kind("resample")
@dataclass(frozen=True)
class Resample(Kind):
    """See `resample`."""

    site: str
    layer: int
    heads: tuple[int, ...] | None = None

    def decides(self) -> Iterable[Decision]:
        return _decided(self.site, self.layer, self.heads)

    def holds(self, place: Place) -> Iterable[Hold]:
        yield place.hold(self.site, self.layer, _RESAMPLE, heads=self.heads)


def resample(site: str, layer: int, heads: int | Sequence[int] | None = None) -> Clamp:
    """A site is that of another sequence of the batch (resample ablation)."""
    return Clamp.of(Resample(site, layer, None if heads is None else head_indices(heads)))


@clamp_kind("stop_gradient")
@dataclass(frozen=True)
class StopGradient(Kind):
    """See `stop_gradient`."""

    site: str
    layer: int = 0
    heads: tuple[int, ...] | None = None

    def holds(self, place: Place) -> Iterable[Hold]:
        yield place.hold(self.site, self.layer, _STOP, heads=self.heads)


def stop_gradient(site: str, layer: int = 0, heads: int | Sequence[int] | None = None) -> Clamp:
    """No gradient flows back through a site."""
    return Clamp.of(StopGradient(site, layer, None if heads is None else head_indices(heads)))


@clamp_kind("freeze")
@dataclass(frozen=True)
class Freeze(Kind):
    """See `freeze`."""

    parameters: tuple[str, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        names = self.parameters
        if not isinstance(names, tuple) or not names or not all(isinstance(n, str) for n in names):
            raise UserError('freeze: no parameter named: give some, such as "W_E" or "blocks.0"')

    @property
    def of_weights(self) -> bool:
        return True

    def holds(self, place: Place) -> Iterable[Hold]:
        return ()

    def frozen(self, config: Config) -> Params:
        shapes = jax.eval_shape(lambda: init(jax.random.key(0), config))
        with_paths = jax.tree_util.tree_leaves_with_path(shapes)
        paths = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in with_paths]
        masks = {
            path: np.zeros((3, 1, 1, 1) if path.endswith("W_QKV") else (1,) * leaf.ndim, np.float32)
            for path, (_, leaf) in zip(paths, with_paths, strict=True)
        }
        for name in self.parameters:
            before, _, last = name.rpartition(".")
            joint = f"{before}.W_QKV"
            if last in ("W_Q", "W_K", "W_V") and joint in masks:
                masks[joint][("W_Q", "W_K", "W_V").index(last)] = 1
                continue
            found = [path for path in paths if path == name or path.startswith(name + ".")]
            if not found:
                raise unknown("parameter", name, paths)
            for path in found:
                masks[path][...] = 1
        made: Params = jax.tree.unflatten(jax.tree.structure(shapes), list(masks.values()))
        return made

    def describe(self) -> str:
        return f"freeze({', '.join(shown(each) for each in self.parameters)})"


def freeze(*parameters: str) -> Clamp:
    """These weights keep their initial values.

    Names are those of `Params`, a prefix naming all below it: "W_E", "blocks.0",
    "blocks.1.attention.W_Q" (W_Q, W_K and W_V are parts of W_QKV), "norm".
    """
    return Clamp.of(Freeze(parameters))


def _constant(scene: Scene, value: Array) -> Array:
    """The value given, in the public layout of the site."""
    return to_program(scene.site, value[..., None], scene.halves)


# A constant pattern may attend to later tokens.
_CONSTANT = Rule("hold", _constant, order=60, causal=False)


@clamp_kind("hold")
@dataclass(frozen=True)
class Constant(Kind):
    """See `hold`."""

    site: str
    value: Any
    layer: int = 0
    heads: tuple[int, ...] | None = None
    gate: Any = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._keep(value=nested("value", self.value), gate=gate_values(self.gate))

    def decides(self) -> Iterable[Decision]:
        return _decided(self.site, self.layer, self.heads)

    def holds(self, place: Place) -> Iterable[Hold]:
        value = {"value": place.array("value", self.value, self.site)}
        yield place.hold(
            self.site, self.layer, _CONSTANT, heads=self.heads, gate=self.gate, arguments=value
        )


def hold(
    site: str,
    value: Any,
    *,
    layer: int = 0,
    heads: int | Sequence[int] | None = None,
    gate: Any = 1.0,
) -> Clamp:
    """A site is a constant where `gate` is 1.

    Args:
        site: a name of `ih_jax.model.sites.SITES`.
        value: broadcastable to the site's public shape without batch, such as [H, Tq, Tk].
        layer: which layer; "embed" and "logits" have none.
        heads: which heads hold it, at sites that have heads; None: all.
        gate: in [0, 1], broadcastable to the same shape; between 0 and 1 it blends.
    """
    named = None if heads is None else head_indices(heads)
    return Clamp.of(Constant(site, value, layer, named, gate))


@clamp_kind("rule")
@dataclass(frozen=True)
class OwnRule(Kind):
    """See `rule`."""

    site: str
    function: Callable[..., Any]
    layer: int = 0
    heads: tuple[int, ...] | None = None
    gate: Any = 1.0
    query_only: bool = False
    arguments: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not callable(self.function):
            raise UserError(
                f"rule: function is {self.function!r}: give a function(batch, activations)"
            )
        given = tuple(sorted((name, nested(name, v)) for name, v in self.arguments))
        self._keep(gate=gate_values(self.gate), arguments=given)

    def decides(self) -> Iterable[Decision]:
        return _decided(self.site, self.layer, self.heads)

    def holds(self, place: Place) -> Iterable[Hold]:
        yield place.hold(
            self.site,
            self.layer,
            self.function,
            heads=self.heads,
            gate=self.gate,
            arguments=dict(self.arguments),
            query_only=self.query_only,
        )

    def describe(self) -> str:
        words = [shown(self.site), shown(self.function)]
        words += [f"layer={self.layer}"] * (self.layer != 0)
        words += [f"heads={indices_shown(self.heads)}"] if self.heads else []
        words += [f"gate={shown(self.gate)}"] * (self.gate != 1)
        words += ["query_only=True"] * self.query_only
        words += [f"{name}={shown(value)}" for name, value in self.arguments]
        return f"rule({', '.join(words)})"


def rule(
    site: str,
    function: Callable[..., Any],
    *,
    layer: int = 0,
    heads: int | Sequence[int] | None = None,
    gate: Any = 1.0,
    query_only: bool = False,
    **arguments: Any,
) -> Clamp:
    """A rule of one's own gives a site's value.

    Args:
        site: a name of `ih_jax.model.sites.SITES`.
        function: `function(batch, activations, **arguments) -> value`, for one sequence:
            `batch.examples` [P, F], `batch.labels` [P] (language: `batch.tokens` [T]);
            `activations` has every site computed so
            far without a batch axis (`activations.pattern[-1]` is [H, Tq, Tk]), the value that
            stands at `site` included; the value broadcasts to the site's public shape.
        layer: which layer.
        heads: which heads hold it, at sites that have heads; None: all.
        gate: in [0, 1], broadcastable to the site's public shape; between 0 and 1 it blends.
        query_only: promise that the function is right when the last layer has only the query's
            row (Tq = 1); training is then faster.
        arguments: numbers or arrays, passed to the function; runs may differ in them. A name
            cannot be one of those above.
    """
    named = None if heads is None else head_indices(heads)
    given = tuple(arguments.items())
    return Clamp.of(OwnRule(site, function, layer, named, gate, query_only, given))
