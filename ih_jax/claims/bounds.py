"""Numbers known only within bounds: their comparisons, medians and ratios.

A run that has not learned by the end of training only tells us that its time is longer than that.
So every quantity is a pair of bounds on a number, equal where the number is known. Bounds pass
through medians and ratios exactly, and a comparison that they leave open is None: `every` and
the verdicts follow three-valued (Kleene) logic.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class Bounds(NamedTuple):
    """A number known to be at least `low` and at most `high`."""

    low: float
    high: float

    @property
    def measured(self) -> bool:
        """Whether anything is known: neither bound is NaN."""
        return not (math.isnan(self.low) or math.isnan(self.high))

    def more_than(self, x: float) -> bool | None:
        """True or False where the bounds settle it, else None."""
        return True if self.low > x else False if self.high <= x else None

    def at_least(self, x: float) -> bool | None:
        """True or False where the bounds settle it, else None."""
        return True if self.low >= x else False if self.high < x else None

    def within(self, low: float, high: float) -> bool | None:
        """Whether it is from `low` to `high`, where the bounds settle it, else None."""
        above = self.more_than(high)
        return every([self.at_least(low), None if above is None else not above])

    def show(self, form: Callable[[float], str] = "{:.3g}".format) -> str:
        """As a person would write it: 12, >12, <12 or unknown."""
        if self.low == self.high:
            return form(self.low)
        if self.low < 0 and math.isfinite(self.low) and math.isfinite(self.high):
            return f"{form(self.low)} to {form(self.high)}"
        if self.high < math.inf:
            return f"<{form(self.high)}" if self.low <= 0 else f"{form(self.low)}-{form(self.high)}"
        return f">{form(self.low)}" if self.low not in (0, -math.inf) else "unknown"


UNMEASURED = Bounds(math.nan, math.nan)


class Effect(NamedTuple):
    """A number over networks: the median, and an interval of it (`intervals.of_median`)."""

    median: Bounds
    interval: tuple[float, float]
    coverage: float  # of the interval, when networks are drawn anew; at most 1 - 2^(1 - networks)
    networks: int

    def show(self, form: Callable[[float], str] = "{:.3g}".format) -> str:
        """As a person would write it."""
        if self.networks < 2:
            return f"{self.median.show(form)} ({self.networks} network)"
        ends = " to ".join("unbounded" if math.isinf(x) else form(x) for x in self.interval)
        return f"{self.median.show(form)} ({100 * self.coverage:.3g}% interval {ends})"


def every(verdicts: Iterable[bool | None]) -> bool | None:
    """False if one is, else None if one is (or there are none), else True."""
    verdicts = list(verdicts)
    if False in verdicts:
        return False
    return None if None in verdicts or not verdicts else True


def first_at(x: ArrayLike, so: ArrayLike) -> Bounds:
    """Between which two looks it is first so; beyond the last if never.

    Args:
        x: where it was looked, [T], rising, in the units of the answer.
        so: whether it is so there, [T].
    """
    x, at = np.asarray(x, float), np.flatnonzero(so)
    if not len(at):
        return Bounds(float(x[-1]), math.inf)
    return Bounds(float(x[max(at[0] - 1, 0)]), float(x[at[0]]))


def ratio(a: Bounds, b: Bounds) -> Bounds:
    """The ratio of two numbers that are not negative, such as times.

    NaN where either is; where both may be 0, or neither may ever be reached, from 0 to infinity.
    """
    if not (a.measured and b.measured):
        return UNMEASURED
    low, high = _quotient(a.low, b.high), _quotient(a.high, b.low)
    return Bounds(0.0 if math.isnan(low) else low, math.inf if math.isnan(high) else high)


def _quotient(a: float, b: float) -> float:
    if b:
        return a / b
    return math.inf if a else math.nan


def median(values: Sequence[Bounds]) -> Bounds:
    """The median: known if fewer than half are censored, NaN if there are no values."""
    if not values:
        return UNMEASURED
    # Of an even number the mean of the middle two, so one infinite bound makes it infinite.
    lows, highs = (np.sort(ends) for ends in zip(*values, strict=True))
    if np.isnan([lows[-1], highs[-1]]).any():
        return UNMEASURED
    two = slice((len(values) - 1) // 2, len(values) // 2 + 1)
    low, high = lows[two], highs[two]
    return Bounds(
        -math.inf if low[0] == -math.inf else float(low.mean()),
        math.inf if high[-1] == math.inf else float(high.mean()),
    )


def known(x: float) -> Bounds:
    """A number known exactly; NaN: not measured."""
    return Bounds(float(x), float(x))


def at_least(x: float) -> Callable[[Bounds], bool | None]:
    """A test of a claim: x or more."""
    return lambda value: value.at_least(x)


def at_most(x: float) -> Callable[[Bounds], bool | None]:
    """A test of a claim: x or less."""

    def test(value: Bounds) -> bool | None:
        above = value.more_than(x)
        return None if above is None else not above

    return test


def more_than(x: float) -> Callable[[Bounds], bool | None]:
    """A test of a claim: more than x."""
    return lambda value: value.more_than(x)


def yes(value: Bounds) -> bool | None:
    """A test of a claim: of what is yes or no itself."""
    return value.more_than(0.5)


def below(x: float) -> Callable[[Bounds], bool | None]:
    """A test of a claim: less than x."""

    def test(value: Bounds) -> bool | None:
        reached = value.at_least(x)
        return None if reached is None else not reached

    return test


def within(low: float, high: float) -> Callable[[Bounds], bool | None]:
    """A test of a claim: from `low` to `high`."""
    return lambda value: value.within(low, high)


def thousands(time: Bounds) -> str:
    """A time in sequences as figures and tables show it: 28k, >800k."""
    return time.show(lambda n: f"{n / 1000:.0f}k" if n >= 9950 else f"{n / 1000:.1f}k")
