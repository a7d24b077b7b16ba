"""Results of experiments beyond Singh et al. 2024 in which all claims are so, made up."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from made_up_singh import SEEDS, N, over, phase, smooth

from ih_jax.experiments.beyond.trainings import FACTORIAL, PULSED


def saddle() -> xr.Dataset:
    loss = phase(N)
    fall = (loss < 0.69) & (loss > 0.05)
    gradient = np.where(fall, 3.0, 0.3)
    lowest, highest = np.where(fall, -5.0, -1.0), np.full(len(N), 20.0)
    n = len(SEEDS)

    def every(x: np.ndarray) -> Any:
        return (("init", "checkpoint"), np.stack([x] * n))

    return xr.Dataset(
        {
            "loss": every(loss),
            "gradient_norm": every(gradient),
            "lowest": every(lowest),
            "highest": every(highest),
            "lowest_residual": every(np.full(len(N), 0.01)),
            "highest_residual": every(np.full(len(N), 0.01)),
        },
        {"init": SEEDS, "checkpoint": N},
    )


def factorial() -> xr.Dataset:
    slow = ("nothing", "previous token", "v", "q, k", "both", "copy", "previous token + copy")
    loss = np.stack([[phase(N) if name in slow else smooth(N)] * len(SEEDS) for name in FACTORIAL])
    return xr.Dataset(
        {
            "loss": (("clamp", "init", "sequences"), loss),
            "diverged_at": (("clamp", "init"), np.full(loss.shape[:2], np.nan)),
        },
        {"clamp": list(FACTORIAL), "init": SEEDS, "sequences": N},
    )


def pulses() -> xr.Dataset:
    onsets, durations = [0, 100_000], [10_000, 50_000]
    time = np.full((3, 2, 2, len(SEEDS)), 200e3)
    time[:, 1], time[:, :, 0] = 250e3, 280e3
    n = np.arange(0, 500_001, 25_000)
    return xr.Dataset(
        {
            "time": (("given", "onset", "duration", "init"), time),
            "censored": (("given", "onset", "duration", "init"), np.zeros(time.shape, bool)),
            "curve": (
                ("given", "onset", "init", "sequences"),
                np.broadcast_to(phase(n), (3, 2, len(SEEDS), len(n))),
            ),
            "none": ("init", np.full(len(SEEDS), 300e3)),
            "none_censored": ("init", np.zeros(len(SEEDS), bool)),
            "none_curve": over(n, *[phase(n)] * len(SEEDS)),
        },
        {
            "given": list(PULSED),
            "onset": onsets,
            "duration": durations,
            "init": SEEDS,
            "sequences": n,
        },
    )


def predicted(noise: float = 0.3, seeds: int = 4) -> xr.Dataset:
    """Parts vary by seed and setting; the whole is 8 times their geometric mean."""
    random = np.random.default_rng(0)
    shape = (seeds, 2, 2, 2)
    parts = np.exp(random.normal(math.log(40e3), noise, (3, *shape)))
    whole = 8 * np.exp(np.log(parts).mean(0)) * np.exp(random.normal(0, 0.03, shape))
    time = np.concatenate([whole[None], parts])
    return xr.Dataset(
        {
            "time": (("clamp", "init", "classes", "labels", "zipf"), time),
            "censored": (
                ("clamp", "init", "classes", "labels", "zipf"),
                np.zeros(time.shape, bool),
            ),
        },
        {
            "clamp": ["none", "layer1+copy", "match", "layer1"],
            "init": range(5, 5 + seeds),
            "classes": [50, 100],
            "labels": [5, 10],
            "zipf": [0.0, 1.0],
        },
    )


GOOD: dict[str, Callable[[], xr.Dataset]] = {
    "saddle": saddle,
    "factorial": factorial,
    "pulse": pulses,
    "predict": predicted,
}
