"""Table 2: where the strongest induction head alone is wrong, are others right?

Paper: Singh et al. 2024, appendix, table 2. Command: ih-jax run table2 (the networks of fig3).
Expected: a head gets right of the strongest's mistakes about the share that it gets right of all:
mistakes are about independent, which is why heads add up.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ih_jax.claims import Claim, at_least, in_every_seed, within
from ih_jax.experiments.base import Experiment, Found, Options, Table
from ih_jax.experiments.drawing import FAINT, HEAD_COLOURS, seeds_of, tidy
from ih_jax.experiments.looking import HEADS, at_end, config, probe
from ih_jax.experiments.singh2024.ablations import correlation, strongest
from ih_jax.experiments.singh2024.trainings import MAIN
from ih_jax.measures.heads import induction_strength
from ih_jax.measures.performance import leave_one, mistakes


def measure(options: Options, found: Found) -> xr.Dataset:
    """`accuracy` [init, head] alone; `corrected` [init, head, other] of head's mistakes."""
    main = found["main"]
    batch = probe(options)
    heads = range(HEADS)
    results = at_end(main, induction_strength, batch)
    results = results.rename(induction_strength="strength")
    alone = at_end(main, mistakes(leave_one(HEADS), config(main)), batch).rename(held="head")
    alone = alone.assign_coords(head=heads, other=heads)
    return results.assign(
        accuracy=1 - alone["wrong"], missed=alone["missed"], corrected=alone["corrected"]
    )


def _pairs(seed: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Over the other heads: the share of the strongest's mistakes that are right; accuracy."""
    best = strongest(seed)
    share = seed["corrected"].sel(head=best).values
    return np.delete(share, best), np.delete(seed["accuracy"].values, best)


def _ratio(seed: xr.Dataset) -> float:
    share, accuracy = _pairs(seed)
    return float(np.median(share / accuracy))


CLAIMS = (
    Claim(
        "mistakes are about independent",
        "Of the strongest head's mistakes another gets right .5 to 1.2 times the share that it "
        "gets right of all sequences (median over the seven others).",
        paper=".57 to .95, median .82 (seed 5)",
        decide=in_every_seed("median ratio", _ratio, within(0.5, 1.2)),
    ),
    Claim(
        "better heads correct more",
        "Over the others, the correlation of both shares is at least .8.",
        paper=".98 (seed 5)",
        decide=in_every_seed("correlation", lambda s: correlation(*_pairs(s)), at_least(0.8)),
    ),
)


def tables(results: xr.Dataset) -> list[Table]:
    """The paper's table, for every seed."""
    rows = []
    for seed in results["init"].values.tolist():
        mine = results.sel(init=seed)
        best = strongest(mine)
        cells = [
            "strongest"
            if head == best
            else f"{float(mine['corrected'].sel(head=best, other=head)):.3f} / "
            f"{float(mine['accuracy'].sel(head=head)):.3f}"
            for head in mine["head"].values.tolist()
        ]
        rows.append([str(seed), f"{float(mine['missed'].sel(head=best)):.0f}", *cells])
    header = ["init", "missed", *(f"head {h}" for h in results["head"].values)]
    title = "Share of the strongest's mistakes that a head gets right / its accuracy"
    return [Table(title, header, rows)]


def draw(results: xr.Dataset) -> Figure:
    """The two shares against each other."""
    figure = Figure(figsize=(4.8, 4.2), layout="constrained")
    axes = figure.subplots()
    for seed, mark in seeds_of(results):
        mine = results.sel(init=seed)
        best = strongest(mine)
        for head in mine["head"].values.tolist():
            if head == best:
                continue
            axes.plot(
                float(mine["accuracy"].sel(head=head)),
                float(mine["corrected"].sel(head=best, other=head)),
                mark,
                color=HEAD_COLOURS[head],
                ms=5.5,
                label=f"init {seed}" if head == (0 if best else 1) else None,
            )
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
    measure=measure,
    claims=CLAIMS,
    draw=draw,
    tables=tables,
    trainings=(MAIN,),
    seconds=lambda options: (5.0 if options.quick else 15.0) * max(options.seeds, 3) / 3,
)
