"""Does an induction head learn sooner if it is given its attention? An experiment of one's own.

ih-jax run own_experiment.py --seeds 4; afterwards: ih-jax plot results/given-attention
"""

import xarray as xr
from matplotlib.figure import Figure

import ih_jax as ih
from ih_jax.claims import in_most, more_than, times_as_long


def two_ways(options: ih.Options, found) -> ih.Sweep:
    alone = ih.ablate(1, [0, 1, 2, 4, 5, 6, 7])  # head 3 of layer 1 does the induction
    clamp, seen = {"learned": alone, "given": alone & ih.induction(1, 3)}, options.horizon(400_000)
    return ih.sweep(options.task(), clamp=clamp, init=options.inits, sequences=seen)


def measure(options: ih.Options, found) -> xr.Dataset:
    return found["two_ways"].results[["loss", "diverged_at"]]


def draw(results: xr.Dataset) -> Figure:
    figure = Figure(layout="constrained")
    results["loss"].median("init").plot.line(x="sequences", ax=figure.subplots())
    return figure


sooner = in_most("times as long without", times_as_long("learned", "given"), more_than(1))
experiment = ih.Experiment(
    name="given-attention",
    title="Learning with the attention given",
    trainings=(ih.Training("two_ways", two_ways),),
    measure=measure,
    draw=draw,
    claims=(
        ih.Claim("sooner", "Given its attention, a head learns sooner.", sooner, kind="hypothesis"),
    ),
)
