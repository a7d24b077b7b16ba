"""Figure 18: strength against accuracy, loss and time to learn, over heads and seeds.

Paper: Singh et al. 2024, appendix, fig. 18. Command: ih-jax run fig18 (the networks of fig4).
Expected: the stronger a head at the end of training with all heads, the better the network with it
alone, and the sooner a network learns that has only this head from the start.
"""

from __future__ import annotations

import math

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ih_jax.claims import Claim, Reported, correlation, of_networks, pooled
from ih_jax.experiments.base import Experiment, Found, Options, Table
from ih_jax.experiments.drawing import short, tidy
from ih_jax.experiments.singh2024.ablations import alone_times, measure_with_heads_alone
from ih_jax.experiments.singh2024.ablations import correlation as of_pairs
from ih_jax.experiments.singh2024.known import ALONE, NEVER, ONLY_ACCURACY, ONLY_LOSS, STRENGTH
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


def _strength_and_time(one: xr.Dataset) -> np.ndarray:
    """[head, 2]; what was not learned by the end is later than all that was, as its rank says."""
    return np.stack([one["strength"].values, one["time"].values], axis=1)


THEIRS = np.stack([STRENGTH, np.where(ALONE == NEVER, 1e6, ALONE)], axis=-1)

CLAIMS = (
    Claim(
        "the stronger, the sooner alone",
        "The stronger a head becomes among all, the sooner a network learns that has it alone.",
        pooled(
            "rank correlation",
            of_networks(_strength_and_time),
            correlation(ranks=True),
            more=False,
        ),
        paper="-.61 (40 heads of 5 networks)",
        reported=Reported(pooled=(correlation(ranks=True)(list(THEIRS)), 5)),
        source="section 3.2 and appendix, fig. 18",
        estimand="rank correlation, over all heads of layer 1 of all networks, of strength at the "
        "end with the time to a loss of 0.4 ln 2 when trained alone",
    ),
)


def tables(results: xr.Dataset) -> list[Table]:
    """Correlations within networks: medians and quartiles."""
    rows = []
    for name, words in WHAT.items():
        each = []
        for seed in results["init"].values.tolist():
            one = results.sel(init=seed)
            each.append(of_pairs(one["strength"].values, one[name].values))
        low, middle, high = np.nanquantile(each, [0.25, 0.5, 0.75])
        rows.append([words, f"{middle:.2f}", f"{low:.2f} to {high:.2f}"])
    return [Table("Correlation with strength within networks", ("", "median", "quartiles"), rows)]


def draw(results: xr.Dataset) -> Figure:
    """Three scatter plots: every head of every network; the paper's as diamonds."""
    figure = Figure(figsize=(12.5, 3.8), layout="constrained")
    theirs = {"only_accuracy": ONLY_ACCURACY, "only_loss": ONLY_LOSS, "time": THEIRS[..., 1]}
    x = results["strength"].transpose("init", "head").values.ravel()
    late = results["censored"].transpose("init", "head").values.ravel().astype(bool)
    for axes, (name, words) in zip(figure.subplots(1, 3), WHAT.items(), strict=True):
        y = results[name].transpose("init", "head").values.ravel()
        never = late if name == "time" else np.zeros(len(y), bool)
        for some, fill in ((~never, "#0072B2"), (never, "none")):
            axes.plot(x[some], y[some], "o", ms=3.5, color="#0072B2", mfc=fill, alpha=0.5, mew=0.7)
        axes.plot(STRENGTH.ravel(), theirs[name].ravel(), "D", ms=4.5, mfc="none", mec="#D55E00")
        axes.set(xlabel="induction strength with all heads", ylabel=words)
        tidy(axes)
        if name == "time":
            axes.yaxis.set_major_formatter(short)
            tidy(axes, "open: not by the end")
        if name == "only_accuracy":
            tidy(axes, "dots: ours; diamonds: the paper's five networks")
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
