"""Figure 14: heads added back one by one, from the strongest on, and without the strongest.

Paper: Singh et al. 2024, appendix, fig. 14. Command: ih-jax run fig14 (the networks of fig3).
Expected: every head lowers the loss a little more; without the strongest the others make up for it
only in part.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ih_jax.claims import Claim, at_most, in_every_seed
from ih_jax.clamps.clamp import Clamp
from ih_jax.experiments.base import Experiment, Found, Options, Table
from ih_jax.experiments.drawing import FAINT, QUIET, seeds_of, tidy
from ih_jax.experiments.looking import HEADS, at_end, at_end_under_own, probe
from ih_jax.experiments.singh2024.trainings import MAIN
from ih_jax.measures.heads import induction_strength
from ih_jax.measures.performance import add_back

KINDS = {"with": ("#0072B2", "from the strongest on"), "less": ("#D55E00", "without the strongest")}


def measure(options: Options, found: Found) -> xr.Dataset:
    """Loss and accuracy with the first `count` heads left, [init, kind, count]; the order."""
    main = found["main"]
    batch = probe(options)
    strength = at_end(main, induction_strength, batch)
    order = np.argsort(-strength["induction_strength"].values, axis=1)
    seeds, counts = strength["init"].values, range(1, HEADS + 1)
    shape = (len(seeds), len(KINDS), HEADS)
    scores = {name: np.full(shape, np.nan) for name in ("loss", "accuracy")}
    whole = {name: np.full(len(seeds), np.nan) for name in scores}
    clamps = {}
    for i, seed in enumerate(seeds.tolist()):
        kinds = [add_back(order[i], HEADS), add_back(order[i][1:], HEADS)]
        named = {f"{k} {name}": c for k, group in enumerate(kinds) for name, c in group.items()}
        clamps[main.run(clamp="none", init=seed)] = {"whole": Clamp(), **named}
    measured = at_end_under_own(main, clamps, batch)
    for name, values in scores.items():
        found_here = measured[name].values
        whole[name] = found_here[:, 0]
        values[:, 0] = found_here[:, 1 : HEADS + 1]
        values[:, 1, :-1] = found_here[:, HEADS + 1 :]
    return xr.Dataset(
        {
            **{name: (("init", "kind", "count"), values) for name, values in scores.items()},
            **{f"whole_{name}": ("init", values) for name, values in whole.items()},
            "order": (("init", "rank"), order),
        },
        {"init": seeds, "kind": list(KINDS), "count": list(counts)},
    )


def _worst_rise(seed: xr.Dataset) -> float:
    """Greatest quotient of the loss with one head more and before."""
    loss = seed["loss"].values
    return float(np.nanmax(loss[:, 1:] / loss[:, :-1]))


def _loss(seed: xr.Dataset, kind: str, count: int) -> float:
    return float(seed["loss"].sel(kind=kind, count=count))


CLAIMS = (
    Claim(
        "every head helps",
        "Each head added, from the strongest on or without it, lowers the loss (or leaves it, to "
        "1%).",
        paper="13 of 13 steps in seed 5",
        decide=in_every_seed("greatest quotient of losses", _worst_rise, at_most(1.01)),
    ),
    Claim(
        "few heads are nearly enough",
        "With the three strongest the loss is at most a tenth of that with the strongest alone.",
        paper=".0099 / .117 = .085",
        decide=in_every_seed(
            "quotient", lambda s: _loss(s, "with", 3) / _loss(s, "with", 1), at_most(0.1)
        ),
    ),
    Claim(
        "the others together",
        "Six heads without the strongest have a lower loss than the strongest alone.",
        paper=".032 and .117",
        decide=in_every_seed(
            "quotient", lambda s: _loss(s, "less", 6) / _loss(s, "with", 1), at_most(1)
        ),
    ),
    Claim(
        "the strongest is not made up for",
        "All seven others together have a greater loss than the three strongest.",
        paper=".032 (six) and .0099",
        decide=in_every_seed(
            "quotient",
            lambda s: _loss(s, "less", HEADS - 1) / _loss(s, "with", 3),
            lambda value: value.more_than(1),
        ),
    ),
)


def tables(results: xr.Dataset) -> list[Table]:
    """The losses drawn."""
    rows = [
        [
            str(seed),
            " ".join(map(str, results["order"].sel(init=seed).values)),
            KINDS[kind][1],
            *(f"{v:.4f}" for v in results["loss"].sel(init=seed, kind=kind).values),
        ]
        for seed in results["init"].values.tolist()
        for kind in KINDS
    ]
    header = ["init", "order", "", *(f"{n}" for n in results["count"].values)]
    return [Table("Loss (nats) by the number of heads left", header, rows)]


def draw(results: xr.Dataset) -> Figure:
    """Losses against the number of heads, on a log scale."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for kind, (colour, label) in KINDS.items():
        loss = results["loss"].sel(kind=kind)
        axes.plot(loss["count"], loss.median("init"), color=colour, lw=2, label=label)
        for seed, mark in seeds_of(results):
            axes.plot(loss["count"], loss.sel(init=seed), mark, ms=4, color=colour, alpha=0.5)
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
    tidy(axes, "Heads added in the order of their strength: seeds and medians")
    axes.tick_params(color=FAINT)
    return figure


experiment = Experiment(
    name="fig14",
    title="Heads added back one by one",
    paper="Singh et al. 2024, appendix, fig. 14",
    summary="All heads of layer 1 of the trained networks of fig. 3 are ablated except the "
    "strongest, then except the two strongest, and so on; and the same without the strongest of "
    "all.",
    differs="In two of five seeds one more head raises the loss by a few percent at some place in "
    "the order. Since attention is spread over more heads (fig. 3), three do not reach "
    "what the paper's three reach.",
    measure=measure,
    claims=CLAIMS,
    draw=draw,
    tables=tables,
    trainings=(MAIN,),
    seconds=lambda options: (10.0 if options.quick else 25.0) * max(options.seeds, 3) / 3,
)
