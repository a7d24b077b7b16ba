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

from ih_jax.claims import Claim, at_least, at_most, in_every_seed
from ih_jax.clamps.clamp import Clamp
from ih_jax.experiments.base import Experiment, Found, Options, Table
from ih_jax.experiments.drawing import QUIET, seeds_of, tidy
from ih_jax.experiments.looking import HEADS, at_end, at_end_under_own, probe
from ih_jax.experiments.singh2024.roles import SHARE
from ih_jax.experiments.singh2024.trainings import MAIN
from ih_jax.measures.heads import previous_token_strength
from ih_jax.measures.performance import paths_of

GROUPS = ("previous-token heads", "other heads")
KEPT = {"pp": "patterns kept", "pv": "values kept"}


def measure(options: Options, found: Found) -> xr.Dataset:
    """Accuracy [init, group, kept]; previous-token strength [init, head], and who is one."""
    main = found["main"]
    batch = probe(options)
    strength = at_end(main, previous_token_strength, batch)["previous_token_strength"]
    strength = strength.sel(layer=0, drop=True)
    chosen = strength >= SHARE * strength.max("head")
    clamps = {}
    for seed in strength["init"].values.tolist():
        mine = np.flatnonzero(chosen.sel(init=seed).values).tolist()
        rest = [head for head in range(HEADS) if head not in mine]
        own = {"whole": Clamp(), **paths_of({"pt": mine, "rest": rest})}
        clamps[main.run(clamp="none", init=seed)] = own
    values = at_end_under_own(main, clamps, batch)["accuracy"].values
    accuracy = values[:, 1:].reshape(-1, len(GROUPS), len(KEPT))
    return xr.Dataset(
        {
            "accuracy": (("init", "group", "kept"), accuracy),
            "whole_accuracy": ("init", values[:, 0]),
            "strength": strength,
            "chosen": chosen,
        },
        {"init": strength["init"], "group": list(GROUPS), "kept": list(KEPT)},
    )


def _lost(group: str, kept: str) -> Callable[[xr.Dataset], float]:
    def value(seed: xr.Dataset) -> float:
        return float(seed["whole_accuracy"] - seed["accuracy"].sel(group=group, kept=kept))

    return value


CLAIMS = (
    Claim(
        "previous-token heads: values kept",
        "Without the previous-token heads, values kept, at least .15 of accuracy is lost.",
        paper=".30 (seed 5)",
        decide=in_every_seed("lost", _lost(GROUPS[0], "pv"), at_least(0.15)),
    ),
    Claim(
        "previous-token heads: patterns kept",
        "Without them, patterns kept, at most .02 is lost.",
        paper=".0015 (seed 5)",
        decide=in_every_seed("lost", _lost(GROUPS[0], "pp"), at_most(0.02)),
    ),
    Claim(
        "other heads: patterns kept",
        "Without all other heads, patterns kept, at least .3 is lost.",
        paper=".66 (seed 5)",
        decide=in_every_seed("lost", _lost(GROUPS[1], "pp"), at_least(0.3)),
    ),
    Claim(
        "other heads: values kept",
        "Without all other heads, values kept, at most .05 is lost.",
        paper=".0068 (seed 5)",
        decide=in_every_seed("lost", _lost(GROUPS[1], "pv"), at_most(0.05)),
    ),
)


def tables(results: xr.Dataset) -> list[Table]:
    """The paper's table, for every seed."""
    rows = []
    for seed in results["init"].values.tolist():
        mine = results.sel(init=seed)
        which = np.flatnonzero(mine["chosen"].values)
        rest = np.flatnonzero(~mine["chosen"].values.astype(bool))
        for group, heads in zip(GROUPS, (which, rest), strict=True):
            values = mine["accuracy"].sel(group=group)
            rows.append(
                [
                    str(seed),
                    " ".join(map(str, heads)),
                    group,
                    *(f"{float(values.sel(kept=kept)):.4f}" for kept in KEPT),
                ]
            )
    header = ["init", "heads of layer 0 ablated", "which are", *KEPT.values()]
    return [
        Table(
            "Accuracy (paper, seed 5, heads 1 2 5: .9985, .6987; others: .3427, .9932)",
            header,
            rows,
        )
    ]


def draw(results: xr.Dataset) -> Figure:
    """Accuracy of the four ablations; and how much of a previous-token head each head is."""
    figure = Figure(figsize=(9.5, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    cells = [(group, kept) for group in GROUPS for kept in KEPT]
    colours = {"pp": "#0072B2", "pv": "#D55E00"}
    for place, (group, kept) in enumerate(cells):
        values = results["accuracy"].sel(group=group, kept=kept)
        left.plot([place - 0.25, place + 0.25], [float(values.median())] * 2, color=colours[kept])
        for seed, mark in seeds_of(results):
            left.plot(
                place, float(values.sel(init=seed)), mark, ms=5, color=colours[kept], alpha=0.7
            )
    left.axhline(float(results["whole_accuracy"].median()), ls="--", lw=0.8, color=QUIET)
    broken = {group: group.replace("-token ", "-token\n") for group in GROUPS}
    names = [f"{broken[group]}\n{KEPT[kept]}" for group, kept in cells]
    left.set_xticks(range(len(cells)), names, fontsize=8)
    left.set(ylim=(0.15, 1.02), ylabel="accuracy")
    tidy(left, "Heads of layer 0 ablated (dashed: none)")
    for seed, mark in seeds_of(results):
        mine = results.sel(init=seed)
        for head in mine["head"].values.tolist():
            is_one = bool(mine["chosen"].sel(head=head))
            right.plot(
                head,
                float(mine["strength"].sel(head=head)),
                mark,
                ms=5,
                color="#009E73",
                mfc="#009E73" if is_one else "none",
                label=f"init {seed}" if head == 0 else None,
            )
    right.set(xlabel="head of layer 0", ylabel="attention of labels to their exemplar", ylim=(0, 1))
    right.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    tidy(right, "Previous-token heads (filled: at least half the strongest)")
    return figure


experiment = Experiment(
    name="table1",
    title="Which heads of layer 0 act through patterns, and which through values?",
    paper="Singh et al. 2024, appendix, table 1",
    summary="In the trained networks of fig. 3 the previous-token heads of layer 0 (labels attend "
    "to the exemplar before them at least half as much as in the strongest) or all others are "
    "ablated, while layer 1 keeps the patterns, or the values, of the whole network.",
    differs="The same four numbers have the same order in every seed but smaller gaps: other "
    "heads of layer 0 attend to the previous token too, a little less than half as much "
    "as the strongest, and so work through both paths. The paper chose its three heads by "
    "eye.",
    measure=measure,
    claims=CLAIMS,
    draw=draw,
    tables=tables,
    trainings=(MAIN,),
    seconds=lambda options: (6.0 if options.quick else 15.0) * max(options.seeds, 3) / 3,
)
