"""Variance components: how much of a number is due to initial weights, how much to the data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import scipy
import xarray as xr

from ih_jax.errors import UserError


class Components(NamedTuple):
    """Where the variance of a number over networks comes from; variances in its unit squared."""

    variance: Mapping[str, float]  # by part, and "rest": interactions and what is not repeatable
    share: Mapping[str, float]  # of their sum
    interval: Mapping[str, tuple[float, float]]  # 95%, of part / (part + rest)
    p: Mapping[str, float]  # that a part does nothing (F test)
    networks: int


def variance_components(values: xr.DataArray) -> Components:
    """Shares of the variance over networks, each of which stands for one value of every part.

    Crossed random effects without replicates: the estimates of the analysis of variance, below 0
    set to 0; for two parts the intervals are exact where the number is normal (Searle, Casella and
    McCulloch 1992, section 4.6). Take the log of times first, and leave no run out: for runs that
    did not learn give the last time, and say so.

    Args:
        values: one dim a part (init, draw), every combination there. Dims of length 1 are left out.

    Raises:
        UserError: fewer than two dims vary, or a value is missing.
    """
    values = values.squeeze(drop=True)
    if values.ndim < 2:
        raise UserError(
            f"only {' and '.join(map(str, values.dims)) or 'nothing'} varies: variance components "
            "need networks of several values of two parts or more, such as init and draw"
        )
    table = values.values.astype(float)
    least = (1e-12 * float(np.abs(table).max(initial=0))) ** 2  # what is left of 0 by rounding
    if not np.isfinite(table).all():
        raise UserError("a value is missing: give one for every combination of the parts")
    residual = table - table.mean()
    freedom = table.size - 1
    squares: dict[str, float] = {}
    sizes = {str(dim): length for dim, length in values.sizes.items()}
    for axis, dim in enumerate(sizes):
        others = tuple(i for i in range(table.ndim) if i != axis)
        means = table.mean(others, keepdims=True) - table.mean()
        mean_square = float(np.sum(means**2)) * (table.size / sizes[dim]) / (sizes[dim] - 1)
        squares[dim] = mean_square if mean_square > least else 0.0
        residual = residual - means
        freedom -= sizes[dim] - 1
    rest = float(np.sum(residual**2)) / freedom
    rest = rest if rest > least else 0.0
    variance, interval, p = {}, {}, {}
    for dim, square in squares.items():
        each = table.size / sizes[dim]  # networks of one value of this part
        variance[dim] = max(0.0, (square - rest) / each)
        quotient = square / rest if rest else math.inf if square else 0.0
        own = sizes[dim] - 1
        p[dim] = float(scipy.stats.f.sf(quotient, own, freedom))
        ends = [
            max(0.0, (quotient / float(scipy.stats.f.ppf(q, own, freedom)) - 1) / each)
            for q in (0.975, 0.025)
        ]
        interval[dim] = (_part(ends[0]), _part(ends[1]))
    variance["rest"] = rest
    total = sum(variance.values())
    share = {dim: own / total if total else math.nan for dim, own in variance.items()}
    return Components(variance, share, interval, p, table.size)


def _part(quotient: float) -> float:
    """part / rest as part / (part + rest)."""
    return 1.0 if math.isinf(quotient) else quotient / (1 + quotient)
