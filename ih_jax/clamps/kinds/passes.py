"""Clamps that read other layers or finished passes: copying, a perfect layer, preserving, grafts.

Singh et al. 2024, sections 3 and 4; Olsson et al. 2022 for `preserve`. Each kind: its rule, the
class, the constructor. Rules have the program's layout: batch last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ih_jax.clamps.clamp import Clamp
from ih_jax.clamps.holds import Hold, Rule
from ih_jax.clamps.kind import Decision, Kind, clamp_kind
from ih_jax.clamps.kinds.attention import BASES
from ih_jax.clamps.place import Place
from ih_jax.clamps.scene import BLOCKED, Scene
from ih_jax.clamps.values import Weights, index, one_of, shown
from ih_jax.errors import UserError
from ih_jax.model.params import Config, Params

PRESERVED = {"patterns": "pattern", "values": "v", "queries": "q", "keys": "k"}


@cache
def _copy_from(layer: int, base: str) -> Rule:
    """[C, 1, B] logits: the scores of one head on the labels in context, `BLOCKED` elsewhere.

    `head` [H, 1, 1] is 1 at the head. A label that stands twice gets the log-sum-exp of its scores.
    """

    def copy(scene: Scene, head: Array) -> Array:
        scores = scene.source(base)["attn_scores"][layer][:, -1]  # [H, T, B]
        each = jnp.sum(head * scores[:, 1::2], axis=0)  # [P - 1, B]
        label = jnp.arange(scene.config.labels)[:, None, None]
        of_label = jnp.where(scene.labels[None, :-1] == label, each[None], BLOCKED)  # [C, P - 1, B]
        return jax.nn.logsumexp(of_label, axis=1)[:, None]

    given = base == "clean"
    return Rule(f"copy_from[{layer},{base}]", copy, rows="query", order=50, needs_given=given)


@clamp_kind("copy_from")
@dataclass(frozen=True)
class CopyFrom(Kind):
    """See `copy_from`."""

    reads_pairs = True

    layer: int
    head: int
    base: str = "clamped"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("base", self.base, BASES)

    def decides(self) -> Iterable[Decision]:
        return [Decision("logits", rows="query")]

    def holds(self, place: Place) -> Iterable[Hold]:
        place.few_shot_only()
        rule = _copy_from(place.layer(self.layer), self.base)
        head = {"head": place.by_head({self.head: 1.0}, "attn_scores")}
        yield place.hold("logits", 0, rule, arguments=head)


def copy_from(layer: int, head: int, base: str = "clamped") -> Clamp:
    """The query's logits are one head's attention scores on the labels in context, else -1e9.

    Gradients flow through the scores. base="clean" reads them from a pass without any clamp.
    """
    return Clamp.of(CopyFrom(layer, head, base))


def _previous_embedding(scene: Scene) -> Array:
    """[D, T, B]: positions 1 .. T - 2 hold the previous token's embedding, the others their own."""
    x = scene.sites["resid_pre"][0]
    return jnp.concatenate([x[:, :1], x[:, :-2], x[:, -1:]], axis=1)


_PERFECT = Rule("perfect_previous_layer", _previous_embedding, order=20)
_PLAIN = Rule("plain_input", lambda scene: scene.sites["resid_pre"][0], order=20)
# The earlier layer's own output, where a hold put something else on the residual stream.
_LEARNED = Rule("learned_input", lambda s: s.sites["resid_post"][s.layer - 1], order=19)


@clamp_kind("perfect_previous_layer")
@dataclass(frozen=True)
class PerfectPreviousLayer(Kind):
    """See `perfect_previous_layer`."""

    reads_pairs = True

    inputs: tuple[str, ...] = ("k", "q", "v")

    def __post_init__(self) -> None:
        super().__post_init__()
        chosen = tuple(sorted(set(self.inputs)))
        if not chosen or not set(chosen) <= {"q", "k", "v"}:
            raise UserError(f"perfect_previous_layer: inputs are {chosen}: give some of q, k, v")
        self._keep(inputs=chosen)

    def decides(self) -> Iterable[Decision]:
        sites = [f"{name}_input" for name in self.inputs]
        return [Decision(site, 1) for site in sites + ["resid_pre"] * ("v" in self.inputs)]

    def holds(self, place: Place) -> Iterable[Hold]:
        place.few_shot_only()
        held = {f"{name}_input": _PERFECT for name in ("q", "k") if name in self.inputs}
        if "v" in self.inputs:
            held |= {"resid_pre": _PLAIN}
            held |= {f"{name}_input": _LEARNED for name in ("q", "k") if name not in self.inputs}
        return [place.hold(site, 1, rule) for site, rule in held.items()]


def perfect_previous_layer(inputs: Sequence[str] | set[str] = ("q", "k", "v")) -> Clamp:
    """Layer 1 reads what a perfect layer 0 would give it (the paper's "Layer 1" clamp).

    Its query and key inputs are the embeddings in which positions 1 .. T-2 hold the *previous*
    token's embedding; its value input and the residual stream are the plain embeddings. Fewer
    inputs leave the others with what layer 0 learned ("v" stands for values and the stream).
    """
    return Clamp.of(PerfectPreviousLayer(tuple(inputs)))


def _preserve(scene: Scene) -> Array:
    """A site's own value in the clean pass."""
    return scene.source("clean")[scene.site][scene.layer]


_PRESERVE = Rule("preserve", _preserve, order=10, needs_given=True)


@clamp_kind("preserve")
@dataclass(frozen=True)
class Preserve(Kind):
    """See `preserve`. It is made to be combined, and decides nothing."""

    what: tuple[str, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.what:
            raise UserError(f"preserve: nothing named: give some of {', '.join(PRESERVED)}")
        for each in self.what:
            one_of("preserve", each, tuple(PRESERVED))
        self._keep(what=tuple(sorted(set(self.what))))

    def holds(self, place: Place) -> Iterable[Hold]:
        layers = range(place.config.layers)
        sites = [PRESERVED[what] for what in self.what]
        return [place.hold(site, layer, _PRESERVE) for site in sites for layer in layers]

    def describe(self) -> str:
        return f"preserve({', '.join(shown(each) for each in self.what)})"


def preserve(*what: str) -> Clamp:
    """Patterns, values, queries or keys come from a clean pass of the same weights.

    With `ablate` this is pattern- or value-preserving ablation (Olsson et al. 2022).
    """
    return Clamp.of(Preserve(what))


def _graft(scene: Scene, params: Params) -> Array:
    return scene.donor(params)["resid_post"][scene.layer]


_GRAFT = Rule("graft", _graft, order=20)


@clamp_kind("graft")
@dataclass(frozen=True)
class Graft(Kind):
    """See `graft`."""

    weights: Weights
    upto: int | None = None
    after: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.upto is None) == (self.after is None):
            raise UserError(
                f"graft(upto={self.upto}, after={self.after}): give exactly one of the two"
            )
        if not isinstance(self.weights, Weights):
            given = type(self.weights).__name__
            raise UserError(f"graft: weights are a {given}: give Params or Weights")
        index("upto" if self.after is None else "after", self._layer)

    @property
    def _layer(self) -> Any:
        return self.upto if self.after is None else self.after

    @property
    def of_weights(self) -> bool:
        return self.after is not None

    def decides(self) -> Iterable[Decision]:
        # The stream up to a layer, or the weights after one; a graft of each is two halves.
        return [Decision("stream" if self.after is None else "weights")]

    def holds(self, place: Place) -> Iterable[Hold]:
        layer = place.layer(self._layer)
        donor = self.weights.params
        if donor.config != place.config:
            raise place.error(
                f"the weights are of {donor.config}, the model is {place.config}: "
                "give weights of the same shape"
            )
        if self.after is None:
            yield place.hold("resid_post", layer, _GRAFT, arguments={"params": donor})

    def replaced(self, config: Config) -> tuple[Params, Params] | None:
        if self.after is None:
            return None

        def gate(value: float) -> Callable[[Any], np.ndarray]:
            return lambda leaf: np.full((1,) * np.ndim(leaf), value, np.float32)

        donor, after = self.weights.params, self.after
        own: Params = jax.tree.map(gate(0.0), donor)
        taken: Params = jax.tree.map(gate(1.0), donor)
        blocks = tuple(
            (taken if layer > after else own).blocks[layer] for layer in range(config.layers)
        )
        return replace(own, blocks=blocks, norm=taken.norm, W_U=taken.W_U, b_U=taken.b_U), donor


def graft(weights: Params | Weights, *, upto: int | None = None, after: int | None = None) -> Clamp:
    """Part of the network is another one, and does not learn (Singh et al. 2024, fig. 7).

    `upto=l`: the residual stream after layer l, embeddings included, is that of `weights`.
    `after=l`: the layers after l, the final norm and the unembedding are those of `weights`.
    """
    if isinstance(weights, Params):
        weights = Weights(weights)
    return Clamp.of(Graft(weights, upto, after))
