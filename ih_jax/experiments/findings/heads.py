"""Induction heads from the start of training to its end: what `winner` and `specialists` read."""

from __future__ import annotations

import numpy as np
import xarray as xr

from ih_jax.claims import LEARNED, time_of
from ih_jax.data.batches import Batch
from ih_jax.experiments.base import Found, Options
from ih_jax.experiments.looking import along, probe
from ih_jax.measures.beginning import head_starts
from ih_jax.measures.heads import induction_strength
from ih_jax.measures.probes import subset
from ih_jax.tasks.base import Task

EARLY = 30_000  # sequences seen: about a thousand steps
GRADIENT_EVERY = 49  # sequences of the probe that a gradient is taken of
AT_START = ("strength", "copying", "growth")  # what is known of a head before training


def measure(options: Options, found: Found) -> xr.Dataset:
    """Strength [init, checkpoint, head]; loss [init, sequences]; copying, growth and alone.

    `copying` and `growth` [init, head] are those before training (`measures.beginning`); `alone`
    [init, head] is the time to learn of a network that has this head alone from the same initial
    weights, of its horizon where it did not learn.
    """

    def some(task: Task) -> Batch:
        return subset(probe(options)(task), GRADIENT_EVERY)

    main = found["main"]
    inits = options.inits
    strength = along(main, induction_strength, probe(options), inits=inits)
    begin = along(main, head_starts, some, steps=[0], inits=inits).isel(checkpoint=0, drop=True)
    loss = main.results["loss"].sel(clamp="none", drop=True)
    results = xr.merge(
        [strength.rename(induction_strength="strength"), begin, loss.sel(init=inits)]
    )
    return results.assign(alone=_alone(found["single_heads"].results))


def _alone(results: xr.Dataset) -> xr.DataArray:
    """[init, head] when a network with one head has learned."""
    loss = results["loss"].transpose("init", "clamp", "sequences")
    times = [
        [time_of(loss.isel(init=i, clamp=h)).low for h in range(loss.sizes["clamp"])]
        for i in range(loss.sizes["init"])
    ]
    coords = {"init": loss["init"].values, "head": range(loss.sizes["clamp"])}
    return xr.DataArray(times, coords, ("init", "head"))


def at_end(one: xr.Dataset) -> np.ndarray:
    """[head] the strengths of one network at the end."""
    return np.asarray(one["strength"].isel(checkpoint=-1).values, float)


def at(one: xr.Dataset, sequences: float) -> np.ndarray:
    """[head] the strengths of one network at the checkpoint next to so many sequences."""
    own = one["strength"].sel(checkpoint=sequences, method="nearest")
    return np.asarray(own.values, float)


def when_learned(one: xr.Dataset) -> np.ndarray:
    """[head] the strengths where the loss has fallen to 0.4 ln 2; NaN where it never has."""
    time = time_of(one["loss"], LEARNED)
    if not np.isfinite(time.high):
        return np.full(one.sizes["head"], np.nan)
    return at(one, time.low)


def winner(one: xr.Dataset) -> int:
    """The head that is strongest at the end."""
    return int(at_end(one).argmax())


def lead(values: np.ndarray) -> float:
    """How far the greatest is above the next."""
    first, second = np.sort(np.asarray(values, float))[::-1][:2]
    return float(first - second)
