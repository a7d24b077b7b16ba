"""Figure 7: layer 0 grafted from a trained network: is its circuit all that was missing?

Paper: Singh et al. 2024, section 5 and fig. 7. Command: ih-jax run fig7. On 2 CPU cores: about a
minute per seed (3.4 million sequences).
Expected: with the layer 0 that its own initialisation led to, learning is quick; with another
network's it has no plateau but is slow: the layers have grown to fit each other.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ih_jax.claims import (
    Bounds,
    Claim,
    Reported,
    below,
    every,
    in_most,
    median,
    more_than,
    of_networks,
    plateau,
    ratio,
    thousands,
    yes,
)
from ih_jax.experiments.base import Experiment, Found, Options, Table
from ih_jax.experiments.drawing import chance, curves, over_sequences, tidy
from ih_jax.experiments.singh2024.known import time_in
from ih_jax.experiments.singh2024.trainings import GRAFTS, MAIN

FOREIGN = ("foreign 1", "foreign 2")
COLOURS = {
    "standard": "#000000",
    "same seed": "#D55E00",
    "foreign 1": "#009E73",
    "foreign 2": "#0072B2",
}


def measure(options: Options, found: Found) -> xr.Dataset:
    """Training loss, [clamp, init, sequences] of grafts; `standard` without, [init, ...]."""
    grafts = found["grafts"].results["loss"]
    standard = found["main"].results["loss"].sel(clamp="none", drop=True)
    results = xr.Dataset({"loss": grafts})
    results["standard"] = standard.sel(init=grafts["init"]).rename(sequences="whole_sequences")
    return results


def _time(one: xr.Dataset, name: str) -> Bounds:
    if name == "standard":
        return time_in(one, "standard", "whole_sequences")
    return time_in(one, "loss", clamp=name)


def over(one: xr.Dataset, name: str, than: str) -> Bounds:
    """Time with one graft over that with another, or over that without ("standard")."""
    return ratio(_time(one, name), _time(one, than))


def foreign_over(than: str) -> Callable[[xr.Dataset], Bounds]:
    """Geometric mean over both foreign grafts of `over`."""

    def value(one: xr.Dataset) -> Bounds:
        both = [over(one, name, than) for name in FOREIGN]
        return Bounds(*(float(np.sqrt(a * b)) for a, b in zip(*both, strict=True)))

    return value


def smooth(names: tuple[str, ...]) -> Callable[[xr.Dataset], bool | None]:
    """Whether none of these grafts' curves has a plateau; None: cannot tell."""

    def value(one: xr.Dataset) -> bool | None:
        shapes = [
            plateau(one["sequences"].values, one["loss"].sel(clamp=name).values) for name in names
        ]
        return every(shape.absent for shape in shapes)

    return value


CLAIMS = (
    Claim(
        "the same seed's layer 0: quick",
        "With the layer 0 that its own initialisation led to a network learns much sooner.",
        in_most(
            "quotient", of_networks(lambda one: over(one, "same seed", "standard")), below(0.5)
        ),
        paper="27k / 273k = .10",
        reported=Reported(values=(27 / 273,)),
        source="section 5, fig. 7",
        estimand="time to a loss of 0.4 ln 2 with the graft over that without; below half",
    ),
    Claim(
        "a foreign layer 0: slow",
        "With another network's layer 0 it learns more slowly than with its own: the layers have "
        "grown to fit each other.",
        in_most("quotient", of_networks(foreign_over("same seed")), more_than(1)),
        paper="243k, 214k / 27k = 8.4 (geometric mean)",
        reported=Reported(values=(float(np.sqrt(243 * 214) / 27),)),
        source="section 5, fig. 7",
        estimand="time with a foreign layer 0 (geometric mean of two) over that with the same "
        "seed's",
    ),
    Claim(
        "a foreign layer 0 and none",
        "With another network's layer 0 it learns no later than without a graft.",
        in_most("quotient", of_networks(foreign_over("standard")), below(1)),
        paper=".89, .78 (.83)",
        reported=Reported(values=(float(np.sqrt(243 * 214) / 273),)),
        source="section 5, fig. 7",
        estimand="time with a foreign layer 0 (geometric mean of two) over that without",
        primary=False,
    ),
    Claim(
        "the same seed's: no plateau",
        "With the same seed's layer 0 there is no plateau.",
        in_most("no plateau", of_networks(smooth(("same seed",))), yes),
        paper="absent",
        reported=Reported(share=(1, 1)),
        source="section 5, fig. 7",
        estimand="share of networks whose speed of learning does not fall and later rise to 3 "
        "times its minimum",
        primary=False,
    ),
    Claim(
        "foreign: no plateau",
        "With a foreign layer 0 there is none either.",
        in_most("no plateau", of_networks(smooth(FOREIGN)), yes),
        paper="absent",
        reported=Reported(share=(1, 1)),
        source="section 5, fig. 7",
        estimand="the same, for both of two foreign grafts",
        primary=False,
    ),
)


def tables(results: xr.Dataset) -> list[Table]:
    """Median times."""
    paper = {"standard": "273k", "same seed": "27k", "foreign 1": "243k", "foreign 2": "214k"}
    rows = []
    for name in COLOURS:
        each = [_time(results.sel(init=seed), name) for seed in results["init"].values.tolist()]
        late = sum(time.low < time.high for time in each)
        least, most = min(each), max(each, key=lambda time: (time.high, time.low))
        span = f"{thousands(least)} to {thousands(most)}"
        rows.append([name, paper[name], thousands(median(each)), span, str(late)])
    header = ("layer 0 from", "paper, seed 5", "ours, median", "range", "not by the end")
    return [Table("Sequences to learn", header, rows)]


def draw(results: xr.Dataset) -> Figure:
    """Learning curves."""
    figure = Figure(figsize=(6.2, 4), layout="constrained")
    axes = figure.subplots()
    standard = results["standard"].rename(whole_sequences="sequences")
    curves(axes, standard, COLOURS["standard"], "no graft")
    for name in results["clamp"].values.tolist():
        label = "same seed" if name == "same seed" else name.replace("foreign", "other seed,")
        curves(axes, results["loss"].sel(clamp=name, drop=True), COLOURS[name], label)
    chance(axes)
    axes.set(xlim=(0, 600_000), ylim=(0, 2.1), ylabel="training loss (nats)")
    over_sequences(axes)
    axes.legend(frameon=False, title="layer 0 and embeddings from", alignment="left", fontsize=9)
    tidy(axes)
    return figure


experiment = Experiment(
    name="fig7",
    title="A trained layer 0, grafted: is that all that was missing?",
    paper="Singh et al. 2024, section 5, fig. 7",
    summary="Embeddings and layer 0 of a network trained for a million sequences are put, frozen, "
    "under a layer 1 that starts to learn: one trained from the same initialisation, or from the "
    "next two. All heads are free. Every seed thin, medians bold.",
    differs="Foreign layers 0 do better here than in the paper, whose two numbers come from one "
    "network. The authors' code on the features of `results/omniglot` gives .58, .56, .80, .74, "
    ".48, .49, .76 and .70 of the time without a graft.",
    measure=measure,
    claims=CLAIMS,
    draw=draw,
    tables=tables,
    trainings=(MAIN, GRAFTS),
    seconds=lambda options: 3.0,
)
