"""Figure 5a: a toy model that waits on a plateau unless all factors but one are clamped.

Paper: Singh et al. 2024, section 4 and fig. 5a. Command: ih-jax run fig5a. On 2 CPU cores: about
10 seconds (three clamps, the paper's draw and 32 more, 1,000 iterations each).
Expected, for the paper's draw: the loss is below a tenth of its first value at iteration 761 with
no clamp, 139 with c clamped, 53 with b and c clamped; only the last is exponential.

A draw is a task and a start at once. The paper shows one, which decides its claims here; the rate
is over the others (times of seeds 0, 2, 3 and 4 were known when the claims were written, those of
the rest were not). The model is `ih_jax.experiments.singh2024.toy_model`.
"""

from __future__ import annotations

import math

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from ih_jax.claims import (
    Bounds,
    Claim,
    Reported,
    at_least,
    every,
    exactly,
    in_most,
    median,
    more_than,
    plateau,
    ratio,
    yes,
)
from ih_jax.experiments.base import Experiment, Found, Options, Table
from ih_jax.experiments.drawing import FAINT, QUIET
from ih_jax.experiments.singh2024 import toy_model
from ih_jax.experiments.singh2024.toy_draws import (
    CLAMPS,
    COLOURS,
    DRAWS,
    LEARNED,
    draw_curves,
    of_other_draws,
)

PAPER = {"none": 761, "c": 139, "b,c": 53}  # iterations to LEARNED, computed with its code


def measure(options: Options, found: Found) -> xr.Dataset:
    """The loss of every clamp in every draw, [clamp, seed, iteration].

    Of the options only `seeds` matters, and only above DRAWS. No training is needed.
    """
    return toy_model.run(CLAMPS, range(max(DRAWS, options.seeds)))[["loss"]]


def times(draw: xr.Dataset) -> dict[str, Bounds]:
    """Iterations to LEARNED of the first loss, by clamp, in one draw."""
    return {
        clamp: toy_model.first_below(draw["loss"].sel(clamp=clamp).values, LEARNED)
        for clamp in CLAMPS
    }


def ordered(draw: xr.Dataset) -> bool | None:
    """Whether none takes longer than c, and c longer than b,c."""
    t = times(draw)
    return every(
        ratio(t[slow], t[fast]).more_than(1) for fast, slow in (("b,c", "c"), ("c", "none"))
    )


def as_printed(results: xr.Dataset) -> float:
    """How many of the three times of the paper's draw are those of its code."""
    ours = times(results.sel(seed=toy_model.PAPER_SEED))
    return float(sum(ours[clamp] == (n, n) for clamp, n in PAPER.items()))


def shape(draw: xr.Dataset, clamp: str) -> bool | None:
    """Whether a loss has a plateau by its shape (`claims.plateau`); None: cannot tell."""
    loss = draw["loss"].sel(clamp=clamp).values
    # What comes much later than learning does not bear on the statistic, only on its cost.
    loss = loss[: 2 * int(toy_model.first_below(loss, LEARNED).low) + 10]
    found = plateau(draw["iteration"].values[: len(loss)], loss, LEARNED * float(loss[0]))
    return found.seen


def removed(draw: xr.Dataset) -> bool | None:
    """Whether there is a plateau without a clamp, and none with b and c clamped."""
    without = shape(draw, "b,c")
    return every([shape(draw, "none"), None if without is None else not without])


def straighter(draw: xr.Dataset) -> float:
    """R^2 of a line through ln(loss) with b and c clamped less the greater one of the others."""
    r2 = {c: toy_model.log_linearity(draw["loss"].sel(clamp=c).values) for c in CLAMPS}
    return r2["b,c"] - max(r2["c"], r2["none"])


CLAIMS = (
    Claim(
        "the more is clamped, the sooner",
        "The loss falls latest with no clamp, then with c clamped, then with b and c clamped.",
        in_most("order", of_other_draws(ordered), yes),
        paper="761 > 139 > 53 iterations",
        reported=Reported(share=(1, 1)),
        source="section 4, fig. 5a",
        estimand="share of draws, the paper's left out, in which times to a tenth of the first "
        "loss have this order",
    ),
    Claim(
        "exponential with all but one clamped",
        "Only with b and c clamped is learning exponential.",
        in_most("R^2 more", of_other_draws(straighter), more_than(0)),
        paper="so in the draw shown",
        reported=Reported(share=(1, 1)),
        source="section 4, fig. 5a",
        estimand="R^2 of a straight line through ln(loss) down to 1e-6 with b and c clamped, less "
        "the greater one of c and none; over draws, the paper's left out",
    ),
    Claim(
        "a plateau without a clamp only",
        "Without a clamp there is a plateau, with b and c clamped there is none.",
        in_most("plateau goes", of_other_draws(removed), yes),
        paper="so in the draw shown",
        reported=Reported(share=(1, 1)),
        source="section 4, fig. 5a",
        estimand="share of draws in which the speed of learning falls and later rises to 3 times "
        "its minimum without a clamp, and not with b and c clamped",
        primary=False,
    ),
    Claim(
        "the paper's draw",
        "The paper's draw comes out to the iteration.",
        exactly("times that agree", as_printed, at_least(3)),
        paper="761, 139, 53 iterations",
        source="section 4, fig. 5a",
        estimand="iterations to a tenth of the first loss, seed 1",
        primary=False,
    ),
)


def tables(results: xr.Dataset) -> list[Table]:
    """When each clamp learns in the paper's draw and in the others, and who never does."""
    others = results.drop_sel(seed=toy_model.PAPER_SEED)
    rows = []
    for clamp in CLAMPS:
        mine = results["loss"].sel(seed=toy_model.PAPER_SEED, clamp=clamp).values
        at = [toy_model.first_below(mine, share).show() for share in (0.5, 0.1, 0.01)]
        theirs = [times(others.sel(seed=seed))[clamp] for seed in others["seed"].values]
        shapes = [shape(others.sel(seed=seed), clamp) for seed in others["seed"].values]
        never = sum(time.high == math.inf for time in theirs)
        rows.append(
            (
                clamp,
                " / ".join(at),
                median(theirs).show(),
                f"{min(theirs).show()} to {max(theirs).show()}",
                f"{never} of {len(theirs)}",
                " / ".join(str(shapes.count(seen)) for seen in (True, False, None)),
            )
        )
    header = (
        "clamped",
        "paper's draw: below 1/2, 1/10, 1/100",
        "others: median to 1/10",
        "range",
        "never to 1/10",
        "plateau: yes / no / cannot tell",
    )
    return [Table("Iterations until the loss is below a share of its first value", header, rows)]


def draw(results: xr.Dataset) -> Figure:
    """Left, the paper's figure; middle, the same losses on a log axis; right, when learned."""
    figure = Figure(figsize=(12.6, 3.9), layout="constrained")
    linear, log, learned = figure.subplots(1, 3, width_ratios=(1, 1, 0.85))
    loss = results["loss"]
    for axes in (linear, log):
        for clamp, colour in COLOURS.items():
            draw_curves(axes, loss.sel(clamp=clamp), colour, label=clamp.replace("none", "None"))
        axes.set(xlabel="iterations", ylabel="loss", xlim=(0, loss.sizes["iteration"]))
    linear.set(ylim=(0, 0.8))
    others = loss.sizes["seed"] - 1
    linear.set_title(f"The paper's draw; {others} others faint", loc="left", fontsize=10.5)
    linear.legend(frameon=False, title="clamped", alignment="left", loc="upper right")
    log.set(yscale="log", ylim=(toy_model.FLOOR, 100))
    log.yaxis.set_minor_locator(NullLocator())
    log.set_yticks([1e-6, 1e-4, 1e-2, 1])
    log.set_title("The same, log axis: straight is exponential", loc="left", fontsize=10.5)
    for row, (clamp, colour) in enumerate(COLOURS.items()):
        r2 = toy_model.log_linearity(loss.sel(seed=toy_model.PAPER_SEED, clamp=clamp).values)
        log.annotate(
            f"$R^2$ = {_digits(r2)}",
            (1, 0.99 - 0.07 * row),
            color=colour,
            fontsize=9,
            xycoords="axes fraction",
            ha="right",
            va="top",
        )
    _draw_times(learned, results)
    for axes in (linear, log, learned):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(which="both", color=FAINT)
    return figure


def _draw_times(axes: Axes, results: xr.Dataset) -> None:
    seeds = results["seed"].values.tolist()
    others = [seed for seed in seeds if seed != toy_model.PAPER_SEED]
    last = float(results["iteration"][-1])
    by_seed = {seed: times(results.sel(seed=seed)) for seed in seeds}
    for row, (clamp, colour) in enumerate(COLOURS.items()):
        spread = np.linspace(-0.36, 0.36, len(others))
        for offset, seed in zip(spread, others, strict=True):
            time = by_seed[seed][clamp]
            never = time.high == math.inf
            axes.plot(
                time.low,
                row + offset,
                ">" if never else "o",
                ms=4,
                color=colour,
                alpha=0.55,
                mfc="none" if never else colour,
                mew=1 if never else 0,
                clip_on=False,
            )
        axes.plot(
            by_seed[toy_model.PAPER_SEED][clamp].low, row, "D", ms=7, color=colour, mec="white"
        )
        late = sum(by_seed[seed][clamp].high == math.inf for seed in others)
        if late:
            axes.annotate(
                f"{late} of {len(others)} not\nby then",
                (last, row + 0.4),
                color=colour,
                fontsize=9,
                ha="right",
                va="top",
            )
    axes.set(xscale="log", xlim=(8, last), ylim=(len(COLOURS) - 0.4, -0.6))
    axes.set_xticks([10, 30, 100, 300, 1000], ["10", "30", "100", "300", "1000"])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_yticks(range(len(COLOURS)), [clamp.replace("none", "None") for clamp in COLOURS])
    for name, colour in zip(axes.get_yticklabels(), COLOURS.values(), strict=True):
        name.set_color(colour)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="0.92")
    axes.set_axisbelow(True)
    axes.set_xlabel("iterations")
    axes.set_title("Loss below a tenth of its first value", loc="left", fontsize=10.5)
    axes.annotate(
        "diamond: the paper's draw",
        (0, 0),
        (4, 4),
        xycoords="axes fraction",
        fontsize=9,
        textcoords="offset points",
        color=QUIET,
    )


def _digits(r2: float) -> str:
    """R^2 to the digits that tell it from 1."""
    return f"{r2:.3f}" if r2 < 0.9985 else f"1 - {1 - r2:.0e}"


experiment = Experiment(
    name="fig5a",
    title="A toy model: with all factors but one clamped, learning is exponential",
    paper="Singh et al. 2024, section 4, fig. 5a",
    summary="Three vectors learn by gradient descent to have a given tensor product. While none is "
    "right, each hides from the others what to change, and the loss waits on a plateau; the more "
    "of them are held at their true values, the sooner it falls. The random numbers are those of "
    "the paper's JAX. Each seed draws a task and a start; the paper shows seed 1, which decides, "
    "and rates are over the other draws.",
    measure=measure,
    claims=CLAIMS,
    draw=draw,
    tables=tables,
    seconds=lambda options: 8.0 * max(DRAWS, options.seeds) / DRAWS,
)
