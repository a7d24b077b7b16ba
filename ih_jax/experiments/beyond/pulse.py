"""Parts of the circuit given for a while only: is there a critical period, what is the least dose?

Beyond the paper (Singh et al. 2024 clamps throughout training). Command: ih-jax run pulse. On 2 CPU
cores: about 12 minutes per seed (46 million sequences); with --quick 1.
Expected, if a pulse teaches what is then kept: longer pulses save more, at any time before the
phase change. A late pulse can save only what is left, so that early ones save more anyway; if there
is a critical period, they save a larger share of what is left when they end.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ih_jax.claims import (
    Bounds,
    Claim,
    in_most,
    median,
    more_than,
    of_networks,
    pooled,
    thousands,
    time_of,
)
from ih_jax.claims.intervals import of_statistic
from ih_jax.experiments.base import Experiment, Found, Options, Table
from ih_jax.experiments.beyond.trainings import PULSED, PULSES
from ih_jax.experiments.drawing import FAINT, QUIET, over_sequences, short, tidy
from ih_jax.experiments.singh2024.trainings import CLAMPED

COLOURS = {"layer1": "#0072B2", "match": "#D55E00", "copy": "#009E73"}
WORDS = {"layer1": "A (layer 1)", "match": "A and B (match)", "copy": "C (copy)"}
SAVES = 0.1  # of the time without a pulse: a dose counts from here on


def measure(options: Options, found: Found) -> xr.Dataset:
    """Time to learn [given, onset, duration, init] and `none` [init]; `censored`: not by the end.

    And the curves with the longest pulse, [given, onset, init, sequences]. The runs without a
    pulse are those of fig. 5b, which train for longer.
    """
    results = found["pulses"].results["loss"]
    free_loss = found["clamps"].results["loss"].sel(clamp="none", drop=True)
    names = [name for name in results["clamp"].values.tolist() if name != "none"]
    keys = [_read(name) for name in names]
    onsets, durations = (sorted({key[i] for key in keys}) for i in (1, 2))
    seeds = results["init"].values.tolist()
    shape = (len(PULSED), len(onsets), len(durations), len(seeds))
    time, censored = np.full(shape, np.nan), np.zeros(shape, bool)
    curve = np.full((*shape[:2], len(seeds), results.sizes["sequences"]), np.nan)
    for name, (given, onset, duration) in zip(names, keys, strict=True):
        at = (PULSED.index(given), onsets.index(onset), durations.index(duration))
        if duration == durations[-1]:
            curve[at[:2]] = results.sel(clamp=name).transpose("init", "sequences")
        for i, seed in enumerate(seeds):
            found_time = time_by_itself(results.sel(clamp=name, init=seed), onset, duration)
            time[(*at, i)], censored[(*at, i)] = found_time.low, found_time.low < found_time.high
    none_curve = results.sel(clamp="none").transpose("init", "sequences").values
    free = [time_of(free_loss.sel(init=seed)) for seed in seeds]
    dims = ("given", "onset", "duration", "init")
    return xr.Dataset(
        {
            "time": (dims, time),
            "censored": (dims, censored),
            "curve": (("given", "onset", "init", "sequences"), curve),
            "none": ("init", [each.low for each in free]),
            "none_censored": ("init", [each.low < each.high for each in free]),
            "none_curve": (("init", "sequences"), none_curve),
        },
        {
            "given": list(PULSED),
            "onset": onsets,
            "duration": durations,
            "init": seeds,
            "sequences": results["sequences"],
        },
    )


def time_by_itself(curve: xr.DataArray, onset: float, duration: float) -> Bounds:
    """When a network has learned, [sequences], leaving out what it does while given a part."""
    n = curve["sequences"]
    stop = onset + duration
    time = time_of(curve.where((n < onset) | (n >= stop)))
    # Between the last loss before the pulse and the first after it nothing is known.
    low = stop if onset < time.low < stop else time.low
    return Bounds(low, max(low, time.high))


def _read(name: str) -> tuple[str, int, int]:
    given, pulse = name.rsplit(" ", 1)
    onset, duration = pulse.split("+")
    return given, int(onset), int(duration)


def saved_of(one: xr.Dataset, given: str, onset: int, duration: int) -> Bounds:
    """The share of one network's time without a pulse that a pulse saves (negative: it costs)."""
    here = one.sel(given=given, onset=onset, duration=duration)
    whole, time = float(one["none"]), float(here["time"])
    if bool(one["none_censored"]):  # at least this long: at least this much saved
        low = 1 - time / whole if not bool(here["censored"]) else -np.inf
        return Bounds(low, 1.0)
    share = 1 - time / whole
    return Bounds(-np.inf if bool(here["censored"]) else share, share)


def saved(results: xr.Dataset, given: str, onset: int, duration: int) -> dict[int, Bounds]:
    """`saved_of` by network."""
    return {
        seed: saved_of(results.sel(init=seed), given, onset, duration)
        for seed in results["init"].values.tolist()
    }


def _median(results: xr.Dataset, given: str, onset: int, duration: int) -> Bounds:
    return median(list(saved(results, given, onset, duration).values()))


def helps(given: str) -> Callable[[xr.Dataset], Bounds]:
    """Share of the time saved by the longest pulse from the start."""
    return lambda one: saved_of(one, given, int(one["onset"].min()), int(one["duration"].max()))


def dose(one: xr.Dataset) -> float:
    """Time saved by the longest pulse less that by the shortest: mean over parts and onsets."""
    time = one["time"]
    longest, shortest = (time.sel(duration=f(one["duration"])) for f in (np.max, np.min))
    return float((shortest - longest).mean() / one["none"])


def left(one: xr.Dataset, given: str) -> dict[int, tuple[float, float]]:
    """By onset, the sequences left to learn when the longest pulse ends: with it, and without it.

    Counted from the end of a pulse, so that neither what is over nor the pulse itself is something
    that a late one could have saved. Onsets whose pulse would end after the task is learned are
    left out. A run that has not learned by its end counts as one that nothing was saved of.
    """
    whole, longest = float(one["none"]), int(one["duration"].max())
    found = {}
    for onset in one["onset"].values.tolist():
        end = onset + longest
        if bool(one["none_censored"]) or end >= whole:
            continue
        here = one.sel(given=given, onset=onset, duration=longest)
        time = max(float(here["time"]), whole if bool(here["censored"]) else end)
        found[onset] = (time - end, whole - end)
    return found


def early_and_late(given: str) -> Callable[[xr.Dataset], np.ndarray]:
    """[1, 4] of a network: left with and without the earliest pulse, and the latest that counts."""

    def value(one: xr.Dataset) -> np.ndarray:
        found = left(one, given)
        if len(found) < 2:
            return np.zeros((0, 4))
        return np.array([[*found[min(found)], *found[max(found)]]])

    return value


def share(rows: np.ndarray) -> float:
    """Of rows (with, without): the share of what is left that pulses save, over all networks."""
    return float(1 - rows[:, 0].sum() / rows[:, 1].sum())


def early_less_late(samples: list[np.ndarray]) -> float:
    """How much more of what is left the earliest pulses save than the latest."""
    rows = np.concatenate(samples)
    return share(rows[:, :2]) - share(rows[:, 2:])


def _percent(share: Bounds) -> str:
    return share.show(lambda x: f"{100 * x:.0f}%") if np.isfinite(share.low) else "unknown"


CLAIMS = (
    *(
        Claim(
            f"a critical period: {WORDS[given]}",
            f"An early pulse of {WORDS[given]} saves a larger share of what is left to learn after "
            "it than a late one.",
            pooled(
                "share, early less late",
                of_networks(early_and_late(given)),
                early_less_late,
                rows="networks",
            ),
            paper="not in the paper",
            source="ours",
            estimand="share of the sequences left at the end of the longest pulse that it saves, 1 "
            "- sum of (time - end) / sum of (time without a pulse - end) over networks: of the "
            "earliest onset less of the latest; 0 if learning has no memory but its progress",
            kind="hypothesis",
        )
        for given in PULSED
    ),
    *(
        Claim(
            f"a pulse helps: {WORDS[given]}",
            f"The longest pulse of {WORDS[given]} from the start on saves time.",
            in_most("share saved", of_networks(helps(given)), more_than(0)),
            paper="not in the paper",
            source="ours",
            estimand="1 - time / time without a pulse",
            kind="hypothesis",
            primary=False,
        )
        for given in PULSED
    ),
    Claim(
        "longer is better",
        "The longest pulse saves more time than the shortest.",
        in_most("share of the time", of_networks(dose), more_than(0)),
        paper="not in the paper",
        source="ours",
        estimand="time with the shortest pulse less that with the longest, over the time without: "
        "mean over parts and onsets (runs not finished by then at their end)",
        kind="hypothesis",
        primary=False,
    ),
)


def _left_at(given: str, onset: int) -> Callable[[xr.Dataset], np.ndarray]:
    """[1, 2] of a network: left at the end of the pulse with it and without; none where unknown."""

    def value(one: xr.Dataset) -> np.ndarray:
        found = left(one, given)
        return np.array([found[onset]]) if onset in found else np.zeros((0, 2))

    return value


def tables(results: xr.Dataset) -> list[Table]:
    """Shares saved, and the smallest doses."""
    rows, doses = [], []
    durations = sorted(results["duration"].values.tolist())
    for given in results["given"].values.tolist():
        for onset in results["onset"].values.tolist():
            shares = [_median(results, given, onset, d) for d in durations]
            rows.append([WORDS[given], short(onset), *(_percent(share) for share in shares)])
            enough = [d for d, share in zip(durations, shares, strict=True) if share.low >= SAVES]
            doses.append([WORDS[given], short(onset), short(enough[0]) if enough else "none"])
    none = thousands(
        median(
            [
                Bounds(float(t), float("inf") if c else float(t))
                for t, c in zip(
                    results["none"].values, results["none_censored"].values, strict=True
                )
            ]
        )
    )
    rest = []
    for given in results["given"].values.tolist():
        for onset in results["onset"].values.tolist():
            found = of_networks(_left_at(given, onset))(results)
            some = [np.asarray(value) for value in found.values.values()]
            if not some:
                rest.append([WORDS[given], short(onset), "0", "-", "-"])
                continue
            ends = of_statistic(lambda each: share(np.concatenate(each)), some, list(found.values))
            rows_ = np.concatenate(some)
            known = f" ({ends[0]:.2f} to {ends[1]:.2f})" if np.isfinite(ends).all() else ""
            saved_ = f"{float(np.median(rows_[:, 1] - rows_[:, 0])):,.0f}"
            rest.append(
                [WORDS[given], short(onset), str(len(some)), f"{share(rows_):.2f}{known}", saved_]
            )
    return [
        Table(
            "What the longest pulse saves of what is left at its end (without memory: the same at "
            "every onset)",
            ("given", "from", "networks", "share of it (95%)", "sequences, median"),
            rest,
        ),
        Table(
            f"Share of the time to learn ({none} without a pulse) that a pulse saves, medians",
            ("given", "from", *(f"for {short(d)}" for d in durations)),
            rows,
        ),
        Table(
            f"Shortest pulse tried that saves {SAVES:.0%} of it", ("given", "from", "dose"), doses
        ),
    ]


def draw(results: xr.Dataset) -> Figure:
    """Above the curves with the longest pulse; below what pulses save, by onset."""
    figure = Figure(figsize=(12.5, 6.6), layout="constrained")
    panels = figure.subplots(2, 3, sharey="row")
    durations = sorted(results["duration"].values.tolist())
    onsets = results["onset"].values.tolist()
    curves, free = results["curve"], results["none_curve"]
    if "init" in curves.dims:
        curves, free = curves.median("init"), free.median("init")
    else:  # the first round kept medians, of every duration
        curves = curves.sel(duration=durations[-1])
    for column, given in enumerate(results["given"].values.tolist()):
        top, low = panels[:, column]
        top.plot(results["sequences"], free, color="black", lw=1.8, label="no pulse")
        for i, onset in enumerate(onsets):
            alpha = 0.35 + 0.65 * (i + 1) / len(onsets)
            curve = curves.sel(given=given, onset=onset)
            top.plot(
                results["sequences"],
                curve,
                color=COLOURS[given],
                alpha=alpha,
                lw=1.4,
                label=f"from {short(onset)}",
            )
            top.axvspan(onset, onset + durations[-1], color=COLOURS[given], alpha=0.08, lw=0)
        top.set(ylim=(0, 2.1), xlim=(0, float(results["sequences"][-1])))
        over_sequences(top)
        top.legend(frameon=False, fontsize=8)
        tidy(top, f"{WORDS[given]} given for {short(durations[-1])}: medians")
        each = [left(results.sel(init=i), given) for i in results["init"].values.tolist()]
        for found in each:
            own = [1 - a / b for a, b in found.values()]
            low.plot(list(found), own, "-", color=COLOURS[given], lw=0.8, alpha=0.4)
        pooled_ = {
            onset: share(np.array([found[onset] for found in each if onset in found]))
            for onset in onsets
            if any(onset in found for found in each)
        }
        low.plot(
            list(pooled_),
            list(pooled_.values()),
            "o-",
            color=COLOURS[given],
            lw=2,
            label="of what is left at its end",
        )
        if pooled_:
            null = next(iter(pooled_.values()))
            low.axhline(null, lw=0.9, ls="--", color=QUIET, label="the same, without memory")
        whole = [_median(results, given, onset, durations[-1]).low for onset in onsets]
        known = [value if np.isfinite(value) else np.nan for value in whole]
        low.plot(onsets, known, "s:", color=FAINT, ms=4, label="of the whole time (falls anyway)")
        low.axhline(0, lw=0.8, color=QUIET)
        low.set(ylim=(-0.35, 1.0))
        over_sequences(low, "onset of the pulse (sequences seen)")
        low.legend(frameon=False, fontsize=7.5, loc="lower left")
        tidy(low)
    panels[0, 0].set_ylabel("training loss (nats)")
    panels[1, 0].set_ylabel("share saved by the longest pulse")
    return figure


experiment = Experiment(
    name="pulse",
    title="Is there a critical period for a circuit's parts?",
    paper="beyond Singh et al. 2024",
    summary="Parts of the circuit are given, perfect, from an onset on for a while, and then taken "
    "away again. A head's match needs what layer 0 would bring it, so that giving B gives A too. "
    "Head 3 of layer 1 does the induction; time is that until the training loss falls below "
    "0.4 ln 2 without help: evaluations during the pulse do not count, its sequences do.",
    measure=measure,
    claims=CLAIMS,
    draw=draw,
    tables=tables,
    trainings=(CLAMPED, PULSES),
    seconds=lambda options: 3.0,
)
