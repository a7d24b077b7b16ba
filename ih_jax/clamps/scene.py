"""Scenes: what a rule may look at when it gives a value, in the program's layout: batch last.

Layouts and the glossary of shapes: see `ih_jax.model.sites`. A rule of a user's own is written for
one sequence in the public layout; `of_function` makes a `Rule` of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ih_jax.clamps.holds import Rule
from ih_jax.data.batches import Batch, Sequences
from ih_jax.errors import UserError
from ih_jax.model.activations import Activations
from ih_jax.model.params import Config, Params
from ih_jax.model.sites import PAIRED_SITES, Sites, to_program

BLOCKED = -1e9  # a score that softmax turns into 0 while whole blocked rows stay finite


@dataclass
class Scene:
    """What a rule may look at: the batch, the sites computed so far and finished passes."""

    batch: Sequences
    config: Config
    layer: int
    site: str
    value: Array  # what stands at the site now
    sites: Sites
    given: Sites | None  # the clean pass, where a rule asks for it
    donor: Callable[[Params], Sites]  # a pass of another network over the same batch
    public: Callable[[], tuple[Activations, tuple[int, ...]]] = field(repr=False)
    # `Activations` so far, batch first, and the site's public shape without the batch

    @property
    def labels(self) -> Array:
        """[P, B] int32, the target last; few-shot only."""
        return self.few_shot.labels.T

    @property
    def few_shot(self) -> Batch:
        """The batch, for rules that read exemplars and labels. Raises UserError for another."""
        if not isinstance(self.batch, Batch):
            raise UserError(
                f"a clamp of {self.site} in layer {self.layer} applies only to few-shot batches, "
                f"and this one is {type(self.batch).__name__}: leave the clamp out"
            )
        return self.batch

    @property
    def halves(self) -> int:
        """R of the layouts in `ih_jax.model.sites`, at sites that have it."""
        return self.value.shape[0] if self.site in PAIRED_SITES else 1

    @property
    def positions(self) -> int:
        """T, of the whole sequence."""
        return self.batch.positions

    def source(self, base: str) -> Sites:
        """The pass that a rule reads: "clamped" is this one so far, "clean" the finished one."""
        if base == "clamped":
            return self.sites
        assert self.given is not None, "a rule reads a finished pass that was not computed"
        return self.given


def at_labels(weights: Array) -> Array:
    """[..., T, B] that has weights [..., P - 1, B] at label positions and 0 elsewhere."""
    pairs = jnp.stack([jnp.zeros_like(weights), weights], axis=-2)
    flat = pairs.reshape(*weights.shape[:-2], 2 * weights.shape[-2], weights.shape[-1])
    return jnp.pad(flat, [(0, 0)] * (flat.ndim - 2) + [(0, 1), (0, 0)])


@cache
def of_function(function: Callable[..., Array], name: str, query_only: bool) -> Rule:
    """A user's rule: `function(batch, activations, **arguments) -> value`, for one sequence.

    `batch.labels` is [P], `batch.examples` [P, F] (language: `batch.tokens` [T]); `activations` has
    what was computed so far in the public layout without a batch axis; the value broadcasts to the
    site's public shape.
    """

    def run(scene: Scene, **arguments: Array) -> Array:
        activations, shape = scene.public()
        batch = scene.batch
        if not isinstance(batch, Batch):
            sequences: Sequences = batch
        else:  # one table of exemplars for all
            B, P = batch.labels.shape
            rows = jnp.arange(B * P).reshape(B, P) if batch.rows is None else batch.rows
            sequences = replace(batch, table=jnp.zeros((B, 0)), rows=rows)

        def one(sequence: Sequences, activations: Activations) -> Array:
            if isinstance(batch, Batch) and isinstance(sequence, Batch):
                sequence = replace(sequence, table=batch.table)
            value = jnp.asarray(function(sequence, activations, **arguments), jnp.float32)
            try:
                fits = np.broadcast_shapes(value.shape, shape) == shape
            except ValueError:
                fits = False
            if not fits:
                raise UserError(
                    f"{name} gives shape {value.shape} at {scene.site} of layer {scene.layer}: "
                    f"give one that broadcasts to {shape}"
                )
            wide = value.reshape((1,) * (len(shape) - value.ndim) + value.shape)
            return jnp.broadcast_to(wide, shape)

        value = jax.vmap(one, out_axes=-1)(sequences, activations)
        return to_program(scene.site, value, scene.halves)

    return Rule(name, run, order=60, needs_all_rows=not query_only, elementwise=False, causal=False)
