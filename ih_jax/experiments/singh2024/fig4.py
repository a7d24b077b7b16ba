"""Figure 4: do induction heads add up? Heads ablated from a trained network, and trained alone.

Paper: Singh et al. 2024, section 3.2 and fig. 4. Command: ih-jax run fig4. On 2 CPU cores: about 2
minutes per seed (9 million sequences).
Expected: a head's strength tells how well the network does with it alone; the strongest alone
nearly suffices, and any other may go; every head can learn the task alone, most of them more slowly
than all together.
"""

from __future__ import annotations

import math

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ih_jax.claims import (
    Bounds,
    Claim,
    Reported,
    correlation,
    in_most,
    median,
    more_than,
    of_networks,
    pooled,
    ratio,
    thousands,
)
from ih_jax.experiments.base import Experiment, Table
from ih_jax.experiments.drawing import HEAD_COLOURS, curves, over_sequences, tidy
from ih_jax.experiments.singh2024.ablations import (
    alone_times,
    draw_ablations,
    kept,
    measure_with_heads_alone,
    others,
    strongest,
)
from ih_jax.experiments.singh2024.known import (
    ONLY_ACCURACY,
    STRENGTH,
    ablations,
    authors,
    reported,
    time_in,
)
from ih_jax.experiments.singh2024.trainings import MAIN, SINGLE_HEADS

TABLE = ablations()


def _strength_and_accuracy(one: xr.Dataset) -> np.ndarray:
    """[head, 2]"""
    return np.stack([one["strength"].values, one["only_accuracy"].values], axis=1)


def kept_without(one: xr.Dataset) -> float:
    """Share of the gain over guessing that is left without the strongest head."""
    without = one["without_accuracy"].sel(head=strongest(one))
    return kept(float(without), float(one["accuracy"]))


def _kept_alone(one: xr.Dataset) -> float:
    return kept(float(one["only_accuracy"].sel(head=strongest(one))), float(one["accuracy"]))


def _best_alone(one: xr.Dataset) -> float:
    """Accuracy with the strongest alone less the best with another alone."""
    own = float(one["only_accuracy"].sel(head=strongest(one)))
    return own - float(others(one, "only_accuracy").max())


def _costs_most(one: xr.Dataset) -> float:
    """Accuracy without another head, at worst, less that without the strongest."""
    own = float(one["without_accuracy"].sel(head=strongest(one)))
    return float(others(one, "without_accuracy").min()) - own


def _learned_alone(one: xr.Dataset) -> np.ndarray:
    """[head, 1]: 1 where the head alone learned by the end of training."""
    return np.array([[float(time.high < math.inf)] for time in alone_times(one).values()])


def _over_all(one: xr.Dataset, of: str) -> Bounds:
    """Time of a median (or of the quickest) head alone over that of all together."""
    times = list(alone_times(one).values())
    alone = median(times) if of == "median" else min(times, key=lambda time: time.low)
    return ratio(alone, time_in(one, "loss_of_all"))


def _mean(samples: list[np.ndarray]) -> float:
    return float(np.concatenate(samples).mean())


CLAIMS = (
    Claim(
        "the stronger, the better alone",
        "The stronger an induction head, the better the network does with it alone.",
        pooled("correlation", of_networks(_strength_and_accuracy), correlation()),
        paper=".956 (40 heads of 5 networks)",
        reported=Reported(pooled=(0.956, 5)),
        source="section 3.2, fig. 4a",
        estimand="correlation, over all heads of layer 1 of all networks, of strength with "
        "accuracy when all others are ablated",
    ),
    Claim(
        "the strongest is best alone",
        "With the strongest head alone the network does better than with any other alone.",
        in_most("accuracy more", of_networks(_best_alone), more_than(0)),
        paper=".15 to .32",
        reported=reported(_best_alone, TABLE),
        source="section 3.2, fig. 4a",
        estimand="accuracy with the strongest alone less the best with another alone",
        primary=False,
    ),
    Claim(
        "the strongest nearly suffices",
        "With the strongest head alone the network keeps most of what it can do.",
        in_most("share kept", of_networks(_kept_alone), more_than(0.5)),
        paper=".84 to 1.00",
        reported=reported(_kept_alone, TABLE),
        source="section 3.2, fig. 4a",
        estimand="(accuracy with it alone - .5) / (accuracy - .5), where .5 is a random label of "
        "the context; more than half",
        primary_since="2026-11-26",
    ),
    Claim(
        "others make up for the strongest",
        "Without the strongest head the others make up for most of it: heads are redundant.",
        in_most("share kept", of_networks(kept_without), more_than(0.5)),
        paper=".78 to .99",
        reported=reported(kept_without, TABLE),
        source="section 3.2, fig. 4a",
        estimand="(accuracy without it - .5) / (accuracy - .5); more than half",
    ),
    Claim(
        "no other is missed as much",
        "Any other head can be ablated at a lower cost than the strongest.",
        in_most("accuracy more", of_networks(_costs_most), more_than(0)),
        paper="at least .009 (seed 5)",
        reported=Reported(share=(1, 1)),
        source="section 3.2, fig. 4a",
        estimand="least accuracy with another head ablated less that with the strongest ablated",
        primary=False,
    ),
    Claim(
        "every head can learn alone",
        "A network with any one head of layer 1 learns the task.",
        pooled("share of heads", of_networks(_learned_alone), _mean, 0.5),
        paper="38 of 40 in a million sequences",
        reported=Reported(pooled=(0.95, 5)),
        source="section 3.2, fig. 4b",
        estimand="share of heads that, alone from the start, reach a loss of 0.4 ln 2 by the end "
        "of training; more than half",
    ),
    Claim(
        "all together learn sooner than one",
        "With all heads a network learns sooner than with one.",
        in_most("quotient", of_networks(lambda one: _over_all(one, "median")), more_than(1)),
        paper="1.3 to 2.1",
        reported=reported(lambda one: _over_all(one, "median"), TABLE),
        source="section 3.2, fig. 4b",
        estimand="median time of the eight heads alone over the time of all together",
    ),
    Claim(
        "not even the quickest alone is as quick",
        "All together also learn sooner than the quickest head alone.",
        in_most("quotient", of_networks(lambda one: _over_all(one, "quickest")), more_than(1)),
        paper=".74 to 1.18 (sooner in 3 of 5)",
        reported=reported(lambda one: _over_all(one, "quickest"), TABLE),
        source="fig. 4b",
        estimand="least time of the eight heads alone over the time of all together",
        primary=False,
    ),
)


def tables(results: xr.Dataset) -> list[Table]:
    """Accuracy with each head alone and its time to learn alone, by rank of strength."""
    seeds = [results.sel(init=seed) for seed in results["init"].values.tolist()]
    order = [np.argsort(-one["strength"].values) for one in seeds]
    paper = np.argsort(-STRENGTH, axis=1)
    rows = []
    for rank in range(results.sizes["head"]):
        own = [o[rank] for o in order]
        accuracy = [float(one["only_accuracy"][h]) for one, h in zip(seeds, own, strict=True)]
        alone = [alone_times(one) for one in seeds]
        times = [list(each.values())[h] for each, h in zip(alone, own, strict=True)]
        theirs = []
        if rank < paper.shape[1]:
            table = [TABLE.isel(init=i) for i in range(len(paper))]
            heads = paper[:, rank]
            only = [float(one["only_accuracy"][h]) for one, h in zip(table, heads, strict=True)]
            alone_ = [alone_times(one)[int(h)] for one, h in zip(table, heads, strict=True)]
            theirs = [f"{np.median(only):.3f}", thousands(median(alone_))]
        low, middle, high = np.quantile(accuracy, [0.25, 0.5, 0.75])
        ours = [f"{middle:.3f}", f"{low:.3f} to {high:.3f}", thousands(median(times))]
        rows.append([str(rank + 1), *(theirs or ["", ""]), *ours])
    header = (
        "rank",
        "paper: accuracy alone",
        "time alone",
        "ours: accuracy alone",
        "quartiles",
        "time alone",
    )
    return [Table("Heads by their rank of strength: medians over networks", header, rows)]


def draw(results: xr.Dataset) -> Figure:
    """Left ablations of the trained networks, right heads trained alone."""
    figure = Figure(figsize=(10.5, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    draw_ablations(left, results, "accuracy", ONLY_ACCURACY)
    left.set(ylim=(0.15, 1.02), ylabel="accuracy")
    tidy(left, "a  Heads ablated after training")
    alone = results["alone_loss"].rename(alone_sequences="sequences")
    for head in results["head"].values.tolist():
        curves(right, alone.sel(head=head, drop=True), HEAD_COLOURS[head], f"{head}", every=False)
    curves(right, results["loss_of_all"], "0.5", "all", every=False, ls="--")
    right.set(ylim=(0, 2.1), xlim=(0, float(alone["sequences"][-1])), ylabel="loss (nats)")
    over_sequences(right)
    right.legend(frameon=False, fontsize=8.5, title="head trained alone", ncols=3)
    tidy(right, "b  One head of layer 1 from the start: medians over seeds")
    return figure


experiment = Experiment(
    name="fig4",
    title="Do induction heads add up?",
    paper="Singh et al. 2024, section 3.2, fig. 4",
    summary="Heads of layer 1 are ablated from the trained networks of fig. 3: all but one, or one "
    "alone. And networks are trained from the start with one head of layer 1 only.",
    differs="With --quick, heads alone train for 600,000 sequences instead of a million: those not "
    "done by then count as later.",
    authors=lambda: authors("fig4"),
    measure=measure_with_heads_alone,
    claims=CLAIMS,
    draw=draw,
    tables=tables,
    trainings=(MAIN, SINGLE_HEADS),
    seconds=lambda options: (3.0 if options.quick else 12.0) * max(options.seeds, 3) / 3,
)
