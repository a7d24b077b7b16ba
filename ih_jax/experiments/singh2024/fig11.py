"""Figure 11: which heads of layer 0 does each induction head work with?

Paper: Singh et al. 2024, appendix, fig. 11. Command: ih-jax run fig11 (the networks of fig3).
Expected: many to many. Any previous-token head with the strongest induction head does far better
than chance through keys, and none does through values; composition scores show it only in part.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from ih_jax.claims import (
    Claim,
    Reported,
    correlation,
    in_most,
    more_than,
    of_networks,
    pooled,
)
from ih_jax.experiments.base import Experiment, Found, Options, Table
from ih_jax.experiments.drawing import FAINT, QUIET, strip, tidy
from ih_jax.experiments.looking import HEADS, along, at_end, config, probe
from ih_jax.experiments.singh2024.ablations import strongest
from ih_jax.experiments.singh2024.known import reported, seed_5
from ih_jax.experiments.singh2024.roles import AS_MANY
from ih_jax.experiments.singh2024.trainings import MAIN
from ih_jax.measures.circuits import baseline, composition
from ih_jax.measures.heads import first_layer_previous_token_strength, induction_strength
from ih_jax.measures.performance import under, wiring

KEPT = {"pv": "keys (values kept)", "pp": "values (patterns kept)"}
INPUT = {"pv": "K", "pp": "V"}  # what a path goes through
CHANCE = 0.2  # a random label of five


def measure(options: Options, found: Found) -> xr.Dataset:
    """Accuracies [init, head, early] and composition scores [init, input, early, head].

    `only`: a head of layer 1 alone; `less` [..., kept]: and one head of layer 0 ablated; `pair`
    [..., kept]: and all but one. Scores at the end, and `start`, before training.
    """
    main = found["main"]
    batch = probe(options)
    heads = list(range(HEADS))
    results = at_end(main, induction_strength, batch, inits=options.inits)
    results = results.rename(induction_strength="strength")
    back = at_end(main, first_layer_previous_token_strength, batch, inits=options.inits)
    early = back["previous_token_strength"].rename(head="early")
    results["previous_token"] = early
    clamps = wiring(HEADS)
    accuracy = at_end(main, under(clamps, config(main)), batch, inits=options.inits)["accuracy"]
    results["only"] = (
        accuracy.sel(held=[f"only_l1h{h}" for h in heads])
        .rename(held="head")
        .assign_coords(head=heads)
    )
    for name, which in (("less", ""), ("pair", "allbut_")):
        cells = [
            [
                accuracy.sel(held=f"only_l1h{h}_remove_{which}l0h{k}_{kept}", drop=True)
                for k in heads
            ]
            for h in heads
            for kept in KEPT
        ]
        stacked = xr.concat([xr.concat(row, "early") for row in cells], "cell")
        values = stacked.transpose("init", "cell", "early").values
        shape = (values.shape[0], HEADS, len(KEPT), HEADS)
        results[name] = (("init", "head", "kept", "early"), values.reshape(shape))
    steps = main.steps(main.run(clamp="none", init=options.inits[0]))
    ends = along(main, composition(), batch, steps=[steps[0], steps[-1]], inits=options.inits)
    both = ends[["K", "V"]].rename(writer="early", reader="head").to_array("input")
    results["composition"] = both.isel(checkpoint=-1, drop=True)
    results["start"] = both.isel(checkpoint=0, drop=True)
    return results.assign_coords(kept=list(KEPT), early=heads)


def previous_token_heads(one: xr.Dataset) -> np.ndarray:
    """[early] bool: the heads that most attend to the previous token, as many as in the paper."""
    order = np.argsort(-one["previous_token"].values)
    return np.isin(np.arange(len(order)), order[:AS_MANY])


def _pair(one: xr.Dataset, kept: str) -> np.ndarray:
    """[early] accuracy of the strongest induction head with one head of layer 0."""
    return np.asarray(one["pair"].sel(head=strongest(one), kept=kept).values)


def by_attention(kept: str) -> Callable[[xr.Dataset], np.ndarray]:
    """[early, 2]: attention to the previous token; accuracy with the strongest induction head."""
    return lambda one: np.stack([one["previous_token"].values, _pair(one, kept)], axis=1)


def _worst_above_chance(one: xr.Dataset) -> float:
    """Least accuracy with one of the three previous-token heads, less that of a random label."""
    return float(_pair(one, "pv")[previous_token_heads(one)].min()) - CHANCE


def serve_all(one: xr.Dataset) -> float:
    """Mean rank correlation, over pairs of heads of layer 1, of accuracy with each early head."""
    rows = one["pair"].sel(kept="pv").transpose("head", "early").values
    varied = [stats.rankdata(row) for row in rows if np.ptp(row) > 0]
    if len(varied) < 2:
        return float("nan")
    return float(np.corrcoef(varied)[np.triu_indices(len(varied), 1)].mean())


def _redundant(one: xr.Dataset) -> float:
    """Share of the strongest's accuracy above chance that is left without its best early head."""
    best = int(np.argmax(_pair(one, "pv")))
    less = float(one["less"].sel(head=strongest(one), kept="pv", early=best))
    return (less - CHANCE) / (float(one["only"].sel(head=strongest(one))) - CHANCE)


def _grown(which: str) -> Callable[[xr.Dataset], np.ndarray]:
    """[early, 2]: attention to the previous token; composition gained with the strongest head."""

    def rows(one: xr.Dataset) -> np.ndarray:
        gained = (one["composition"] - one["start"]).sel(input=which, head=strongest(one))
        return np.stack([one["previous_token"].values, gained.values], axis=1)

    return rows


PAPER = seed_5()
# Without head 2 of layer 0, with which head 3 does best, it keeps .8929 (printed).
PAPER_LESS = PAPER.assign(
    less=xr.full_like(PAPER["pair"], np.nan).where(PAPER["early"] != 2, 0.8929)
)


def _pooled_reported(kept: str) -> Reported:
    value = correlation()([by_attention(kept)(PAPER.isel(init=0))])
    return Reported(pooled=(value, 1))


CLAIMS = (
    Claim(
        "induction heads use previous-token heads through keys",
        "Through its keys the strongest induction head works with previous-token heads.",
        pooled("correlation", of_networks(by_attention("pv")), correlation()),
        paper=".90 (seed 5; 1 for the heads chosen there, 0 for others)",
        reported=_pooled_reported("pv"),
        source="section 3.3 and appendix, fig. 11",
        estimand="correlation, over all heads of layer 0 of all networks, of attention of labels "
        "to their exemplar with accuracy with this head and the strongest induction head alone, "
        "values kept",
    ),
    Claim(
        "many to many",
        "Wiring is many to many: the same previous-token heads serve all induction heads.",
        in_most("rank correlation", of_networks(serve_all), more_than(0)),
        paper=".17 (seed 5)",
        reported=reported(serve_all, PAPER),
        source="section 3.3 and appendix, fig. 11",
        estimand="mean, over pairs of heads of layer 1, of the rank correlation of accuracies with "
        "each head of layer 0, values kept",
    ),
    Claim(
        "any previous-token head is above chance",
        "With any previous-token head alone the strongest induction head is better than chance.",
        in_most("accuracy above chance", of_networks(_worst_above_chance), more_than(0)),
        paper=".72 - .2 (seed 5)",
        reported=reported(_worst_above_chance, PAPER),
        source="section 3.3 and appendix, fig. 11",
        estimand="least accuracy with one of the three strongest previous-token heads, values "
        "kept, less that of a random label (.2)",
        primary=False,
    ),
    Claim(
        "no previous-token head is indispensable",
        "Without the one that helps it most, the strongest induction head keeps most of its "
        "accuracy.",
        in_most("share kept", of_networks(_redundant), more_than(0.5)),
        paper=".89 (seed 5)",
        reported=reported(_redundant, PAPER_LESS),
        source="appendix, fig. 11",
        estimand="(accuracy without it - .2) / (accuracy - .2), of the strongest induction head "
        "alone, values kept; more than half",
        primary_since="2026-11-26",
    ),
    Claim(
        "not through values",
        "Through its values it works with the other heads of layer 0.",
        pooled("correlation", of_networks(by_attention("pp")), correlation(), more=False),
        paper="-.77 (seed 5)",
        reported=_pooled_reported("pp"),
        source="section 3.3 and appendix, fig. 11",
        estimand="as through keys, with patterns kept; below 0",
        primary=False,
    ),
    Claim(
        "K-composition grows with previous-token heads",
        "In training, K-composition with the strongest induction head grows most for heads that "
        "attend to the previous token.",
        pooled("correlation", of_networks(_grown("K")), correlation()),
        paper=".118 to .147 with head 2 (seed 5)",
        source="appendix, fig. 11",
        estimand="correlation, over all heads of layer 0 of all networks, of attention to the "
        "previous token with the composition score gained in training",
        primary_since="2026-11-26",
    ),
    Claim(
        "V-composition grows with the others",
        "V-composition with it grows most for the other heads.",
        pooled("correlation", of_networks(_grown("V")), correlation(), more=False),
        paper=".120 to .154 with head 6 (seed 5)",
        source="appendix, fig. 11",
        estimand="the same; below 0",
        primary=False,
    ),
)


def tables(results: xr.Dataset) -> list[Table]:
    """The strongest induction head with each head of layer 0, by how it attends back."""
    seeds = [results.sel(init=seed) for seed in results["init"].values.tolist()]
    order = [np.argsort(-one["previous_token"].values) for one in seeds]
    paper = np.argsort(-PAPER["previous_token"].values[0], kind="stable")
    rows = []
    for rank in range(HEADS):
        attention = [
            one["previous_token"].values[o[rank]] for one, o in zip(seeds, order, strict=True)
        ]
        row = [str(rank + 1), f"{np.median(attention):.2f}"]
        for kept in KEPT:
            own = [_pair(one, kept)[o[rank]] for one, o in zip(seeds, order, strict=True)]
            low, middle, high = np.quantile(own, [0.25, 0.5, 0.75])
            row.append(f"{middle:.2f} ({low:.2f} to {high:.2f})")
        for which in INPUT.values():
            gain = [_grown(which)(one)[o[rank], 1] for one, o in zip(seeds, order, strict=True)]
            row.append(f"{np.median(gain):+.3f}")
        rows.append(row)
    theirs = [
        f"{_pair(PAPER.isel(init=0), kept)[list(paper[:AS_MANY])].mean():.2f}" for kept in KEPT
    ]
    rows.append(["paper, seed 5: mean of heads 1, 2, 5", "", *theirs, "", ""])
    header = (
        "rank",
        "attention to previous token",
        *(f"accuracy through {words}, median (quartiles)" for words in KEPT.values()),
        "K-composition gained",
        "V-composition gained",
    )
    title = "Heads of layer 0 by attention to the previous token, with the strongest induction head"
    return [Table(title, header, rows)]


def draw(results: xr.Dataset) -> Figure:
    """The paper's 3 x 2 panels for the first network; beside them, every network by rank."""
    mine = results.isel(init=0)
    figure = Figure(figsize=(16, 8), layout="constrained")
    panels = figure.subplots(2, 4, width_ratios=(1, 1, 1, 1.25))
    for row, (kept, words) in enumerate(KEPT.items()):
        lost = (mine["less"].sel(kept=kept) - mine["only"]).transpose("head", "early")
        pair = mine["pair"].sel(kept=kept).transpose("head", "early")
        score = mine["composition"].sel(input=INPUT[kept]).transpose("head", "early")
        spread = float(np.abs(score - baseline(64)).max())
        middle = baseline(64)
        for axes, values, title, scale in (
            (panels[row, 0], lost, "accuracy less, one ablated", {"vmin": -0.16, "vmax": 0.16}),
            (panels[row, 1], pair, "accuracy, all but one ablated", {"vmin": 0, "vmax": 1}),
            (
                panels[row, 2],
                score,
                f"{INPUT[kept]}-composition score",
                {"vmin": middle - spread, "vmax": middle + spread},
            ),
        ):
            image = axes.imshow(values, cmap="PuOr_r", **scale)
            figure.colorbar(image, ax=axes, shrink=0.8)
            axes.set_xticks(range(HEADS))
            axes.set_yticks(range(HEADS))
            axes.set_title(
                f"{title}\nthrough {words}" if axes is not panels[row, 2] else title,
                loc="left",
                fontsize=9.5,
            )
            axes.set(xlabel="head of layer 0", ylabel="head of layer 1, alone")
        _by_rank(panels[row, 3], results, kept, words)
    figure.suptitle(
        f"three columns: init {int(mine['init'])}; previous-token heads: "
        f"{' '.join(map(str, np.flatnonzero(previous_token_heads(mine))))}; strongest induction "
        f"head: {strongest(mine)}",
        fontsize=10,
    )
    return figure


def _by_rank(axes: Axes, results: xr.Dataset, kept: str, words: str) -> None:
    """Accuracies of the strongest head with each of layer 0, these by attention to the previous."""
    seeds = [results.sel(init=init) for init in results["init"].values.tolist()]
    theirs = PAPER.isel(init=0)
    for rank in range(HEADS):
        own = [_pair(one, kept)[np.argsort(-one["previous_token"].values)[rank]] for one in seeds]
        strip(axes, rank + 1, own, "#0072B2" if kept == "pv" else "#D55E00")
    order = np.argsort(-theirs["previous_token"].values, kind="stable")
    axes.plot(np.arange(HEADS) + 1, _pair(theirs, kept)[order], "D", ms=6, mfc="none", mec=QUIET)
    axes.axhline(CHANCE, color=FAINT, lw=0.8, ls="--", zorder=0)
    axes.set(ylim=(0, 1.03), xlabel="head of layer 0, by attention to the previous token")
    axes.set_ylabel("accuracy with the strongest induction head")
    tidy(
        axes,
        f"all {len(seeds)} networks, through {words.split(' (')[0]}\n(diamonds: paper, seed 5)",
    )


experiment = Experiment(
    name="fig11",
    title="Which heads work together?",
    paper="Singh et al. 2024, appendix, fig. 11",
    summary="In the trained networks of fig. 3 one head of layer 1 is left, and of layer 0 one "
    "head is ablated, or all but one, while layer 1 keeps the values of the whole network (so "
    "that only its patterns change) or its patterns. Beside it, how much of what each head of "
    "layer 0 writes each head of layer 1 can read, by its weights.",
    measure=measure,
    claims=CLAIMS,
    draw=draw,
    tables=tables,
    trainings=(MAIN,),
    seconds=lambda options: (12.0 if options.quick else 60.0) * max(options.seeds, 3) / 3,
)
