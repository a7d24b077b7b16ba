"""Table 1: previous-token heads act through patterns, the other heads of layer 0 through values.

Paper: Singh et al. 2024, appendix, table 1. Command: ih-jax run table1 (the networks of fig3).
Expected: without previous-token heads accuracy falls if layer 1 keeps its values and sees new
patterns, and hardly if it keeps its patterns; without the other heads it is the other way round.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ih_jax.claims import (
    Claim,
    Reported,
    correlation,
    in_most,
    more_than,
    no_difference,
    of_networks,
    pooled,
)
from ih_jax.clamps.clamp import Clamp
from ih_jax.experiments.base import Experiment, Found, Options, Table
from ih_jax.experiments.drawing import QUIET, strip, tidy
from ih_jax.experiments.looking import HEADS, at_end, config, probe
from ih_jax.experiments.singh2024.known import authors
from ih_jax.experiments.singh2024.roles import AS_MANY, by_rank
from ih_jax.experiments.singh2024.trainings import MAIN
from ih_jax.measures.heads import first_layer_previous_token_strength
from ih_jax.measures.performance import paths_of, under

GROUPS = ("previous-token heads", "other heads")
KEPT = {"pp": "patterns kept", "pv": "values kept"}
PAPER = {  # accuracy of seed 5, with all heads .99998724
    (GROUPS[0], "pp"): 0.9985332,
    (GROUPS[0], "pv"): 0.69868624,
    (GROUPS[1], "pp"): 0.34266582,
    (GROUPS[1], "pv"): 0.9931888,
}


def measure(options: Options, found: Found) -> xr.Dataset:
    """Accuracy [init, group, kept] without the three strongest previous-token heads, or the others.

    `by_count` [init, count, group, kept]: with any other number of them. `one` [init, head, kept]:
    the loss without one head of layer 0, in their order; `strength` [init, head] in that order too.
    """
    main = found["main"]
    batch = probe(options)
    counts, every = range(1, HEADS), list(range(HEADS))
    groups = {f"{n} {name}": heads for n in counts for name, heads in _split(n, every).items()}
    clamps = paths_of({**groups, **{f"head {h}": [h] for h in every}})
    ranked = by_rank(
        under({"whole": Clamp(), **clamps}, config(main)),
        first_layer_previous_token_strength,
        layer=0,
    )
    scores = at_end(main, ranked, batch, inits=options.inits)

    def cells(metric: str, names: list[str], dim: str) -> xr.DataArray:
        by_kept = [
            scores[metric]
            .sel(held=[f"without_{name}_{kept}" for name in names])
            .rename(held=dim)
            .drop_vars(dim)
            for kept in KEPT
        ]
        return xr.concat(by_kept, xr.DataArray(list(KEPT), dims="kept", name="kept"))

    of_groups = [cells("accuracy", [f"{n} {name}" for n in counts], "count") for name in GROUPS]
    by_count = xr.concat(of_groups, xr.DataArray(list(GROUPS), dims="group", name="group"))
    by_count = by_count.assign_coords(count=list(counts))
    measured = at_end(main, first_layer_previous_token_strength, batch, inits=options.inits)
    strength = measured["previous_token_strength"]
    ordered = -np.sort(-strength.values, axis=strength.get_axis_num("head"))
    return xr.Dataset(
        {
            "accuracy": by_count.sel(count=AS_MANY, drop=True),
            "by_count": by_count,
            "one": cells("loss", [f"head {h}" for h in every], "head").assign_coords(head=every),
            "whole_accuracy": scores["accuracy"].sel(held="whole", drop=True),
            "whole_loss": scores["loss"].sel(held="whole", drop=True),
            "strength": strength.copy(data=ordered),
        }
    )


def _split(count: int, heads: list[int]) -> dict[str, list[int]]:
    """The first so many heads as previous-token heads, and the others."""
    return dict(zip(GROUPS, (heads[:count], heads[count:]), strict=True))


def _lost(one: xr.Dataset, group: str, kept: str) -> float:
    return float(one["whole_accuracy"] - one["accuracy"].sel(group=group, kept=kept))


def more_by_values_kept(group: str) -> Callable[[xr.Dataset], float]:
    """Accuracy lost where values are kept, so that patterns change, less where patterns are."""
    return lambda one: _lost(one, group, "pv") - _lost(one, group, "pp")


def _by_head(one: xr.Dataset) -> np.ndarray:
    """[head, 2]: attention to the previous token; loss added through patterns less by values."""
    if "one" not in one:  # results of the first round do not have it
        return np.full((1, 2), np.nan)
    through = one["one"].sel(kept="pv") - one["one"].sel(kept="pp")
    return np.stack([one["strength"].values, through.values], axis=1)


def _paper(group: str) -> float:
    return PAPER[group, "pp"] - PAPER[group, "pv"]


CLAIMS = (
    Claim(
        "previous-token heads act through patterns",
        "Previous-token heads matter for what layer 1 attends to, not for what it copies.",
        in_most("accuracy", of_networks(more_by_values_kept(GROUPS[0])), more_than(0)),
        paper=".30",
        reported=Reported(values=(_paper(GROUPS[0]),)),
        source="section 3.3 and appendix, table 1",
        estimand="accuracy lost without the three strongest previous-token heads with layer 1's "
        "values kept, less that with its patterns kept",
    ),
    Claim(
        "the others act through values",
        "The other heads of layer 0 matter for what layer 1 copies, not for what it attends to.",
        in_most(
            "accuracy", of_networks(lambda one: -more_by_values_kept(GROUPS[1])(one)), more_than(0)
        ),
        paper=".65",
        reported=Reported(values=(-_paper(GROUPS[1]),)),
        source="section 3.3 and appendix, table 1",
        estimand="accuracy lost without all heads but these three with layer 1's patterns kept, "
        "less that with its values kept",
    ),
    Claim(
        "the more of a previous-token head, the more through patterns",
        "What a head does through patterns rather than values goes with how much it attends to the "
        "previous token (no threshold).",
        pooled("rank correlation", of_networks(_by_head), correlation(ranks=True)),
        paper="three heads chosen by eye",
        source="section 3.3 and appendix, table 1",
        estimand="rank correlation, over all heads of layer 0 of all networks, of attention of "
        "labels to their exemplar with: loss added by ablating the head alone with values kept, "
        "less that with patterns kept",
        primary=False,
    ),
    Claim(
        "previous-token heads: nothing through values",
        "Without previous-token heads hardly anything is lost while layer 1 keeps its patterns.",
        no_difference(
            "accuracy lost", of_networks(lambda one: _lost(one, GROUPS[0], "pp")), -0.05, 0.05
        ),
        paper=".0015",
        reported=Reported(values=(0.99998724 - PAPER[GROUPS[0], "pp"],)),
        source="appendix, table 1",
        estimand="accuracy lost; within a twentieth",
        primary=False,
    ),
    Claim(
        "the others: nothing through patterns",
        "Without the other heads hardly anything is lost while layer 1 keeps its values.",
        no_difference(
            "accuracy lost", of_networks(lambda one: _lost(one, GROUPS[1], "pv")), -0.05, 0.05
        ),
        paper=".0068",
        reported=Reported(values=(0.99998724 - PAPER[GROUPS[1], "pv"],)),
        source="appendix, table 1",
        estimand="accuracy lost; within a twentieth",
        primary=False,
    ),
)


def tables(results: xr.Dataset) -> list[Table]:
    """Median accuracies by how many heads count as previous-token heads."""
    if "by_count" not in results:
        return []
    rows = []
    for count in results["count"].values.tolist():
        some = results["by_count"].sel(count=count)
        cells = [some.sel(group=g, kept=k).values for g in GROUPS for k in KEPT]
        said = f"{count}{' (as in the paper)' if count == AS_MANY else ''}"
        rows.append([said, *(f"{np.median(values):.4f}" for values in cells)])
    rows.append(["paper, seed 5", *(f"{PAPER[g, k]:.4f}" for g in GROUPS for k in KEPT)])
    header = ["heads that count", *(f"without {g}, {KEPT[k]}" for g in GROUPS for k in KEPT)]
    title = "Accuracy by how many heads count as previous-token heads: medians over networks"
    return [Table(title, header, rows)]


def draw(results: xr.Dataset) -> Figure:
    """Accuracy of the four ablations; and what each head does through patterns and values."""
    figure = Figure(figsize=(10.5, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    cells = [(group, kept) for group in GROUPS for kept in KEPT]
    colours = {"pp": "#0072B2", "pv": "#D55E00"}
    for place, (group, kept) in enumerate(cells):
        values = results["accuracy"].sel(group=group, kept=kept).values
        strip(left, place, values, colours[kept], paper=[PAPER[group, kept]])
    left.axhline(float(results["whole_accuracy"].median()), ls="--", lw=0.8, color=QUIET)
    broken = {group: group.replace("-token ", "-token\n") for group in GROUPS}
    names = [f"{broken[group]}\n{KEPT[kept]}" for group, kept in cells]
    left.set_xticks(range(len(cells)), names, fontsize=8)
    left.set(ylim=(0.15, 1.02), ylabel="accuracy")
    tidy(left, "Heads of layer 0 ablated (dashed: none; diamonds: paper)")
    if "one" in results:
        for kept, colour in colours.items():
            added = results["one"].sel(kept=kept) - results["whole_loss"]
            x = results["strength"].transpose("init", "head").values.ravel()
            y = added.transpose("init", "head").values.ravel()
            right.plot(x, y, "o", ms=3.5, color=colour, alpha=0.5, mew=0, label=KEPT[kept])
        right.set_yscale("symlog", linthresh=0.01)
        right.legend(frameon=False, fontsize=8.5, title="layer 1's", alignment="left")
    right.set(xlabel="attention of labels to their exemplar", xlim=(0, 1))
    right.set_ylabel("loss added without the head (nats)")
    tidy(right, "Every head of layer 0 of every network, ablated alone")
    return figure


experiment = Experiment(
    name="table1",
    title="Which heads of layer 0 act through patterns, and which through values?",
    paper="Singh et al. 2024, appendix, table 1",
    summary="In the trained networks of fig. 3 the three heads of layer 0 that most attend from "
    "labels to the exemplar before them (the paper chose three by eye) or all others are "
    "ablated, while layer 1 keeps the patterns, or the values, of the whole network. So that no "
    "choice decides, any other number of them, and every head alone.",
    authors=lambda: authors("table1"),
    measure=measure,
    claims=CLAIMS,
    draw=draw,
    tables=tables,
    trainings=(MAIN,),
    seconds=lambda options: (6.0 if options.quick else 15.0) * max(options.seeds, 3) / 3,
)
