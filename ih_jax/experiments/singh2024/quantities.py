"""Numbers of one network whose variance is told apart: what is due to weights, what to the data."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import xarray as xr

from ih_jax.claims import time_of

Quantities = Mapping[str, Callable[[xr.Dataset], float]]
STRONG = 0.5  # from which strength on an induction head counts


def log_time(network: xr.Dataset, clamp: str | None = None) -> float:
    """Of the sequences to learn (`claims.time_of`); of its horizon where it has not."""
    curve = network["loss"] if clamp is None else network["loss"].sel(clamp=clamp)
    return math.log(time_of(curve).low)


def times(clamps: Sequence[str]) -> Quantities:
    """When a network has learned, by clamp."""
    return {f"time to learn, {clamp}": partial(log_time, clamp=clamp) for clamp in clamps}


def _last(network: xr.Dataset) -> np.ndarray:
    return np.asarray(network["strength"].isel(checkpoint=-1).values)


OF_HEADS: Quantities = {
    "time to learn": log_time,
    "strength of the strongest induction head": lambda network: float(_last(network).max()),
    f"number of induction heads above {STRONG:g}": lambda network: float(
        (_last(network) > STRONG).sum()
    ),
    "sum of the strengths": lambda network: float(_last(network).sum()),
}
