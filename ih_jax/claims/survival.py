"""Times of which some are only known to be later: medians, and whether two sets differ."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy

from ih_jax.claims.bounds import Bounds
from ih_jax.errors import UserError


class Survival(NamedTuple):
    """Kaplan and Meier's median time."""

    median: float  # inf: fewer than half got there
    interval: tuple[float, float]  # 95%, Brookmeyer and Crowley 1982 (log-log); inf: not by the end
    reached: int  # runs that got there,
    runs: int  # of how many

    def show(self, scale: float = 1.0) -> str:
        """As a person would write it: 311 (290 to 352)."""
        ends = [f"{x / scale:.3g}" if math.isfinite(x) else "later" for x in self.interval]
        middle = f"{self.median / scale:.3g}" if math.isfinite(self.median) else "later"
        return f"{middle} ({ends[0]} to {ends[1]})"


def kaplan_meier(times: Sequence[Bounds]) -> Survival:
    """The median time over runs, those not there by the end of training included.

    Raises UserError without a run.
    """
    curve = scipy.stats.ecdf(_censored(times)).sf
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # 0 / 0 where no run is left
        bounds = curve.confidence_interval(method="log-log")
    at = curve.quantiles
    # Where nobody is left the bounds are 0 / 0: whatever is left is nobody.
    low = np.where(np.isfinite(bounds.low.probabilities), bounds.low.probabilities, 0.0)
    high = np.where(np.isfinite(bounds.high.probabilities), bounds.high.probabilities, np.inf)
    started = curve.probabilities < 1
    first = _first(at, curve.probabilities <= 0.5)
    reached = sum(time.low == time.high for time in times)
    interval = (_first(at, started & (low <= 0.5)), _first(at, started & (high <= 0.5)))
    return Survival(first, interval, reached, len(times))


def log_rank(a: Sequence[Bounds], b: Sequence[Bounds]) -> float:
    """p that two sets of unpaired times are of one distribution (Mantel and Cox).

    Raises UserError where one set is empty.
    """
    if not any(time.low == time.high for time in [*a, *b]):
        return 1.0  # nobody got there: no difference to see
    return float(scipy.stats.logrank(_censored(a), _censored(b)).pvalue)


def _first(at: np.ndarray, there: np.ndarray) -> float:
    return float(at[there.argmax()]) if there.any() else math.inf


def _censored(times: Sequence[Bounds]) -> scipy.stats.CensoredData:
    if not times:
        raise UserError("no times were given: give one of each run, as Bounds")
    return scipy.stats.CensoredData(
        [time.low for time in times if time.low == time.high],
        right=[time.low for time in times if time.low < time.high],
    )
