"""Claims: sentences of a paper made checkable, and what decides them.

A claim is written before the runs that decide it. It gives a `Finding`: it holds, it does not, or
the results cannot tell. The last is common and honest: a run that has not learnt by the end of its
training tells only that its time is longer than that.

So every quantity here is a pair of bounds on a number, equal where the number is known. Bounds pass
through medians and ratios exactly, and a comparison that they do not settle is None; `every` and
the verdicts follow three-valued (Kleene) logic. Diverged runs are left out, and the finding says
which.

Glossary: results  the dataset of a finished sweep (dims clamp, init, sequences); "per seed" means
per value of `init`, the only thing that varies within a clamp.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import numpy as np
import xarray as xr
from scipy import stats

from ih_jax.errors import UserError
from ih_jax.measures.learning import LEARNED, plateaus, time_to, times_to

Verdict = Literal["holds", "does not hold", "undecidable"]
Grade = Literal["strong", "medium", "weak"]
VERDICTS: dict[bool | None, Verdict] = {
    True: "holds",
    False: "does not hold",
    None: "undecidable",
}


class Bounds(NamedTuple):
    """A number known to be at least `low` and at most `high`."""

    low: float
    high: float

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
        if self.high < math.inf:
            return f"<{form(self.high)}" if self.low <= 0 else f"{form(self.low)}-{form(self.high)}"
        return f">{form(self.low)}" if self.low > 0 else "unknown"


class Effect(NamedTuple):
    """A paired effect over seeds: the median and an exact, distribution-free interval of it."""

    median: Bounds
    interval: tuple[float, float]
    coverage: float  # of the interval, when seeds are drawn anew; at most 1 - 2^(1 - seeds)
    seeds: int

    def show(self) -> str:
        """As a person would write it."""
        if self.seeds < 2:
            return f"{self.median.show()} ({self.seeds} seed)"
        ends = " to ".join("unbounded" if math.isinf(x) else f"{x:.3g}" for x in self.interval)
        return f"{self.median.show()} ({100 * self.coverage:.3g}% interval {ends})"


@dataclass(frozen=True)
class Finding:
    """What the results say of one claim."""

    verdict: Verdict
    ours: str  # beside the paper's number
    share: tuple[int, int] | None = None  # seeds in which it is seen to hold, of how many
    interval: tuple[float, float] | None = None  # 95%, of the rate over seeds
    effects: Mapping[str, Effect] = field(default_factory=dict)
    detail: str = ""  # what was left out or could not be told


@dataclass(frozen=True)
class Claim:
    """One sentence of a paper, with what is computed to decide it."""

    name: str
    text: str
    paper: str  # the paper's number
    decide: Callable[[xr.Dataset], Finding]
    grade: Grade | None = None  # of the paper's own evidence, where it gives one


class Faster(NamedTuple):
    """`fast` takes less time than `slow`; with `by`, at most 1/`by` of it."""

    fast: str
    slow: str
    by: float | None = None

    def holds(self, fast: Bounds, slow: Bounds) -> bool | None:
        """For these two times."""
        quotient = ratio(slow, fast)
        return quotient.more_than(1) if self.by is None else quotient.at_least(self.by)


def every(verdicts: Iterable[bool | None]) -> bool | None:
    """False if one is, else None if one is (or there are none), else True."""
    verdicts = list(verdicts)
    if False in verdicts:
        return False
    return None if None in verdicts or not verdicts else True


def ratio(a: Bounds, b: Bounds) -> Bounds:
    """Of two positive numbers (0 only as a lower bound of what is not known)."""
    return Bounds(
        a.low / b.high if b.high < math.inf else 0.0, a.high / b.low if b.low > 0 else math.inf
    )


def median(values: Sequence[Bounds]) -> Bounds:
    """Known where fewer than half are censored. NaN if there are no values."""
    if not values:
        return Bounds(math.nan, math.nan)
    # Of an even number the mean of the middle two, so one infinite bound makes it infinite.
    return Bounds(*(float(np.median(ends)) for ends in zip(*values, strict=True)))


def rate(verdicts: Sequence[bool | None]) -> tuple[tuple[int, int], tuple[float, float] | None]:
    """(k, n) seeds in which it is seen to hold, and the rate's 95% interval (Clopper-Pearson).

    Seeds that cannot tell count against it at the lower end and for it at the upper.
    """
    n, k = len(verdicts), sum(verdict is True for verdict in verdicts)
    if not n:
        return (0, 0), None
    undecided = sum(verdict is None for verdict in verdicts)
    low = stats.binomtest(k, n).proportion_ci(0.95, "exact").low
    high = stats.binomtest(k + undecided, n).proportion_ci(0.95, "exact").high
    return (k, n), (float(low), float(high))


def effect(values: Sequence[Bounds]) -> Effect:
    """Median over seeds with the sign test's interval: the r-th least to the r-th greatest value.

    r is the largest with a coverage of at least 95%. Fewer than six seeds cannot reach that; then
    the interval is the least to the greatest value, and `coverage` says what that is worth.
    """
    n = len(values)
    least = np.sort([value.low for value in values])
    greatest = np.sort([value.high for value in values])
    r = max(1, int(stats.binom.ppf(0.025, n, 0.5)) if n else 1)
    coverage = 1 - 2 * float(stats.binom.cdf(r - 1, n, 0.5))
    ends = (float(least[r - 1]), float(greatest[n - r])) if n else (math.nan, math.nan)
    return Effect(median(values), ends, max(0.0, coverage), n)


class Learning(NamedTuple):
    """Times of a sweep's runs, by clamp and seed, and what was left out."""

    times: dict[str, dict[int, Bounds]]
    left_out: dict[str, dict[int, str]]

    def median(self, clamp: str) -> Bounds:
        """Over the seeds of one clamp."""
        return median(list(self.times.get(clamp, {}).values()))

    def ratios(self, slow: str, fast: str) -> list[Bounds]:
        """slow / fast of every seed that has both."""
        a, b = self.times.get(slow, {}), self.times.get(fast, {})
        return [ratio(a[seed], b[seed]) for seed in a if seed in b]

    def remarks(self, clamps: Iterable[str]) -> list[str]:
        """What a reader must know of these clamps."""
        said = [
            f"no run is called {clamp!r}"
            for clamp in dict.fromkeys(clamps)
            if clamp not in self.times
        ]
        for clamp in dict.fromkeys(clamps):
            for why in sorted(set(self.left_out.get(clamp, {}).values())):
                seeds = [s for s, reason in self.left_out[clamp].items() if reason == why]
                said.append(f"left out, {why}: {clamp}, init {_listed(seeds)}")
            late = [s for s, t in self.times.get(clamp, {}).items() if t.low < t.high]
            if late:
                said.append(f"not below the level by the end: {clamp}, init {_listed(late)}")
        return said


def learning(results: xr.Dataset, level: float = LEARNED) -> Learning:
    """Times to `level` on the training set. UserError where more than clamp and init vary.

    `results` needs `loss` and `diverged_at`, NaN for the runs that did not diverge.
    """
    results = one_setting(results)
    times = times_to(results["loss"], level)
    learned = Learning({}, {})
    for clamp in results["clamp"].values.tolist():
        learned.times[clamp], learned.left_out[clamp] = {}, {}
        for init in results["init"].values.tolist():
            run = times.sel(clamp=clamp, init=init)
            time = float(run["time"])
            if np.isfinite(results["diverged_at"].sel(clamp=clamp, init=init)):
                learned.left_out[clamp][init] = "diverged"
            elif math.isnan(time):
                learned.left_out[clamp][init] = "not measured"
            else:
                high = math.inf if bool(run["censored"]) else time
                learned.times[clamp][init] = Bounds(time, high)
    return learned


def one_setting(results: xr.Dataset) -> xr.Dataset:
    """Without swept dims of length 1. Raises UserError for a longer one."""
    loss = results["loss"]
    for dim in loss.dims:
        if dim not in ("clamp", "init", "sequences") and loss.sizes[dim] > 1:
            given = ", ".join(str(value) for value in loss[dim].values.tolist())
            raise UserError(f"{dim} varies ({given}): claims are for one; select it with .sel()")
    extra = [dim for dim in loss.dims if dim not in ("clamp", "init", "sequences")]
    return results.squeeze(extra)


def medians_ordered(*order: Faster) -> Callable[[xr.Dataset], Finding]:
    """Decides whether the medians over seeds of the time to LEARNED are in this order."""
    clamps = list(dict.fromkeys(name for pair in order for name in pair[:2]))

    def decide(results: xr.Dataset) -> Finding:
        times = learning(results)
        medians = {clamp: times.median(clamp) for clamp in clamps}
        known = sorted(clamps, key=lambda clamp: (math.isnan(medians[clamp].low), medians[clamp]))
        return Finding(
            _verdict(pair.holds(medians[pair.fast], medians[pair.slow]) for pair in order),
            ", ".join(f"{clamp} {thousands(medians[clamp])}" for clamp in known),
            effects={
                f"{pair.slow} / {pair.fast}": effect(times.ratios(pair.slow, pair.fast))
                for pair in order
            },
            detail="; ".join(times.remarks(clamps)),
        )

    return decide


def seeds_ordered(*order: Faster) -> Callable[[xr.Dataset], Finding]:
    """Decides whether the times to LEARNED are in this order within every seed, and the rate."""
    clamps = list(dict.fromkeys(name for pair in order for name in pair[:2]))

    def decide(results: xr.Dataset) -> Finding:
        times = learning(results)
        seeds = [
            seed
            for seed in results["init"].values.tolist()
            if all(seed in times.times.get(clamp, {}) for clamp in clamps)
        ]
        verdicts = [
            every(
                pair.holds(times.times[pair.fast][seed], times.times[pair.slow][seed])
                for pair in order
            )
            for seed in seeds
        ]
        return over_seeds(dict(zip(seeds, verdicts, strict=True)), times.remarks(clamps))

    return decide


def median_ratio(slow: str, fast: str, at_least: float) -> Callable[[xr.Dataset], Finding]:
    """Decides whether median time(slow) / median time(fast) is at least this."""

    def decide(results: xr.Dataset) -> Finding:
        times = learning(results)
        quotient = ratio(times.median(slow), times.median(fast))
        return Finding(
            _verdict([quotient.at_least(at_least)]),
            quotient.show(),
            effects={f"{slow} / {fast}": effect(times.ratios(slow, fast))},
            detail="; ".join(times.remarks([slow, fast])),
        )

    return decide


def plateau_in(clamp: str, present: bool) -> Callable[[xr.Dataset], Finding]:
    """Decides whether a plateau (`measure.learning.plateau`) is in every seed, or in none."""

    def decide(results: xr.Dataset) -> Finding:
        times = learning(results)
        seeds = list(times.times.get(clamp, {}))
        if not seeds:
            return Finding(_verdict([]), "no runs", detail="; ".join(times.remarks([clamp])))
        runs = plateaus(one_setting(results)["loss"].sel(clamp=clamp))
        verdicts: dict[int, bool | None] = {}
        rises: list[Bounds] = []
        for seed in seeds:
            run = runs.sel(init=seed)
            verdicts[seed] = bool(run["present"]) is present if bool(run["decided"]) else None
            known = times.times[clamp][seed].high < math.inf  # it may yet rise where it is not
            rises.append(Bounds(float(run["low"]), float(run["high"]) if known else math.inf))
        finding = over_seeds(verdicts, times.remarks([clamp]))
        return replace(
            finding,
            ours=f"{finding.ours}; speed rises {median(rises).show()}x",
            effects={f"rise of speed, {clamp}": effect(rises)},
        )

    return decide


def decide(claims: Iterable[Claim], results: xr.Dataset) -> list[tuple[Claim, Finding]]:
    """Every claim with its finding.

    NaN is what a claim finds that has nothing to compare (no previous-token head, say), and makes a
    verdict: NumPy need not warn of it as well.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return [(claim, claim.decide(results)) for claim in claims]


def thousands(time: Bounds) -> str:
    """A time in sequences as figures and tables show it: 28k, >800k."""
    return time.show(lambda n: f"{n / 1000:.0f}k" if n >= 9950 else f"{n / 1000:.1f}k")


def in_seeds(
    what: str,
    values: Mapping[int, Bounds],
    test: Callable[[Bounds], bool | None],
    remarks: Sequence[str] = (),
    form: Callable[[float], str] = "{:.3g}".format,
) -> Finding:
    """Whether a number passes a test in every seed, with its share of seeds and its median.

    Args:
        what: the number's name.
        values: the number by seed; NaN where it was not measured, which is left out and said.
        test: True, False, or None where the bounds do not settle it.
        remarks: what else a reader must know.
        form: how one number is written.
    """
    known = {seed: value for seed, value in values.items() if not math.isnan(value.low)}
    missing = [seed for seed in values if seed not in known]
    said = [f"left out, not measured: init {_listed(missing)}"] if missing else []
    finding = over_seeds({seed: test(v) for seed, v in known.items()}, [*remarks, *said])
    if not known:
        return finding
    numbers = list(known.values())
    ours = f"{finding.ours}; {what} {median(numbers).show(form)}"
    return replace(finding, ours=ours, effects={f"{what}, over seeds": effect(numbers)})


def in_every_seed(
    what: str,
    value: Callable[[xr.Dataset], float | Bounds],
    test: Callable[[Bounds], bool | None],
    form: Callable[[float], str] = "{:.3g}".format,
) -> Callable[[xr.Dataset], Finding]:
    """Decides whether `value(results of one seed)` passes a test in every seed (`in_seeds`)."""

    def decide(results: xr.Dataset) -> Finding:
        values = {}
        for seed in results["init"].values.tolist():
            found = value(results.sel(init=seed))
            values[seed] = found if isinstance(found, Bounds) else known(found)
        return in_seeds(what, values, test, form=form)

    return decide


def known(x: float) -> Bounds:
    """A number known exactly; NaN: not measured."""
    return Bounds(float(x), float(x))


def at_least(x: float) -> Callable[[Bounds], bool | None]:
    """A test for `in_seeds`."""
    return lambda value: value.at_least(x)


def at_most(x: float) -> Callable[[Bounds], bool | None]:
    """A test for `in_seeds`."""

    def test(value: Bounds) -> bool | None:
        above = value.more_than(x)
        return None if above is None else not above

    return test


def within(low: float, high: float) -> Callable[[Bounds], bool | None]:
    """A test for `in_seeds`: from `low` to `high`."""
    return lambda value: value.within(low, high)


def time_of(curve: xr.DataArray, level: float = LEARNED) -> Bounds:
    """When a loss curve, [sequences], falls below a level; from its last evaluation on if not."""
    time = time_to(curve["sequences"].values, curve.values, level)
    return Bounds(time.sequences, math.inf if time.censored else time.sequences)


def over_seeds(verdicts: Mapping[int, bool | None], remarks: Sequence[str] = ()) -> Finding:
    """Whether something holds in every seed, given what is seen in each, and the rate."""
    share, interval = rate(list(verdicts.values()))
    against = [seed for seed, verdict in verdicts.items() if verdict is False]
    undecided = [seed for seed, verdict in verdicts.items() if verdict is None]
    said = [f"not in init {_listed(against)}"] if against else []
    said += [f"cannot tell in init {_listed(undecided)}"] if undecided else []
    ours = f"{share[0]} of {share[1]} seeds" if share[1] else "no seed with all runs"
    detail = "; ".join([*said, *remarks])
    return Finding(_verdict(verdicts.values()), ours, share, interval, detail=detail)


def _verdict(verdicts: Iterable[bool | None]) -> Verdict:
    return VERDICTS[every(verdicts)]


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(str(seed) for seed in seeds)
