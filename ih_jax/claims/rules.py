"""Rules that decide claims: in most networks, no difference, pooled over heads, or exactly."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import scipy
import xarray as xr
from numpy.typing import NDArray

from ih_jax.claims import comparing
from ih_jax.claims.bounds import Bounds, Effect, every, known, median
from ih_jax.claims.comparing import Comparison, Reported
from ih_jax.claims.deciding import Finding, Rule, Verdict
from ih_jax.claims.intervals import (
    FEWEST,
    Interval,
    counted,
    of_median,
    of_rows,
    of_share,
    of_statistic,
)
from ih_jax.claims.networks import Measure, Network, Networks, networks_of
from ih_jax.errors import UserError, given

NARROW = 0.3  # an interval that contains the limit and is narrower says "mixed"

Form = Callable[[float], str]
Test = Callable[[Bounds], bool | None]
Statistic = Callable[[list[NDArray[np.float64]]], float]

plain: Form = "{:.3g}".format


def in_most(what: str, measure: Measure, test: Test, rate: float = 0.5, form: Form = plain) -> Rule:
    """Is it so in more than half of all networks, or more than another stated rate?

    The verdict is on the rate over networks, by its 95% interval (`intervals.of_share`).

    Args:
        what: the number's name.
        measure: the number of every network, or yes and no (`networks.of_networks`).
        test: of one network's number: True, False, or None where its bounds do not settle it. A
            direction (`bounds.more_than(0)`), or a bound that the paper's text states.
        rate: the stated rate, from 0 to 1.
        form: how one number is written.

    Raises:
        UserError: the rate is none; when judged, if the measure gives arrays.
    """
    if not 0 <= rate <= 1:
        raise UserError(f"rate is {given(rate)}: give a share of networks, from 0 to 1")

    def judge(networks: Networks) -> Finding:
        values = _numbers(networks)
        own = list(values)
        outcomes = [_outcome(test(value)) for value in values.values()]
        interval = of_share(outcomes, own)
        k = sum(outcome is True for outcome in outcomes)
        ours = [f"{k} of {len(own)}"]
        effects = {}
        if own and not _yes_or_no(values):
            effects[f"{what}, median"] = effect([*values.values()], [*values])
            ours.append(f"{what} {effects[f'{what}, median'].show(form)}")
        against = [key for key, seen in zip(own, outcomes, strict=True) if seen is False]
        unknown = [key for key, seen in zip(own, outcomes, strict=True) if seen is None]
        said = [f"not in {networks.named(against)}"] if against else []
        said += [f"cannot tell in {networks.named(unknown)}"] if unknown else []
        return Finding(
            verdict_of(interval, rate),
            "; ".join(ours) if own else "no network",
            (k, len(own)),
            interval,
            effects,
            _said(networks, said),
            networks=len(own),
            varies=networks.varies,
        )

    def compare(networks: Networks, reported: Reported) -> Comparison | None:
        values = list(_numbers(networks).values())
        if reported.share:
            outcomes = [_outcome(test(value)) for value in values]
            known = sum(outcome is not None for outcome in outcomes)
            return comparing.with_share((outcomes.count(True), known), reported.share)
        return _sizes(values, reported, form)

    limit = "half" if rate == 0.5 else f"{100 * rate:g}%"
    return Rule(measure, judge, compare, f"so in more than {limit} of networks")


def no_difference(what: str, measure: Measure, low: float, high: float, form: Form = plain) -> Rule:
    """Is the median over networks within a margin that was stated beforehand?

    For sentences such as "makes no difference": two one-sided tests at 5%, that is, whether the
    90% interval of the median lies inside the margin (replicates) or outside (fails).

    Args:
        what: the number's name: a paired difference or ratio.
        measure: the number of every network.
        low: from here on the difference is too small to matter,
        high: up to here.
        form: how one number is written.

    Raises:
        UserError: low is not below high; when judged, if the measure gives arrays.
    """
    if not low < high:
        raise UserError(f"the margin is {given(low)} to {given(high)}: give the lower end first")

    def judge(networks: Networks) -> Finding:
        values = _numbers(networks)
        ends = of_median(list(values.values()), list(values), 0.9)
        if counted(list(values)) < FEWEST:  # the least to the greatest is no 90% interval
            ends = (-math.inf, math.inf)
        verdict: Verdict = "too few networks"
        if low <= ends[0] and ends[1] <= high:
            verdict = "replicates"
        elif ends[1] < low or ends[0] > high:
            verdict = "fails"
        elif ends[1] - ends[0] < high - low:
            verdict = "mixed"
        shown = effect([*values.values()], [*values]) if values else None
        outside = [key for key, value in values.items() if value.within(low, high) is False]
        said = [f"outside the margin: {networks.named(outside)}"] if outside else []
        return Finding(
            verdict,
            f"{what} {shown.show(form)}" if shown else "no network",
            None,
            ends,
            {f"{what}, median": shown} if shown else {},
            _said(networks, said),
            networks=len(values),
            varies=networks.varies,
            estimate=_middle(shown.median) if shown else None,
        )

    def compare(networks: Networks, reported: Reported) -> Comparison | None:
        return _sizes(list(_numbers(networks).values()), reported, form)

    words = f"90% interval of the median within {form(low)} to {form(high)}"
    return Rule(measure, judge, compare, words)


def pooled(
    what: str,
    measure: Measure,
    statistic: Statistic,
    limit: float = 0.0,
    more: bool = True,
    form: Form = plain,
    rows: str = "heads",
) -> Rule:
    """Is something that is pooled over heads of all networks above a limit (or below)?

    Its interval resamples networks, each with all of its heads (`intervals.of_statistic`); a share
    of heads, the mean of zeros and ones, has that of a rate (`intervals.of_rows`).

    Args:
        what: its name.
        measure: an array of every network, [heads, columns].
        statistic: of the arrays of several networks, such as a correlation (`correlation`).
        limit: 0 for a direction; another only where the paper's text states it.
        more: False: below it.
        form: how it is written.
        rows: what the rows of the arrays are.

    Raises:
        UserError: when judged, if the measure gives numbers.
    """

    def judge(networks: Networks) -> Finding:
        samples = _arrays(networks)
        keys = list(networks.values)
        value = statistic(samples) if samples else math.nan
        if not samples:
            ends = (-math.inf, math.inf)
        elif _is_share(samples, value):
            ends = of_rows(samples, keys)
        else:
            ends = of_statistic(statistic, samples, keys)
        verdict = verdict_of(ends if more else (-ends[1], -ends[0]), limit if more else -limit)
        count = sum(len(sample) for sample in samples)
        shown = f"{form(ends[0])} to {form(ends[1])}" if math.isfinite(ends[0]) else "unknown"
        return Finding(
            verdict,
            f"{what} {form(value)} ({shown}; {count} {rows})" if samples else "no network",
            None,
            ends,
            {},
            _said(networks, []),
            networks=len(samples),
            varies=networks.varies,
            estimate=value if math.isfinite(value) else None,
        )

    def compare(networks: Networks, reported: Reported) -> Comparison | None:
        if not reported.pooled:
            return None
        samples, keys = _arrays(networks), list(networks.values)
        return comparing.with_pooled(statistic, samples, reported.pooled, keys)

    side = "above" if more else "below"
    return Rule(measure, judge, compare, f"95% interval {side} {form(limit)}, networks resampled")


def exactly(what: str, value: Callable[[xr.Dataset], Bounds | float | None], test: Test) -> Rule:
    """Is it so, where nothing is drawn: a toy model in closed form, one curve, a count of weights.

    Args:
        what: the number's name.
        value: of all results; None: cannot tell.
        test: of that number.
    """

    def measure(results: xr.Dataset) -> Networks:
        found = networks_of({(): value(results)})
        return Networks((), found.values or {(): known(math.nan)})

    def judge(networks: Networks) -> Finding:
        found = list(_numbers(networks).values())
        so = every(_outcome(test(one)) if one.measured else None for one in found)
        verdicts: dict[bool | None, Verdict]
        verdicts = {True: "replicates", False: "fails", None: "too few networks"}
        return Finding(verdicts[so], f"{what} {', '.join(o.show() for o in found)}", varies=())

    return Rule(measure, judge, lambda networks, reported: None, "exact: nothing is drawn")


def verdict_of(interval: Interval, limit: float = 0.5) -> Verdict:
    """The verdict on a statement that something is above a limit, by its 95% interval."""
    if interval[0] > limit:
        return "replicates"
    if interval[1] < limit:
        return "fails"
    return "mixed" if interval[1] - interval[0] < NARROW else "too few networks"


def correlation(ranks: bool = False) -> Statistic:
    """The correlation of two columns over all heads of some networks (Pearson's, or Spearman's)."""

    def statistic(samples: list[NDArray[np.float64]]) -> float:
        x, y = np.concatenate(samples).T
        if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
            return math.nan
        if ranks:
            x, y = scipy.stats.rankdata(x), scipy.stats.rankdata(y)
        return float(np.corrcoef(x, y)[0, 1])

    return statistic


def _sizes(values: list[Bounds], reported: Reported, form: Form) -> Comparison | None:
    theirs = reported.bounds()
    if not theirs or not values:
        return None
    if len(theirs) == 1:
        return comparing.with_one(values, theirs[0], form)
    return comparing.with_several(values, theirs)


def effect(values: Sequence[Bounds], networks: Sequence[Network] = ()) -> Effect:
    """The median over networks with its interval (`intervals.of_median`).

    `networks` says which parts each shares with others; empty: all are independent.
    """
    independent = counted(networks) if networks else len(values)
    coverage = max(0.0, min(0.95, 1 - 2.0 ** (1 - independent)))
    return Effect(median(values), of_median(values, networks), coverage, len(values))


def _numbers(networks: Networks) -> dict[Network, Bounds]:
    found = {key: value for key, value in networks.values.items() if isinstance(value, Bounds)}
    if len(found) < len(networks.values):
        raise UserError(
            "a claim takes one number of every network, or yes and no, and got arrays: give one "
            "number of each, or use pooled"
        )
    return found


def _arrays(networks: Networks) -> list[NDArray[np.float64]]:
    found = [value for value in networks.values.values() if isinstance(value, np.ndarray)]
    if len(found) < len(networks.values):
        raise UserError(
            "a pooled claim takes an array of every network, [heads, columns], and got one number "
            "of each: give arrays, and of a paper Reported(pooled=(value, n)); or use in_most"
        )
    return found


def _outcome(so: bool | None) -> bool | None:
    """Yes or no in Python, whatever a test returns of NumPy."""
    return None if so is None else bool(so)


def _is_share(samples: Sequence[NDArray[np.float64]], value: float) -> bool:
    """Whether a pooled number is the share of ones in one column of zeros and ones."""
    rows = np.concatenate(samples)
    share = rows.size == len(rows) and bool(np.isin(rows, (0, 1)).all())
    return share and math.isclose(value, rows.mean(), abs_tol=1e-12)


def _middle(value: Bounds) -> float | None:
    """Of what is known to two sides, the middle."""
    return sum(value) / 2 if value.low > -math.inf and value.high < math.inf else None


def _yes_or_no(values: dict[Network, Bounds]) -> bool:
    """Whether all that is told is yes and no."""
    told = {value for value in values.values() if value != (-math.inf, math.inf)}
    return told <= {(0.0, 0.0), (1.0, 1.0)}


def _said(networks: Networks, said: Sequence[str]) -> str:
    missing = list(networks.missing)
    left = [f"left out, not measured: {networks.named(missing)}"] if missing else []
    return "; ".join([*said, *networks.remarks, *left])
