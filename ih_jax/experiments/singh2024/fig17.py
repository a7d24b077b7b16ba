"""Figure 17: two induction heads trained together: are two quicker than one?

Paper: Singh et al. 2024, appendix, fig. 17. Command: ih-jax run fig17. On 2 CPU cores: about 2
minutes per seed (9 million sequences, the network of fig. 3 among them).
Expected: with a second head learning is mostly quicker than with head 3 alone, by how much depends
on the second head; the best pair is about as quick as all eight. Decided by sixteen networks of
all of Omniglot, 5000 to 5015, that differ in init alone, named before they ran.
"""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure

from ih_jax.claims import (
    Bounds,
    Claim,
    Reported,
    below,
    in_most,
    median,
    no_difference,
    of_networks,
    ratio,
    thousands,
)
from ih_jax.experiments.base import Experiment, Found, Options, Table
from ih_jax.experiments.drawing import HEAD_COLOURS, chance, curves, over_sequences, tidy
from ih_jax.experiments.singh2024.known import time_in
from ih_jax.experiments.singh2024.trainings import HEAD, MAIN, PAIRS

PAPER = {  # thousands of sequences, seed 5
    "alone": 310,
    "3+0": 247,
    "3+1": 299,
    "3+2": 280,
    "3+4": 276,
    "3+5": 323,
    "3+6": 296,
    "3+7": 291,
    "all": 272,
}
PAPER_MEDIAN = sorted(time for name, time in PAPER.items() if "+" in name)[3]


def measure(options: Options, found: Found) -> xr.Dataset:
    """Training loss: pairs [clamp, init, sequences], head 3 alone and all heads."""
    trained = found["pairs"].results["loss"]
    pairs = trained.drop_sel(clamp=str(HEAD))
    results = xr.Dataset({"loss": pairs})
    alone = trained.sel(clamp=str(HEAD), drop=True)
    results["alone"] = alone.rename(sequences="alone_sequences")
    whole = found["main"].results["loss"].sel(clamp="none", init=pairs["init"], drop=True)
    results["all"] = whole.rename(sequences="all_sequences")
    return results


def _time(one: xr.Dataset, name: str) -> Bounds:
    if name in ("alone", "all"):
        return time_in(one, name, f"{name}_sequences")
    return time_in(one, "loss", clamp=name)


def _pairs(one: xr.Dataset) -> list[Bounds]:
    return [_time(one, name) for name in one["clamp"].values.tolist()]


def typical(one: xr.Dataset) -> Bounds:
    """Median time of the pairs over that of head 3 alone."""
    return ratio(median(_pairs(one)), _time(one, "alone"))


def best(one: xr.Dataset, than: str) -> Bounds:
    """Time of the quickest pair over that of head 3 alone, or of all heads."""
    return ratio(min(_pairs(one), key=lambda time: time.low), _time(one, than))


CLAIMS = (
    Claim(
        "two are quicker than one",
        "With a second head a network mostly learns sooner than with head 3 alone.",
        in_most("quotient", of_networks(typical), below(1)),
        paper="291k / 310k = .94 (6 of 7 pairs sooner)",
        reported=Reported(values=(PAPER_MEDIAN / 310,)),
        source="appendix, fig. 17",
        estimand="median time of the pairs with head 3 over that of head 3 alone",
    ),
    Claim(
        "the best pair is about as quick as all",
        "The quickest pair is about as quick as all eight heads.",
        no_difference("quotient", of_networks(lambda one: best(one, "all")), 2 / 3, 3 / 2),
        paper="247k / 272k = .91",
        reported=Reported(values=(247 / 272,)),
        source="appendix, fig. 17",
        estimand="time of the quickest pair over that of all heads; within a factor of 1.5",
        primary_since="2026-11-26",
    ),
)


def tables(results: xr.Dataset) -> list[Table]:
    """Median times."""
    seeds = [results.sel(init=seed) for seed in results["init"].values.tolist()]
    rows = []
    for name in ("alone", *results["clamp"].values.tolist(), "all"):
        each = [_time(one, name) for one in seeds]
        alone = [ratio(_time(one, name), _time(one, "alone")) for one in seeds]
        sooner = sum(quotient.more_than(1) is False for quotient in alone)
        theirs = f"{PAPER[name]}k" if name in PAPER else ""
        said = "" if name == "alone" else f"{sooner} of {len(alone)}"
        rows.append(
            [
                f"head {HEAD} alone" if name == "alone" else name,
                theirs,
                thousands(median(each)),
                said,
            ]
        )
    header = ("heads of layer 1", "paper, seed 5", "ours, median", f"sooner than head {HEAD} alone")
    return [Table("Sequences to learn", header, rows)]


def draw(results: xr.Dataset) -> Figure:
    """Median learning curves."""
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    for name in results["clamp"].values.tolist():
        head = int(name.split("+")[1])
        curves(
            axes, results["loss"].sel(clamp=name, drop=True), HEAD_COLOURS[head], name, every=False
        )
    for name, style in (("alone", ":"), ("all", "--")):
        line = results[name].rename({f"{name}_sequences": "sequences"})
        label = f"head {HEAD} alone" if name == "alone" else "all heads"
        curves(axes, line, "0.4", label, every=False, ls=style)
    chance(axes)
    axes.set(xlim=(0, float(results["sequences"][-1])), ylim=(0, 2.1))
    axes.set_ylabel("training loss (nats)")
    over_sequences(axes)
    axes.legend(frameon=False, title="heads of layer 1", alignment="left", fontsize=9)
    tidy(axes, "Medians over seeds")
    return figure


experiment = Experiment(
    name="fig17",
    title="Are two induction heads quicker than one?",
    paper="Singh et al. 2024, appendix, fig. 17",
    summary="Networks are trained with head 3 of layer 1 and one other; all others are ablated.",
    measure=measure,
    claims=CLAIMS,
    draw=draw,
    tables=tables,
    trainings=(MAIN, PAIRS),
    seconds=lambda options: 3.0,
)
