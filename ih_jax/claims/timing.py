"""Measures of claims about when networks learn: ratios of times, their order, plateaus.

They read `loss` and `diverged_at` of a sweep over clamps. All are paired: the clamps of one network
share its initial weights and its data. Networks of which a clamp diverged or was not run are left
out.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from ih_jax.claims.bounds import UNMEASURED, Bounds, every, ratio
from ih_jax.claims.learning import LEARNED, plateau, time_of
from ih_jax.claims.networks import Measure, of_networks


def times_as_long(slow: str, fast: str, level: float = LEARNED) -> Measure:
    """How many times as long one clamp takes as another to a loss below `level`, by network."""

    def value(network: xr.Dataset) -> Bounds:
        return ratio(time_with(network, slow, level), time_with(network, fast, level))

    return of_networks(value)


def in_order(*pairs: tuple[str, str], level: float = LEARNED) -> Measure:
    """Whether, of every (fast, slow), the first clamp learns sooner: yes, no or None, by network.

    An unfinished run says what it can: it is later than those that finished before its end.
    """

    def value(network: xr.Dataset) -> bool | Bounds | None:
        names = {name for pair in pairs for name in pair}
        times = {name: time_with(network, name, level) for name in names}
        if not all(time.measured for time in times.values()):
            return UNMEASURED
        return every(ratio(times[slow], times[fast]).more_than(1) for fast, slow in pairs)

    return of_networks(value)


def has_plateau(clamp: str, level: float = LEARNED) -> Measure:
    """Whether a clamp's learning curve has a plateau (`learning.plateau`), by network."""

    def value(network: xr.Dataset) -> bool | Bounds | None:
        if not time_with(network, clamp, level).measured:
            return UNMEASURED
        curve = network["loss"].sel(clamp=clamp).squeeze()
        found = plateau(curve["sequences"].values, curve.values, level)
        return found.seen

    return of_networks(value)


def time_with(network: xr.Dataset, clamp: str, level: float = LEARNED) -> Bounds:
    """When one network with this clamp learned; NaN where it diverged or was not run."""
    if clamp not in network["clamp"].values:
        return UNMEASURED
    own = network[["loss", "diverged_at"]].sel(clamp=clamp).squeeze()
    return UNMEASURED if np.isfinite(own["diverged_at"]) else time_of(own["loss"], level)
