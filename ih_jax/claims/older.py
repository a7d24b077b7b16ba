"""Rules of the first round, "in every seed": only until the last claim is written anew.

"Per seed" means per value of `init`, the only thing that varies within a clamp.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import xarray as xr

from ih_jax.claims.bounds import (
    Bounds,
    effect,
    every,
    known,
    median,
    rate,
    ratio,
    thousands,
)
from ih_jax.claims.deciding import Finding, Verdict
from ih_jax.claims.learning import learning_times, listed, one_setting, plateaus

VERDICTS: dict[bool | None, Verdict] = {
    True: "holds",
    False: "does not hold",
    None: "undecidable",
}


class Faster(NamedTuple):
    """`fast` takes less time than `slow`; with `by`, at most 1/`by` of it."""

    fast: str
    slow: str
    by: float | None = None

    def holds(self, fast: Bounds, slow: Bounds) -> bool | None:
        """For these two times."""
        quotient = ratio(slow, fast)
        return quotient.more_than(1) if self.by is None else quotient.at_least(self.by)


def medians_ordered(*order: Faster) -> Callable[[xr.Dataset], Finding]:
    """Decides whether the medians over seeds of the time to LEARNED are in this order."""
    clamps = list(dict.fromkeys(name for pair in order for name in pair[:2]))

    def decide(results: xr.Dataset) -> Finding:
        times = learning_times(results)
        medians = {clamp: times.median(clamp) for clamp in clamps}
        known = sorted(clamps, key=lambda clamp: (math.isnan(medians[clamp].low), medians[clamp]))
        return Finding(
            verdict_of(pair.holds(medians[pair.fast], medians[pair.slow]) for pair in order),
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
        times = learning_times(results)
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
        times = learning_times(results)
        quotient = ratio(times.median(slow), times.median(fast))
        return Finding(
            verdict_of([quotient.at_least(at_least)]),
            quotient.show(),
            effects={f"{slow} / {fast}": effect(times.ratios(slow, fast))},
            detail="; ".join(times.remarks([slow, fast])),
        )

    return decide


def plateau_in(clamp: str, present: bool) -> Callable[[xr.Dataset], Finding]:
    """Decides whether a plateau (`claims.learning.plateau`) is in every seed, or in none."""

    def decide(results: xr.Dataset) -> Finding:
        times = learning_times(results)
        seeds = list(times.times.get(clamp, {}))
        if not seeds:
            return Finding(verdict_of([]), "no runs", detail="; ".join(times.remarks([clamp])))
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
        values: the number by seed; NaN where it was not measured, which is left out and reported.
        test: True, False, or None where the bounds do not settle it.
        remarks: what else a reader should know.
        form: how one number is written.
    """
    measured = {seed: value for seed, value in values.items() if not math.isnan(value.low)}
    missing = [seed for seed in values if seed not in measured]
    said = [f"left out, not measured: init {listed(missing)}"] if missing else []
    finding = over_seeds({seed: test(v) for seed, v in measured.items()}, [*remarks, *said])
    if not measured:
        return finding
    numbers = list(measured.values())
    ours = f"{finding.ours}; {what} {median(numbers).show(form)}"
    return replace(finding, ours=ours, effects={f"{what}, over seeds": effect(numbers)})


def over_seeds(verdicts: Mapping[int, bool | None], remarks: Sequence[str] = ()) -> Finding:
    """Whether something holds in every seed, given what is seen in each, and the rate."""
    share, interval = rate(list(verdicts.values()))
    against = [seed for seed, verdict in verdicts.items() if verdict is False]
    undecided = [seed for seed, verdict in verdicts.items() if verdict is None]
    said = [f"not in init {listed(against)}"] if against else []
    said += [f"cannot tell in init {listed(undecided)}"] if undecided else []
    ours = f"{share[0]} of {share[1]} seeds" if share[1] else "no seed with all runs"
    detail = "; ".join([*said, *remarks])
    return Finding(verdict_of(verdicts.values()), ours, share, interval, detail=detail)


def verdict_of(verdicts: Iterable[bool | None]) -> Verdict:
    """The verdict on a claim that asserts all of these (`bounds.every`)."""
    return VERDICTS[every(verdicts)]
