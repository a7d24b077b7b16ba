"""Prediction of what was held out: who may teach what is said of whom, and how well it is said.

Networks share initial weights and draws of the data. What is said of one is learned from those
that share neither with it (`apart`); else a model would know it from its twins. Intervals resample
initial weights and draws (`claims.intervals`).

Glossary: N networks, K what is known of each, H heads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import special

from ih_jax.claims import Measure, Networks, of_networks
from ih_jax.claims.intervals import shared_parts
from ih_jax.claims.networks import Network

Floats = NDArray[np.float64]
PENALTY = 1.0  # of squared coefficients of standardised columns: as one network more that says 0
NEWTON = 50  # steps at most
LEAST = 3  # networks that are apart from one, for a model to learn from


def apart(networks: Sequence[Network]) -> NDArray[np.bool_]:
    """[N, N]: whether j may teach what is said of i, since they share no part that others do."""
    may = ~np.eye(len(networks), dtype=bool)
    for part in shared_parts(networks):
        may &= part[:, None] != part[None]
    return may


def linear(x: Floats, y: Floats, teachers: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """[N] twice: y said from x, [N, K], by ridge regression on teachers, and their mean of y.

    NaN where too few teach.
    """
    said, mean = np.full(len(y), np.nan), np.full(len(y), np.nan)
    for i, may in enumerate(teachers):
        if may.sum() < LEAST:
            continue
        middle, spread = x[may].mean(0), np.maximum(x[may].std(0), 1e-9)
        known = (x[may] - middle) / spread
        mean[i] = y[may].mean()
        square = known.T @ known + PENALTY * np.eye(x.shape[1])
        slopes = np.linalg.solve(square, known.T @ (y[may] - mean[i]))
        said[i] = mean[i] + (x[i] - middle) / spread @ slopes
    return said, mean


def choices(x: Floats, chosen: NDArray[np.int64], teachers: NDArray[np.bool_]) -> Floats:
    """[N, H]: the probability of every head, by a conditional logit on teachers.

    p_h is proportional to exp(b . x_h), x [N, H, K] standardised within each network. NaN where
    too few teach.
    """
    centred = x - x.mean(1, keepdims=True)
    z = centred / np.maximum(centred.std(1, keepdims=True), 1e-9)
    said = np.full(x.shape[:2], np.nan)

    for i, may in enumerate(teachers):
        if may.sum() >= LEAST:
            said[i] = special.softmax((z[i] * _logit(z[may], chosen[may])).sum(1))
    return said


def _logit(z: Floats, chosen: NDArray[np.int64]) -> Floats:
    """[K]: the coefficients of a conditional logit, by Newton's method."""
    b = np.zeros(z.shape[2])
    right = z[np.arange(len(chosen)), chosen].sum(0)
    for _ in range(NEWTON):
        p = special.softmax((z * b).sum(2), axis=1)[..., None]
        mean = (p * z).sum(1)
        slope = right - mean.sum(0) - PENALTY * b
        curve = np.einsum("nhk,nhl->kl", p * z, z) - mean.T @ mean + PENALTY * np.eye(len(b))
        b = b + np.linalg.solve(curve, slope)
        if np.abs(slope).max() < 1e-9:
            break
    return b


def told(
    known: Callable[[xr.Dataset], Sequence[float]], target: Callable[[xr.Dataset], float]
) -> Measure:
    """A measure of claims: [1, 2] of each network, squared errors of a linear model and of a mean.

    Args:
        known: of one network's results, K numbers; a network with a NaN is left out.
        target: what is said of it.
    """

    def measure(results: xr.Dataset) -> Networks:
        both = of_networks(lambda one: np.array([[target(one), *known(one)]], float))(results)
        keys = list(both.values)
        rows = np.array([np.asarray(both.values[key])[0] for key in keys])
        if not len(keys):
            return both
        said, mean = linear(rows[:, 1:], rows[:, 0], apart(keys))
        errors = np.stack([(said - rows[:, 0]) ** 2, (mean - rows[:, 0]) ** 2], axis=1)
        kept = {k: row[None] for k, row in zip(keys, errors, strict=True) if np.isfinite(row).all()}
        return Networks(both.varies, kept, both.missing)

    return measure


def told_by_twins(target: Callable[[xr.Dataset], float]) -> Measure:
    """As `told`, where the mean of networks with the same initial weights on other data says it."""

    def measure(results: xr.Dataset) -> Networks:
        own = of_networks(lambda one: np.array([[target(one)]], float))(results)
        keys = list(own.values)
        y = np.array([float(np.asarray(own.values[key])[0, 0]) for key in keys])
        rows, teachers = {}, apart(keys)
        for i, key in enumerate(keys):
            twins = [j for j, other in enumerate(keys) if j != i and key[1:2] == other[1:2] != ()]
            if twins and teachers[i].any():
                errors = [(y[twins].mean() - y[i]) ** 2, (y[teachers[i]].mean() - y[i]) ** 2]
                rows[key] = np.array([errors])
        return Networks(own.varies, rows, own.missing)

    return measure


def explained(samples: list[Floats]) -> float:
    """1 - sum of a model's squared errors / that of a mean: the share of the variance it tells."""
    model, mean = np.concatenate(samples).sum(0)
    return float(1 - model / mean) if mean > 0 else float("nan")


def average(samples: list[Floats]) -> float:
    """The mean of the first column."""
    return float(np.concatenate(samples)[:, 0].mean())
