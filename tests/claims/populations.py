"""Made-up populations of networks in which what is true is known."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np
from scipy import stats

from ih_jax.claims.networks import Networks, networks_of

CROSSED = [(i, w, d) for i, (d, w) in enumerate(itertools.product(range(4), range(16)))]


def independent(values: Iterable[Any]) -> Networks:
    """Networks of initial weights of their own."""
    return networks_of(dict(enumerate(values)))


def crossed(rate: float, weights: float, draws: float, rng: np.random.Generator) -> list[bool]:
    """Yes or no in 16 initial weights x 4 draws, these shares of the variance due to either."""
    noise = np.sqrt(1 - weights - draws) * rng.normal(size=64)
    own = np.sqrt(weights) * rng.normal(size=16)[[w for _, w, _ in CROSSED]]
    drawn = np.sqrt(draws) * rng.normal(size=4)[[d for _, _, d in CROSSED]]
    return [bool(x) for x in stats.norm.ppf(rate) + own + drawn + noise > 0]


def mean(samples: list[np.ndarray]) -> float:
    """Over all heads of some networks."""
    return float(np.concatenate(samples).mean())


def nested(values: int, networks: int) -> list[tuple[int, int, int]]:
    """Keys of so many initial weights, each with so many draws of its own."""
    return [(i, i // networks, i) for i in range(values * networks)]


def shared(
    keys: list[tuple[int, int, int]], weights: float, draws: float, rng: np.random.Generator
) -> np.ndarray:
    """[networks] normal numbers, these shares of the variance due to weights and to draws."""
    _, own, drawn = np.array(keys).T
    return (
        np.sqrt(weights) * rng.normal(size=own.max() + 1)[own]
        + np.sqrt(draws) * rng.normal(size=drawn.max() + 1)[drawn]
        + np.sqrt(1 - weights - draws) * rng.normal(size=len(keys))
    )


def heads(networks: int, rng: np.random.Generator) -> tuple[list[np.ndarray], float]:
    """Strength and accuracy of eight heads a network, which share what their network is like.

    And the correlation in the whole population.
    """
    samples = []
    for _ in range(networks):
        x = 0.5 * rng.normal() + rng.normal(size=8)
        y = x + 0.5 * rng.normal() + 0.7 * rng.normal(size=8)
        samples.append(np.stack([x, y], axis=1))
    return samples, 1.25 / np.sqrt(1.25 * (1.25 + 0.25 + 0.49))
