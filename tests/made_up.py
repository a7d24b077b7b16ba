"""Made-up results of fig5b, whose runs learn when they are told to."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr

from ih_jax.claims import LEARNED
from ih_jax.experiments.singh2024.trainings import HORIZONS

PAPER = {
    "none": 311e3,
    "previous-token attention": 217e3,
    "layer1": 79e3,
    "match": 33e3,
    "copy": 41e3,
    "layer1+copy": 28e3,
}


def sweep(
    times: Mapping[str, float] = PAPER,
    seeds: int = 6,
    spread: float = 0.05,
    plateaus: tuple[str, ...] = ("none",),
    horizons: Mapping[str, int] = HORIZONS,
) -> xr.Dataset:
    """Results whose runs reach LEARNED at these times, some percent apart."""
    n = np.unique(np.append(0, np.geomspace(500, 8e5, 150).round()))
    loss = np.full((len(times), seeds, len(n)), np.nan)
    for i, (clamp, time) in enumerate(times.items()):
        for j in range(seeds):
            t = time * (1 + spread * (j - (seeds - 1) / 2) / seeds)
            if clamp in plateaus:
                curve = (0.7 + 1.3 * np.exp(-n / (t / 20))) / (1 + np.exp((n - t) / (t / 8)))
                curve *= LEARNED / np.interp(t, n, curve)
            else:
                curve = 2 * (LEARNED / 2) ** (n / t)
            loss[i, j] = np.where(n <= horizons[clamp], curve, np.nan)
    return xr.Dataset(
        {
            "loss": (("clamp", "init", "sequences"), loss),
            "diverged_at": (("clamp", "init"), np.full(loss.shape[:2], np.nan)),
        },
        coords={"clamp": list(times), "init": np.arange(5, 5 + seeds), "sequences": n},
    )
