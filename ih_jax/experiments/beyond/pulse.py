"""Parts of the circuit given for a while only: is there a critical period, what is the least dose?

Beyond the paper (Singh et al. 2024 clamps throughout training). Command: ih-jax run pulse. On 2 CPU
cores: about 12 minutes per seed (46 million sequences); with --quick 1.
Expected, if a pulse teaches what is then kept: longer pulses save more, at any time before the
phase change; if there is a critical period, early ones save more than later ones.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from scipy import stats

from ih_jax.claims import (
    Bounds,
    Claim,
    below,
    in_most,
    median,
    more_than,
    of_networks,
    thousands,
    time_of,
)
from ih_jax.experiments.base import Experiment, Found, Options, Table
from ih_jax.experiments.beyond.trainings import PULSED, PULSES
from ih_jax.experiments.drawing import QUIET, over_sequences, short, tidy
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


def of_the_rest(one: xr.Dataset, given: str) -> dict[int, float]:
    """By onset, the share of the time that is left then which the longest pulse saves.

    1 - (time - onset) / (time without - onset): what a late pulse cannot save does not count
    against it. If learning has no memory but its progress, the share does not depend on the onset.
    Onsets so late that the pulse would end after the task is learned are left out.
    """
    whole, longest = float(one["none"]), int(one["duration"].max())
    shares = {}
    for onset in one["onset"].values.tolist():
        if bool(one["none_censored"]) or onset + longest >= whole:
            continue
        time = float(one["time"].sel(given=given, onset=onset, duration=longest))
        shares[onset] = 1 - (time - onset) / (whole - onset)
    return shares


def critical(given: str) -> Callable[[xr.Dataset], float]:
    """Rank correlation over onsets of the onset with the share of the rest that is saved."""

    def value(one: xr.Dataset) -> float:
        shares = of_the_rest(one, given)
        if len(shares) < 2 or len(set(shares.values())) < 2:
            return float("nan")
        return float(stats.spearmanr(list(shares), list(shares.values())).statistic)

    return value


def _percent(share: Bounds) -> str:
    return share.show(lambda x: f"{100 * x:.0f}%") if np.isfinite(share.low) else "unknown"


CLAIMS = (
    *(
        Claim(
            f"a critical period: {WORDS[given]}",
            f"An early pulse of {WORDS[given]} saves more of the time that is left than a "
            "late one.",
            in_most("rank correlation", of_networks(critical(given)), below(0)),
            paper="not in the paper",
            source="ours",
            estimand="rank correlation, within a network, of a pulse's onset with 1 - (time - "
            "onset) / (time without a pulse - onset), the longest pulse; 0 if learning has no "
            "memory but its progress",
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
        cells = []
        for onset in results["onset"].values.tolist():
            each = [
                of_the_rest(results.sel(init=seed), given).get(onset, np.nan)
                for seed in results["init"].values.tolist()
            ]
            known = [value for value in each if np.isfinite(value)]
            shown = f"{100 * np.median(known):.0f}% ({len(known)})" if known else "-"
            cells.append(shown)
        rest.append([WORDS[given], *cells])
    onsets = [f"from {short(onset)}" for onset in results["onset"].values.tolist()]
    return [
        Table(
            "Share of the time that is left which the longest pulse saves: median (networks)",
            ("given", *onsets),
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
        for i, duration in enumerate(durations):
            shares = [_median(results, given, onset, duration) for onset in onsets]
            values = [100 * s.low if np.isfinite(s.low) else np.nan for s in shares]
            alpha = 0.3 + 0.7 * (i + 1) / len(durations)
            low.plot(
                onsets,
                values,
                "o-",
                color=COLOURS[given],
                ms=5,
                alpha=alpha,
                label=f"for {short(duration)}",
            )
        low.axhline(0, lw=0.8, color=QUIET)
        over_sequences(low, "onset of the pulse (sequences seen)")
        low.legend(frameon=False, fontsize=8)
        tidy(low)
    panels[0, 0].set_ylabel("training loss (nats)")
    panels[1, 0].set_ylabel("time to learn saved (%, at least)")
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
