"""Times of which some are only known to be later: medians, and whether two sets differ."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy

from ih_jax.claims.bounds import Bounds
from ih_jax.errors import UserError, given


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

    A time between two looks counts as that of the later one, at which it was seen. Raises UserError
    without a run, and for times that are NaN or infinite.
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
    reached = sum(time.high < math.inf for time in times)
    interval = (_first(at, started & (low <= 0.5)), _first(at, started & (high <= 0.5)))
    return Survival(first, interval, reached, len(times))


def log_rank(a: Sequence[Bounds], b: Sequence[Bounds]) -> float:
    """p that two sets of unpaired times are of one distribution (Mantel and Cox).

    Raises UserError where one set is empty, and for times that are NaN or infinite.
    """
    one, other = _censored(a), _censored(b)
    if all(time.high == math.inf for time in [*a, *b]):
        return 1.0  # nobody got there: no difference to see
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # 0 / 0:
        p = float(scipy.stats.logrank(one, other).pvalue)
    return 1.0 if math.isnan(p) else p  # all at once, or when none of the others was left


def _first(at: np.ndarray, there: np.ndarray) -> float:
    return float(at[there.argmax()]) if there.any() else math.inf


def _censored(times: Sequence[Bounds]) -> scipy.stats.CensoredData:
    if not times:
        raise UserError("no times were given: give one of each run, as Bounds")
    for time in times:
        if not math.isfinite(time.low) or math.isnan(time.high):
            raise UserError(
                f"a time is {given(time)}: leave out runs that were not measured, and give "
                "Bounds(end, inf) for one that was not there by the end of training"
            )
    return scipy.stats.CensoredData(
        [time.high for time in times if time.high < math.inf],
        right=[time.low for time in times if time.high == math.inf],
    )
