"""Figure 16 and table 3: is it matching or copying that a weak induction head lacks?

Paper: Singh et al. 2024, appendix, fig. 16 and table 3. Command: ih-jax run fig16 (the networks of
fig3). Expected: given a perfect match, a head alone does better, but most do not do well: they copy
some labels and not others, and which ones differs from head to head.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ih_jax.claims import Claim, Reported, below, in_most, more_than, of_networks, pooled
from ih_jax.experiments.base import Experiment, Found, Options, Table
from ih_jax.experiments.drawing import HEAD_COLOURS, QUIET, tidy
from ih_jax.experiments.looking import HEADS, at_end, config, probe
from ih_jax.experiments.singh2024.ablations import strongest
from ih_jax.experiments.singh2024.known import authors, reported, seed_5
from ih_jax.experiments.singh2024.trainings import MAIN
from ih_jax.measures.heads import induction_strength
from ih_jax.measures.performance import by_label, leave_one, mistakes, perfect_match, under


def measure(options: Options, found: Found) -> xr.Dataset:
    """Accuracy alone and with a perfect match, [init, head]; mistakes and accuracy by label.

    `corrected` [init, head, other]: the share of a head's mistakes, both with a perfect match,
    that the other gets right.
    """
    main = found["main"]
    batch = probe(options)
    shape = config(main)
    heads, alone, match = range(HEADS), leave_one(HEADS), perfect_match(HEADS)
    results = at_end(main, induction_strength, batch, inits=options.inits)
    results = results.rename(induction_strength="strength")
    only = at_end(main, under(alone, shape), batch, inits=options.inits)["accuracy"]
    results["only_accuracy"] = only.rename(held="head").assign_coords(head=heads)
    found_match = at_end(main, mistakes(match, shape), batch, inits=options.inits).rename(
        held="head"
    )
    found_match = found_match.assign_coords(head=heads, other=heads)
    results["match_accuracy"] = 1 - found_match["wrong"]
    results["match_missed"] = found_match["missed"]
    results["corrected"] = found_match["corrected"]
    by = at_end(main, by_label(match, shape), batch, inits=options.inits).rename(held="head")
    return results.assign(by.assign_coords(head=heads).data_vars)


def gains(one: xr.Dataset) -> np.ndarray:
    """[head, 1]: accuracy gained by a perfect match."""
    return np.asarray((one["match_accuracy"] - one["only_accuracy"]).values)[:, None]


def _helped(one: xr.Dataset) -> np.ndarray:
    """[head, 1]: 1 where a perfect match helps."""
    return (gains(one) > 0).astype(float)


def _gain_of_strongest(one: xr.Dataset) -> float:
    return float(gains(one)[strongest(one), 0])


def more_uneven(one: xr.Dataset) -> float:
    """Best less worst accuracy over labels: median of the others, less that of the strongest."""
    labels = one["label_accuracy"]
    spread = (labels.max("label") - labels.min("label")).values
    best = strongest(one)
    return float(np.median(np.delete(spread, best)) - spread[best])


def _worst_labels(one: xr.Dataset) -> float:
    """How many labels are some head's worst one, among the heads that are not the strongest."""
    worst = one["label_accuracy"].argmin("label").values
    return float(len(set(np.delete(worst, strongest(one)).tolist())))


def _corrected(one: xr.Dataset) -> float:
    """Median over the others: share of the strongest's mistakes they get right, over accuracy."""
    best = strongest(one)
    name = "match_corrected" if "match_corrected" in one else "corrected"
    share = one[name].sel(head=best).values / one["match_accuracy"].values
    return float(np.median(np.delete(share, best)))


def _mean(samples: list[np.ndarray]) -> float:
    return float(np.concatenate(samples).mean())


PAPER = seed_5()
ONE = PAPER.isel(init=0)
CLAIMS = (
    Claim(
        "a perfect match helps",
        "Given a perfect match a head alone does better: weak heads match badly.",
        pooled("accuracy gained", of_networks(gains), _mean),
        paper=".085 (8 heads, seed 5)",
        reported=Reported(pooled=(_mean([gains(ONE)]), 1)),
        source="appendix, fig. 16a",
        estimand="mean, over all heads of layer 1 of all networks, of accuracy with the head alone "
        "and its attention on the right label, less accuracy with the head alone",
    ),
    Claim(
        "it helps most heads",
        "It helps more than half of the heads.",
        pooled("share of heads", of_networks(_helped), _mean, 0.5),
        paper="7 of 8 (seed 5)",
        reported=Reported(pooled=(7 / 8, 1)),
        source="appendix, fig. 16a",
        estimand="share of heads, over all networks, that a perfect match helps",
        primary=False,
    ),
    Claim(
        "it helps the strongest",
        "The strongest head copies well: what it gets wrong it mostly matches wrongly.",
        in_most("accuracy gained", of_networks(_gain_of_strongest), more_than(0)),
        paper=".9802 to .9993 (seed 5)",
        reported=reported(_gain_of_strongest, PAPER),
        source="appendix, fig. 16a",
        estimand="accuracy that the strongest alone gains by a perfect match",
        primary=False,
    ),
    Claim(
        "weak heads copy some labels only",
        "With a perfect match, the others copy some labels well and others badly; the strongest "
        "copies all.",
        in_most("accuracy", of_networks(more_uneven), more_than(0)),
        paper=".55 (seed 5)",
        reported=reported(more_uneven, PAPER),
        source="appendix, fig. 16b and c",
        estimand="best less worst accuracy over the right labels: median of the other heads, less "
        "that of the strongest",
    ),
    Claim(
        "different heads, different labels",
        "Which label a head copies worst differs between heads.",
        in_most("labels", of_networks(_worst_labels), more_than(1)),
        paper="3 labels (seed 5)",
        reported=reported(_worst_labels, PAPER),
        source="appendix, fig. 16b and c",
        estimand="number of labels that are the worst one of some head, the strongest left out",
        primary_since="2026-11-26",
    ),
    Claim(
        "what is copied wrongly is hard for all",
        "Of the strongest's mistakes under a perfect match others get right fewer than of all "
        "sequences.",
        in_most("ratio", of_networks(_corrected), below(1)),
        paper=".48 (seed 5)",
        reported=reported(_corrected, PAPER),
        source="appendix, table 3",
        estimand="share of the strongest's mistakes that a head gets right over its accuracy, all "
        "with perfect matches: median over the others",
        primary=False,
    ),
)


def tables(results: xr.Dataset) -> list[Table]:
    """Table 3, by rank of strength: what others get right of the strongest head's mistakes."""
    seeds = [results.sel(init=seed) for seed in results["init"].values.tolist()]
    rows = []
    for rank in range(1, results.sizes["head"]):
        cells: dict[str, list[float]] = {"share": [], "accuracy": [], "ratio": []}
        for one in seeds:
            order = np.argsort(-one["strength"].values)
            share = float(one["corrected"].values[order[0], order[rank]])
            accuracy = float(one["match_accuracy"].values[order[rank]])
            for name, value in (
                ("share", share),
                ("accuracy", accuracy),
                ("ratio", share / accuracy),
            ):
                cells[name].append(value)
        rows.append([str(rank + 1), *(f"{np.nanmedian(v):.2f}" for v in cells.values())])
    header = [
        "rank of strength",
        "share of the strongest's mistakes got right",
        "accuracy",
        "ratio",
    ]
    return [Table("Table 3, perfect matches: medians over networks", header, rows)]


def draw(results: xr.Dataset) -> Figure:
    """Accuracy against strength, and by label for the first seed."""
    figure = Figure(figsize=(14, 3.9), layout="constrained")
    a, b, c = figure.subplots(1, 3)
    first = results.isel(init=0)
    for i, seed in enumerate(results["init"].values.tolist()):
        mine = results.sel(init=seed)
        for head in mine["head"].values.tolist():
            place = float(mine["strength"].sel(head=head))
            for name, mark in (("only_accuracy", "o"), ("match_accuracy", "s")):
                a.plot(
                    place,
                    float(mine[name].sel(head=head)),
                    mark,
                    ms=5.5,
                    color=HEAD_COLOURS[head],
                    mfc=HEAD_COLOURS[head] if i == 0 else "none",
                    alpha=1 if i == 0 else 0.5,
                    clip_on=False,
                )
    a.set(xlabel="induction strength at the end", ylabel="accuracy", ylim=(0.15, 1.02))
    a.legend(
        handles=[
            Line2D([], [], ls="", marker="o", color=QUIET, label="head alone"),
            Line2D([], [], ls="", marker="s", color=QUIET, label="and its match perfect"),
        ],
        frameon=False,
        fontsize=8.5,
        loc="upper left",
    )
    seed = int(first["init"])
    tidy(a, f"a  One head alone (filled: init {seed})")
    labels = first["label"].values
    for axes, name, title in (
        (b, "mistake_share", f"b  Where its mistakes fall, init {seed}"),
        (c, "label_accuracy", f"c  Its accuracy by label, init {seed}"),
    ):
        for head in first["head"].values.tolist():
            values = first[name].sel(head=head)
            axes.plot(
                labels, values, "o-", ms=4, lw=1.4, color=HEAD_COLOURS[head], label=f"head {head}"
            )
        axes.set(
            xlabel="right label", ylabel=title.split("  ")[1].split(",")[0], ylim=(-0.02, 1.02)
        )
        axes.set_xticks(labels)
        tidy(axes, title)
    b.set_ylabel("share of the head's mistakes")
    c.set_ylabel("accuracy")
    c.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


experiment = Experiment(
    name="fig16",
    title="Matching or copying: what does a weak induction head lack?",
    paper="Singh et al. 2024, appendix, fig. 16 and table 3",
    summary="In the trained networks of fig. 3 one head of layer 1 is left, and its attention is "
    "set to the right label. What it still gets wrong is copied wrongly.",
    authors=lambda: authors("fig16"),
    measure=measure,
    claims=CLAIMS,
    draw=draw,
    tables=tables,
    trainings=(MAIN,),
    seconds=lambda options: (10.0 if options.quick else 40.0) * max(options.seeds, 3) / 3,
)
