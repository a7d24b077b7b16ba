"""Figure 14: heads added back one by one, from the strongest on, and without the strongest.

Paper: Singh et al. 2024, appendix, fig. 14. Command: ih-jax run fig14 (the networks of fig3).
Expected: every head lowers the loss a little more; without the strongest the others make up for it
only in part.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ih_jax.claims import Claim, Reported, below, in_most, more_than, of_networks
from ih_jax.clamps.clamp import Clamp
from ih_jax.experiments.base import Experiment, Found, Options, Table
from ih_jax.experiments.drawing import FAINT, QUIET, curves, tidy
from ih_jax.experiments.looking import HEADS, at_end, config, probe
from ih_jax.experiments.singh2024.known import authors
from ih_jax.experiments.singh2024.roles import by_rank
from ih_jax.experiments.singh2024.trainings import MAIN
from ih_jax.measures.heads import induction_strength
from ih_jax.measures.performance import add_back, under

PAPER = {  # losses of seed 5, read off the figure
    "with": ["0.117", "0.0436", "0.0099", "0.0048", "0.0026", "0.0019", "0.0016"],
    "less": ["0.657", "0.146", "0.088", "0.056", "0.037", "0.032"],
}
KINDS = {"with": ("#0072B2", "from the strongest on"), "less": ("#D55E00", "without the strongest")}


def measure(options: Options, found: Found) -> xr.Dataset:
    """Loss and accuracy with the first `count` heads left, [init, kind, count]; the order."""
    main = found["main"]
    batch = probe(options)
    strength = at_end(main, induction_strength, batch, inits=options.inits)["induction_strength"]
    every = list(range(HEADS))
    groups = [add_back(every, HEADS), add_back(every[1:], HEADS)]
    clamps = {"whole": Clamp()}
    for kind, group in zip(KINDS, groups, strict=True):
        clamps |= {f"{kind} {count}": clamp for count, clamp in enumerate(group.values(), 1)}
    ranked = by_rank(under(clamps, config(main)), induction_strength, layer=1)
    scores = at_end(main, ranked, batch, inits=options.inits)
    parts = {}
    for name in ("loss", "accuracy"):
        parts[f"whole_{name}"] = scores[name].sel(held="whole", drop=True)
        of_kinds = []
        for kind, group in zip(KINDS, groups, strict=True):
            some = scores[name].sel(held=[f"{kind} {n}" for n in range(1, len(group) + 1)])
            some = some.rename(held="count").assign_coords(count=range(1, len(group) + 1))
            of_kinds.append(some.reindex(count=range(1, HEADS + 1)))
        parts[name] = xr.concat(of_kinds, xr.DataArray(list(KINDS), dims="kind", name="kind"))
    order = (-strength).argsort(strength.get_axis_num("head")).rename(head="rank")
    return xr.Dataset({**parts, "order": order.drop_vars("rank", errors="ignore")})


def falls(one: xr.Dataset) -> float:
    """Share of the steps, a head more each, in which the loss falls."""
    loss = np.stack([one["loss"].sel(kind=kind).values for kind in KINDS])
    steps = np.diff(loss, axis=1)
    return float(np.mean(steps[np.isfinite(steps)] < 0))


def _over(one: xr.Dataset, kind: str, count: int, than: int) -> float:
    """Loss with so many heads over that with `than`, from the strongest on."""
    return float(one["loss"].sel(kind=kind, count=count) / one["loss"].sel(kind="with", count=than))


CLAIMS = (
    Claim(
        "every head helps",
        "Induction heads add up: with each head that is put back the loss falls.",
        in_most("share of steps", of_networks(falls), more_than(0.5)),
        paper="13 of 13 steps",
        reported=Reported(values=(1.0,)),
        source="section 3.2 and appendix, fig. 14",
        estimand="share of the 13 steps (seven from the strongest on, six without it) in which the "
        "loss falls; more than half",
    ),
    Claim(
        "three do better than one",
        "With the three strongest the loss is lower than with the strongest alone.",
        in_most("quotient of losses", of_networks(lambda one: _over(one, "with", 3, 1)), below(1)),
        paper=".0099 / .117 = .085",
        reported=Reported(values=(0.0099 / 0.117,)),
        source="appendix, fig. 14",
        estimand="loss with three heads left over that with one",
        primary=False,
    ),
    Claim(
        "the others together",
        "The others together do better than the strongest alone.",
        in_most("quotient of losses", of_networks(lambda one: _over(one, "less", 6, 1)), below(1)),
        paper=".032 / .117 = .27",
        reported=Reported(values=(0.032 / 0.117,)),
        source="appendix, fig. 14",
        estimand="loss with the six strongest of the others left over that with the strongest",
        primary_since="2026-11-26",
    ),
    Claim(
        "the strongest is not made up for",
        "The others together do worse than the three strongest.",
        in_most(
            "quotient of losses", of_networks(lambda one: _over(one, "less", 6, 3)), more_than(1)
        ),
        paper=".032 / .0099 = 3.2",
        reported=Reported(values=(0.032 / 0.0099,)),
        source="appendix, fig. 14",
        estimand="loss with the six strongest of the others left over that with the three "
        "strongest",
        primary=False,
    ),
)


def tables(results: xr.Dataset) -> list[Table]:
    """Quartiles of the losses drawn."""
    rows = []
    for kind, (_, words) in KINDS.items():
        loss = results["loss"].sel(kind=kind)
        for share, name in ((0.25, "lower quartile"), (0.5, "median"), (0.75, "upper quartile")):
            values = np.quantile(loss.transpose("count", "init").values, share, axis=1)
            rows.append([words, name, *(f"{value:.4f}" for value in values)])
        rows.append([words, "paper, seed 5", *PAPER[kind], *[""] * (HEADS - len(PAPER[kind]))])
    header = ["", "", *(f"{n}" for n in results["count"].values)]
    return [Table("Loss (nats) by the number of heads left", header, rows)]


def draw(results: xr.Dataset) -> Figure:
    """Losses against the number of heads, on a log scale."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for kind, (colour, label) in KINDS.items():
        curves(axes, results["loss"].sel(kind=kind, drop=True), colour, label)
        theirs = [float(value) for value in PAPER[kind]]
        axes.plot(range(1, len(theirs) + 1), theirs, "D", ms=6, mfc="none", mec=colour, mew=1.1)
    axes.axhline(
        float(results["whole_loss"].median("init")),
        ls="--",
        lw=0.8,
        color=QUIET,
        label="all heads",
    )
    axes.set(yscale="log", xlabel="heads of layer 1 left", ylabel="loss (nats)")
    axes.set_xticks(results["count"].values)
    axes.grid(axis="y", color="0.93")
    axes.legend(frameon=False)
    tidy(axes, "Heads added in the order of their strength (diamonds: paper, seed 5)")
    axes.tick_params(color=FAINT)
    return figure


experiment = Experiment(
    name="fig14",
    title="Heads added back one by one",
    paper="Singh et al. 2024, appendix, fig. 14",
    summary="All heads of layer 1 of the trained networks of fig. 3 are ablated except the "
    "strongest, then except the two strongest, and so on; and the same without the strongest of "
    "all.",
    authors=lambda: authors("fig14"),
    measure=measure,
    claims=CLAIMS,
    draw=draw,
    tables=tables,
    trainings=(MAIN,),
    seconds=lambda options: (10.0 if options.quick else 25.0) * max(options.seeds, 3) / 3,
)
