"""Figure 5b: which subcircuits of an induction head, when clamped, remove the plateau?

Paper: Singh et al. 2024, section 4 and fig. 5b. Command: ih-jax run fig5b. On 2 CPU cores: about
2.5 minutes for the default two seeds (2.4 million sequences a seed, 75,000 steps of 32).
Expected: layer1+copy < match < {copy, layer1} << none in time to a training loss of 0.4 ln 2; a
plateau for none, and none for match and layer1+copy.

Head 3 of layer 1 does the induction, as in the paper; where the others could do some of it, they
are ablated. The paper's five initialisations (and eight choices of head) agree in the order.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from ih_jax.claims import (
    LEARNED,
    Bounds,
    Claim,
    Reported,
    every,
    in_most,
    more_than,
    of_networks,
    one_setting,
    plateau,
    plateaus,
    ratio,
    thousands,
    yes,
)
from ih_jax.claims.bounds import UNMEASURED
from ih_jax.claims.learning import Plateau, learning_times
from ih_jax.experiments.base import Experiment, Found, Options, Table
from ih_jax.experiments.drawing import FAINT, QUIET, short
from ih_jax.experiments.singh2024 import known
from ih_jax.experiments.singh2024.known import clamped, reported, time_in
from ih_jax.experiments.singh2024.quantities import times
from ih_jax.experiments.singh2024.trainings import CLAMPED, CLAMPS

ENDED = 400_000  # where fig. 5b ends
# Time to LEARNED of the paper's five initialisations with head 3, fig. 5b and 6; with
# previous-token attention four had not learned where the figure ends.
PAPER = {"previous-token attention": np.array([217_000] + 4 * [np.inf]), **known.CLAMPED}
COLOURS = {  # Okabe and Ito 2008
    "none": "#000000",
    "previous-token attention": "#CC79A7",
    "layer1": "#0072B2",
    "match": "#D55E00",
    "copy": "#009E73",
    "layer1+copy": "#E69F00",
}


def measure(options: Options, found: Found) -> xr.Dataset:
    """The curves of all runs."""
    return found["clamps"].results


def time_with(one: xr.Dataset, clamp: str) -> Bounds:
    """When one network with this clamp has learned; NaN where it diverged or was not run."""
    if clamp not in one["clamp"].values:
        return UNMEASURED
    if "diverged_at" in one and np.isfinite(float(one["diverged_at"].sel(clamp=clamp).squeeze())):
        return UNMEASURED
    return time_in(one.sel(clamp=[clamp]).squeeze(), "loss")


def times_as_long(slow: str, fast: str) -> Callable[[xr.Dataset], Bounds]:
    """Time with one clamp over that with another, in one network."""
    return lambda one: ratio(time_with(one, slow), time_with(one, fast))


def in_order(one: xr.Dataset) -> bool | Bounds | None:
    """Whether layer1+copy < match < {copy, layer1} < none in one network; NaN as `time_with`."""
    quotients = [
        times_as_long(slow, fast)(one)
        for fast, slow in (
            ("layer1+copy", "match"),
            ("match", "copy"),
            ("match", "layer1"),
            ("copy", "none"),
            ("layer1", "none"),
        )
    ]
    if not all(quotient.measured for quotient in quotients):
        return UNMEASURED
    return every(quotient.more_than(1) for quotient in quotients)


def removed(one: xr.Dataset) -> bool | Bounds | None:
    """Whether there is a plateau without a clamp, and none with match or with layer1+copy."""
    names = ("none", "match", "layer1+copy")
    if not all(time_with(one, clamp).measured for clamp in names):
        return UNMEASURED
    free, match, both = (_plateau(one, clamp) for clamp in names)
    return every([free.seen, match.absent, both.absent])


def _plateau(one: xr.Dataset, clamp: str) -> Plateau:
    curve = one["loss"].sel(clamp=clamp).squeeze()
    return plateau(curve["sequences"].values, curve.values)


TABLE = clamped()
CLAIMS = (
    Claim(
        "one subcircuit left: no plateau",
        "Without a clamp there is a plateau; where only one subcircuit is left to learn (match, or "
        "layer 1 and copy, clamped) there is none.",
        in_most("plateau goes", of_networks(removed), yes),
        paper="8 of 8 (5 seeds, some with two or three heads)",
        reported=Reported(share=(5, 5)),
        source="section 4, fig. 5b",
        estimand="share of networks in which the speed of learning falls and later rises to 3 "
        "times its minimum without a clamp, and not with either",
    ),
    Claim(
        "the more is given, the sooner",
        "Times to learn: layer1+copy < match < {copy, layer1} < none.",
        in_most("order", of_networks(in_order), yes),
        paper="8 of 8 (5 seeds, some with two or three heads)",
        reported=Reported(share=(5, 5)),
        source="section 4, fig. 5b",
        estimand="share of networks in which the times to a training loss of 0.4 ln 2 have this "
        "order",
    ),
    *(
        Claim(
            f"none / {clamp}",
            f"Learning takes longer without a clamp than with {clamp}.",
            in_most("times as long", of_networks(times_as_long("none", clamp)), more_than(1)),
            paper=said,
            reported=reported(times_as_long("none", clamp), TABLE),
            source="section 4, fig. 5b",
            estimand="ratio of times to a loss of 0.4 ln 2 within a network",
            primary=False,
        )
        for clamp, said in (
            ("layer1+copy", "11 to 29"),
            ("match", "9 to 21"),
            ("copy", "6.7 to 17"),
            ("layer1", "3.9 to 9.9"),
        )
    ),
    Claim(
        "previous-token attention alone",
        "Clamping the attention of one head of layer 0 to the previous token speeds learning up.",
        in_most(
            "times as long",
            of_networks(times_as_long("none", "previous-token attention")),
            more_than(1),
        ),
        paper="7 of 8 (1.4 in seed 5)",
        reported=Reported(share=(4, 5)),
        source="section 4, fig. 5b",
        estimand="ratio of times to a loss of 0.4 ln 2 within a network",
        primary=False,
    ),
)


def tables(results: xr.Dataset) -> list[Table]:
    """Median times, and what the plateau statistic says of every clamp."""
    times = learning_times(results)
    shapes = plateaus(one_setting(results)["loss"])
    rows = []
    for clamp in (name for name in CLAMPS if times.times.get(name)):
        runs = times.times[clamp]
        low, high = min(runs.values()), max(runs.values(), key=lambda run: (run.high, run.low))
        seen = shapes.sel(clamp=clamp, init=list(runs))
        present, decided = int(seen["present"].sum()), int(seen["decided"].sum())
        rows.append(
            (
                clamp,
                _theirs(clamp),
                thousands(times.median(clamp)),
                f"{thousands(low)} to {thousands(high)}",
                f"{present} / {decided - present} / {len(runs) - decided}",
            )
        )
    header = (
        "clamp",
        "paper, 5 networks",
        "ours, median",
        "range",
        "plateau: yes / no / cannot tell",
    )
    title = f"Sequences to a training loss below 0.4 ln 2 = {LEARNED:.3f}"
    return [Table(title, header, rows)]


def _theirs(clamp: str) -> str:
    """Median and range of the paper's networks."""
    times = [
        f"{time / 1000:.0f}k" if np.isfinite(time) else f">{ENDED // 1000}k"
        for time in np.sort(PAPER[clamp])
    ]
    return f"{times[2]} ({times[0]} to {times[-1]})"


def draw(results: xr.Dataset) -> Figure:
    """Left, the paper's figure: training loss of every seed, medians bold. Right: when learned."""
    results = one_setting(results)
    names = [name for name in CLAMPS if name in results["clamp"].values]
    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    curves, times = figure.subplots(1, 2, width_ratios=(1.25, 1))
    _draw_curves(curves, results, names)
    _draw_times(times, results, names)
    for axes in (curves, times):
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.set_major_formatter(short)
        axes.tick_params(color=FAINT)
    return figure


def _draw_curves(axes: Axes, results: xr.Dataset, names: list[str]) -> None:
    measured = learning_times(results)
    for value, label in ((math.log(2), "ln 2"), (LEARNED, "0.4 ln 2")):
        axes.axhline(value, color=FAINT, lw=0.8, ls=(0, (5, 3)), zorder=0)
        axes.annotate(
            label,
            (1, value),
            (4, 0),
            xycoords=("axes fraction", "data"),
            color=QUIET,
            textcoords="offset points",
            va="center",
            fontsize=9,
        )
    for name in names:
        runs = results["loss"].sel(clamp=name, init=list(measured.times[name]))
        if not runs.sizes["init"]:
            continue
        n, loss = runs["sequences"].values, runs.transpose("sequences", "init").values
        colour = COLOURS[name]
        known = np.isfinite(loss).all(axis=1)  # to the shortest horizon
        axes.plot(n[known], np.median(loss[known], axis=1), color=colour, lw=2.2, label=name)
        for curve in loss.T:
            kept = np.isfinite(curve)
            axes.plot(
                n[kept],
                curve[kept],
                color=colour,
                lw=0.6,
                alpha=0.4,
                zorder=1,
                rasterized=loss.shape[1] > 16,
            )
    axes.set(xlim=(0, 600_000), ylim=(0, 2.1), yticks=(0, 0.5, 1, 1.5, 2))
    axes.set(xlabel="sequences seen", ylabel="training loss (nats)")
    axes.set_title("Learning curves: every seed, medians bold", loc="left", fontsize=10.5)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=9, title="clamped", alignment="left", loc="upper right")


def _draw_times(axes: Axes, results: xr.Dataset, names: list[str]) -> None:
    measured = learning_times(results)
    for row, name in enumerate(names):
        colour = COLOURS[name]
        runs = list(measured.times[name].values())
        spread = np.linspace(-0.22, 0.22, len(runs)) if len(runs) > 1 else np.zeros(len(runs))
        for offset, run in zip(spread, runs, strict=True):
            learned = run.high < math.inf
            axes.plot(
                run.low,
                row + offset,
                "o" if learned else ">",
                ms=4.5,
                color=colour,
                alpha=0.7,
                mfc=colour if learned else "none",
                mew=0 if learned else 1,
                clip_on=False,
            )
        median = measured.median(name)
        axes.plot([median.low] * 2, [row - 0.36, row + 0.36], color=colour, lw=2.2)
        for time in PAPER[name]:
            learned = bool(np.isfinite(time))
            axes.plot(
                time if learned else ENDED,
                row + 0.42,
                "D" if learned else ">",
                ms=4,
                mfc="none",
                mec=QUIET,
                mew=0.8,
            )
        axes.annotate(
            thousands(median) if runs else "-",
            (1, row),
            (8, 0),
            va="center",
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            fontsize=9,
        )
    axes.annotate(
        "median",
        (1, 1),
        (8, 0),
        xycoords="axes fraction",
        textcoords="offset points",
        va="center",
        fontsize=9,
        color=QUIET,
    )
    axes.set_yticks(range(len(names)), [name.replace(" ", "\n") for name in names])
    for label, name in zip(axes.get_yticklabels(), names, strict=True):
        label.set_color(COLOURS[name])
    axes.set(xscale="log", xlim=(8_000, 1_000_000), ylim=(len(names) - 0.4, -0.6))
    axes.xaxis.set_major_locator(FixedLocator([10_000, 30_000, 100_000, 300_000, 1_000_000]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(axis="x", color="0.92")
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("sequences seen")
    axes.set_title("When the loss falls below 0.4 ln 2", loc="left", fontsize=10.5)
    marks = [
        Line2D([], [], ls="", color=QUIET, marker=marker, ms=size, mfc=fill, label=label)
        for label, marker, size, fill in (
            ("one seed", "o", 4.5, QUIET),
            ("one seed, not by then", ">", 4.5, "none"),
            ("the paper's five networks", "D", 4, "none"),
        )
    ]
    axes.legend(handles=marks, frameon=False, fontsize=9, loc="upper left", labelcolor=QUIET)


experiment = Experiment(
    name="fig5b",
    title="Which subcircuits, when clamped, remove the plateau?",
    paper="Singh et al. 2024, section 4, fig. 5b",
    summary="A two-layer network learns to copy the label of the matching exemplar. Parts of its "
    "induction circuit are given to it, perfect, from the first step on; what remains is learned. "
    "If two parts that must both be learned before either pays make the plateau, giving one of "
    "them removes it.",
    trainings=(CLAMPED,),
    measure=measure,
    claims=CLAIMS,
    draw=draw,
    tables=tables,
    quantities=times(list(COLOURS)),
)
