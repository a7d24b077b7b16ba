"""Which head does what: found in the networks of `main` at the end of their training.

Heads differ between seeds, so nothing that speaks of "the strongest head" may name a number. Where
the networks are not there yet (only a cost is asked for), any heads stand for those to be found.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax import Array

from ih_jax.clamps.holds import Holds
from ih_jax.data.batches import Batch
from ih_jax.experiments.base import Found, Options
from ih_jax.measures.heads import first_layer_previous_token_strength, induction_strength
from ih_jax.measures.probes import by_context, exhaustive
from ih_jax.model.params import Params
from ih_jax.sweeps.array_labels import LABELS, Measure
from ih_jax.tasks.base import Task

AS_MANY = 3  # previous-token heads: as many as the paper chose in its network
PREVIOUS_TOKEN_CHOICES = ("strongest", "weakest", "three strongest", "all heads")


def worth(strength: np.ndarray) -> float:
    """How many equally strong heads these are worth: (sum s)^2 / sum s^2, of strengths above 0."""
    above = np.maximum(strength, 0)
    return float(above.sum() ** 2 / max(float(np.sum(above**2)), 1e-12))


def induction_heads(options: Options, found: Found) -> dict[int, int]:
    """By seed, the strongest head of layer 1 (Singh et al. 2024, section 3.1)."""
    strength = _last(options, found, induction_strength)
    if strength is None:
        return dict.fromkeys(options.inits, 3)
    return {seed: int(np.argmax(heads)) for seed, heads in strength.items()}


def previous_token_heads(options: Options, found: Found) -> dict[int, dict[str, list[int]]]:
    """By seed, heads of layer 0 by `PREVIOUS_TOKEN_CHOICES` (Singh et al. 2024, fig. 8).

    (The paper chose by eye, for seed 5: 2 strongest, 6 none, and three heads, 1, 2 and 5.)
    """
    strength = _last(options, found, first_layer_previous_token_strength)
    if strength is None:
        strength = dict.fromkeys(options.inits, np.arange(8.0))
    return {
        seed: {
            "strongest": [int(np.argmax(heads))],
            "weakest": [int(np.argmin(heads))],
            "three strongest": sorted(np.argsort(-heads)[:AS_MANY].tolist()),
            "all heads": list(range(len(heads))),
        }
        for seed, heads in strength.items()
    }


def by_rank(measure: Measure, score: Measure, layer: int) -> Measure:
    """A measure of a network whose heads of one layer are put in the order of a score, best first.

    So that "head 0" under the measure's clamps is the strongest one of every network.

    Args:
        measure: as `Trajectories.measure` takes it.
        score: a measure that gives [head], or [layer, head].
        layer: whose heads are put in order.
    """

    def of_network(params: Params, clamp: Holds, batch: Batch) -> Any:
        values = score(params, clamp, batch)
        order = jnp.argsort(-(values[layer] if values.ndim > 1 else values))
        blocks = list(params.blocks)
        attention = blocks[layer].attention
        by_head = {"smear": attention.smear, "distances": attention.distances}
        by_head = {k: each if each is None else each[order] for k, each in by_head.items()}
        blocks[layer] = replace(
            blocks[layer],
            attention=replace(
                attention,
                W_QKV=attention.W_QKV[:, order],
                W_out=attention.W_out[:, order],
                **by_head,
            ),
        )
        return measure(replace(params, blocks=tuple(blocks)), clamp, batch)

    labels = getattr(measure, LABELS, None)
    if labels is not None:
        setattr(of_network, LABELS, labels)
    return of_network


def _last(
    options: Options, found: Found, measure: Callable[..., Array]
) -> dict[int, np.ndarray] | None:
    """By seed, a measure of the trained `main` network over every training sequence."""
    if "main" not in found:
        return None
    main = found["main"]
    runs = [main.run(init=seed) for seed in options.inits]
    end = main.steps(runs[0])[-1]

    def probe(task: Task) -> Batch:
        return by_context(exhaustive(task))

    values = main.measure(measure, probe, runs=runs, steps=[end])
    assert isinstance(values, xr.DataArray)
    values = values.isel(clamp=0, sequences=0)
    return {seed: values.sel(init=seed).values for seed in options.inits}
