"""Figure 18: strength against accuracy, loss and time to learn, over heads and seeds.

Paper: Singh et al. 2024, appendix, fig. 18. Command: ih-jax run fig18 (the networks of fig4).
Expected: the stronger a head at the end of training with all heads, the better the network with it
alone, and the sooner a network learns that has only this head from the start.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from scipy import stats

from ih_jax.claims import Claim, Finding
from ih_jax.experiments.base import Experiment, Found, Options, Table
from ih_jax.experiments.drawing import HEAD_COLOURS, seeds_of, short, tidy
from ih_jax.experiments.singh2024.ablations import (
    alone_times,
    correlation,
    measure_with_heads_alone,
)
from ih_jax.experiments.singh2024.trainings import MAIN, SINGLE_HEADS

WHAT = {
    "only_accuracy": "accuracy, head alone",
    "only_loss": "loss (nats), head alone",
    "time": "sequences to learn, head trained alone",
}


def measure(options: Options, found: Found) -> xr.Dataset:
    """As fig. 4, without its curves: strength, only_accuracy, only_loss, time [init, head].

    `time` is the end of training where `censored`.
    """
    results = measure_with_heads_alone(options, found)
    shape = (results.sizes["init"], results.sizes["head"])
    time, censored = np.zeros(shape), np.zeros(shape, bool)
    for i, seed in enumerate(results["init"].values.tolist()):
        for head, each in alone_times(results.sel(init=seed)).items():
            time[i, head], censored[i, head] = each.low, each.high == math.inf
    kept = results[["strength", "only_accuracy", "only_loss"]]
    return kept.assign(time=(("init", "head"), time), censored=(("init", "head"), censored))


def pooled(name: str, test: float, ranks: bool = False) -> Callable[[xr.Dataset], Finding]:
    """Decides whether the correlation over all heads of all seeds reaches `test` (its sign too)."""

    def decide(results: xr.Dataset) -> Finding:
        a, b = results["strength"].values.ravel(), results[name].values.ravel()
        each = [
            correlation(
                results["strength"].sel(init=seed).values, results[name].sel(init=seed).values
            )
            for seed in results["init"].values.tolist()
        ]
        # Ranks treat what was not learned by the end as the slowest, which it is.
        value = float(stats.spearmanr(a, b)[0]) if ranks else correlation(a, b)
        passed = value >= test if test > 0 else value <= test
        late = int(results["censored"].sum())
        said = f"{late} of {a.size} heads had not learned by the end" if name == "time" else ""
        if math.isnan(value):
            return Finding("undecidable", "too few heads", detail=said)
        span = f"{min(each):.2f} to {max(each):.2f}"
        return Finding(
            "holds" if passed else "does not hold",
            f"{value:.3f} ({a.size} heads; by seed {span})",
            detail=said,
        )

    return decide


CLAIMS = (
    Claim(
        "accuracy",
        "Pooled over heads and seeds, strength and accuracy with the head alone correlate by at "
        "least .9.",
        paper=".956 (40 heads; .96 to .99 by seed)",
        decide=pooled("only_accuracy", 0.9),
    ),
    Claim(
        "loss",
        "Strength and loss with the head alone correlate by at most -.9.",
        paper="about -.97, read off the figure",
        decide=pooled("only_loss", -0.9),
    ),
    Claim(
        "time",
        "Strength and the time to learn with that head alone correlate, in ranks, by at most -.4.",
        paper="-.62 (by seed -.33 to -.89)",
        decide=pooled("time", -0.4, ranks=True),
    ),
)


def tables(results: xr.Dataset) -> list[Table]:
    """Correlations by seed."""
    rows = []
    for seed in results["init"].values.tolist():
        mine = results.sel(init=seed)
        each = [correlation(mine["strength"].values, mine[name].values) for name in WHAT]
        rows.append([str(seed), *(f"{value:.2f}" for value in each)])
    return [Table("Correlation of strength, by seed, with", ["init", *WHAT.values()], rows)]


def draw(results: xr.Dataset) -> Figure:
    """Three scatter plots; a mark a seed, a colour a head."""
    figure = Figure(figsize=(12.5, 3.7), layout="constrained")
    for axes, (name, words) in zip(figure.subplots(1, 3), WHAT.items(), strict=True):
        for seed, mark in seeds_of(results):
            for head in results["head"].values.tolist():
                mine = results.sel(init=seed, head=head)
                late = name == "time" and bool(mine["censored"])
                axes.plot(
                    float(mine["strength"]),
                    float(mine[name]),
                    mark,
                    ms=5.5,
                    color=HEAD_COLOURS[head],
                    mfc="none" if late else HEAD_COLOURS[head],
                    label=f"init {seed}" if head == 0 else None,
                    clip_on=False,
                )
        axes.set(xlabel="induction strength with all heads", ylabel=words)
        tidy(axes)
        if name == "time":
            axes.yaxis.set_major_formatter(short)
            tidy(axes, "open: not by the end")
        if name == "only_accuracy":
            axes.legend(frameon=False, fontsize=8, title="colour: head", title_fontsize=8)
    return figure


experiment = Experiment(
    name="fig18",
    title="Strength against accuracy, loss and time to learn",
    paper="Singh et al. 2024, appendix, fig. 18",
    summary="Every head of layer 1 of every seed: how strong an induction head it becomes where "
    "all heads are free, how well the trained network does with it alone, and how soon a network "
    "learns that has it alone from the start.",
    measure=measure,
    claims=CLAIMS,
    draw=draw,
    tables=tables,
    trainings=(MAIN, SINGLE_HEADS),
    seconds=lambda options: (3.0 if options.quick else 12.0) * max(options.seeds, 3) / 3,
)
