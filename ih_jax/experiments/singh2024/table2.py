"""Table 2: where the strongest induction head alone is wrong, are others right?

Paper: Singh et al. 2024, appendix, table 2. Command: ih-jax run table2 (the networks of fig3).
Expected: a head gets right of the strongest's mistakes about the share that it gets right of all:
mistakes are about independent, which is why heads add up.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ih_jax.claims import Claim, Reported, correlation, no_difference, of_networks, pooled
from ih_jax.experiments.base import Experiment, Found, Options, Table
from ih_jax.experiments.drawing import FAINT, tidy
from ih_jax.experiments.looking import HEADS, at_end, config, probe
from ih_jax.experiments.singh2024.ablations import others, strongest
from ih_jax.experiments.singh2024.known import authors, reported, seed_5
from ih_jax.experiments.singh2024.trainings import MAIN
from ih_jax.measures.heads import induction_strength
from ih_jax.measures.performance import leave_one, mistakes


def measure(options: Options, found: Found) -> xr.Dataset:
    """`accuracy` [init, head] alone; `corrected` [init, head, other] of head's mistakes."""
    main = found["main"]
    batch = probe(options)
    heads = range(HEADS)
    results = at_end(main, induction_strength, batch, inits=options.inits)
    results = results.rename(induction_strength="strength")
    alone = at_end(
        main, mistakes(leave_one(HEADS), config(main)), batch, inits=options.inits
    ).rename(held="head")
    alone = alone.assign_coords(head=heads, other=heads)
    return results.assign(
        accuracy=1 - alone["wrong"], missed=alone["missed"], corrected=alone["corrected"]
    )


def pairs(one: xr.Dataset) -> np.ndarray:
    """[other, 2]: accuracy of another head; the share of the strongest's mistakes it gets right."""
    best = strongest(one)
    share = one["corrected"].sel(head=best).values
    return np.stack([np.delete(one["accuracy"].values, best), np.delete(share, best)], axis=1)


def ratio(one: xr.Dataset) -> float:
    """Median over the others: share of the strongest's mistakes they get right, over accuracy."""
    own = pairs(one)
    return float(np.median(own[:, 1] / own[:, 0]))


PAPER = seed_5()
CLAIMS = (
    Claim(
        "better heads correct more",
        "Where the strongest head alone is wrong others are right, the more so the better they "
        "are.",
        pooled("correlation", of_networks(pairs), correlation()),
        paper=".99 (7 heads, seed 5)",
        reported=Reported(pooled=(correlation()([pairs(PAPER.isel(init=0))]), 1)),
        source="section 3.2 and appendix, table 2",
        estimand="correlation, over the other heads of layer 1 of all networks, of accuracy alone "
        "with the share of the strongest's mistakes that are right",
    ),
    Claim(
        "mistakes are about independent",
        "A head gets right of the strongest's mistakes about the share that it gets right of all.",
        no_difference("ratio", of_networks(ratio), 0.5, 2.0),
        paper=".78 (seed 5)",
        reported=reported(ratio, PAPER),
        source="appendix, table 2",
        estimand="share of the strongest's mistakes that a head gets right over its accuracy: "
        "median over the others; within a factor of 2 of 1, which is independence",
        primary_since="2026-11-26",
    ),
)


def tables(results: xr.Dataset) -> list[Table]:
    """The paper's table, by rank of strength."""
    seeds = [results.sel(init=seed) for seed in results["init"].values.tolist()]
    own = [pairs(one)[np.argsort(-others(one, "strength"))] for one in seeds]
    one = PAPER.isel(init=0)
    theirs = pairs(one)[np.argsort(-others(one, "strength"))]
    rows = []
    for rank in range(results.sizes["head"] - 1):
        accuracy, share = np.array([each[rank] for each in own]).T
        low, middle, high = np.nanquantile(share / accuracy, [0.25, 0.5, 0.75])
        paper = theirs[rank] if rank < len(theirs) else np.full(2, np.nan)
        rows.append(
            [
                str(rank + 2),
                f"{paper[1]:.2f} / {paper[0]:.2f} = {paper[1] / paper[0]:.2f}",
                f"{np.nanmedian(share):.2f} / {np.median(accuracy):.2f}",
                f"{middle:.2f} ({low:.2f} to {high:.2f})",
            ]
        )
    header = ["rank of strength", "paper, seed 5", "ours, medians", "ratio: median (quartiles)"]
    title = "Share of the strongest's mistakes that a head gets right / its accuracy"
    return [Table(title, header, rows)]


def draw(results: xr.Dataset) -> Figure:
    """The two shares against each other."""
    figure = Figure(figsize=(4.8, 4.2), layout="constrained")
    axes = figure.subplots()
    own = np.concatenate([pairs(results.sel(init=s)) for s in results["init"].values.tolist()])
    axes.plot(*own.T, "o", ms=3.5, color="#0072B2", alpha=0.5, mew=0, label="ours, every head")
    theirs = pairs(PAPER.isel(init=0))
    axes.plot(*theirs.T, "D", ms=6, mfc="none", mec="#D55E00", label="paper, seed 5")
    axes.plot([0, 1], [0, 1], ls="--", lw=0.8, color=FAINT, zorder=0)
    axes.set(xlim=(0.2, 1), ylim=(0, 1), xlabel="accuracy of the head alone")
    axes.set_ylabel("share of the strongest's mistakes it gets right")
    axes.legend(frameon=False, fontsize=8.5)
    tidy(axes, "On the diagonal: independent mistakes")
    return figure


experiment = Experiment(
    name="table2",
    title="Where the strongest head is wrong, are others right?",
    paper="Singh et al. 2024, appendix, table 2",
    summary="In the trained networks of fig. 3 one head of layer 1 is left at a time. Of the "
    "sequences that the strongest then misses, how many does each other head get right?",
    authors=lambda: authors("table2"),
    measure=measure,
    claims=CLAIMS,
    draw=draw,
    tables=tables,
    trainings=(MAIN,),
    seconds=lambda options: (5.0 if options.quick else 15.0) * max(options.seeds, 3) / 3,
)
