"""Why has one network in ten no strong induction head: what tells whether heads will share?

Of our own. Command: ih-jax run specialists --seeds 64 (the networks of fig3 and fig4). Expected, if
it is decided at the start: how strong the strongest head will be can be told, for networks held
out, from leads that heads have before training; if it is decided later, from leads early on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ih_jax.claims import Claim, pooled
from ih_jax.experiments.base import Experiment, Table
from ih_jax.experiments.drawing import FAINT, over_sequences, tidy
from ih_jax.experiments.findings import telling
from ih_jax.experiments.findings.heads import (
    AT_START,
    EARLY,
    at,
    at_end,
    lead,
    measure,
    when_learned,
)
from ih_jax.experiments.findings.held_out import explained, told, told_by_twins
from ih_jax.experiments.singh2024 import roles
from ih_jax.experiments.singh2024.quantities import OF_HEADS
from ih_jax.experiments.singh2024.trainings import MAIN, SINGLE_HEADS

STRONG = 0.5  # three quarters of the attention to labels go to the right one
KNOWN: dict[str, Callable[[xr.Dataset], Sequence[float]]] = {
    "leads at step 0": lambda one: [lead(at(one, 0)), *(lead(one[n].values) for n in AT_START[1:])],
    "strengths at 30,000 sequences": lambda one: [at(one, EARLY).max(), lead(at(one, EARLY))],
    "strengths where the loss is 0.4 ln 2": lambda one: [
        when_learned(one).max(),
        lead(when_learned(one)),
    ],
    "times of single heads": lambda one: [
        float(np.log(one["alone"].min())),
        lead(-np.log(one["alone"].values)),
    ],
}


def strongest(one: xr.Dataset) -> float:
    """The strength of the strongest head at the end."""
    return float(at_end(one).max())


MEASURES = {
    **{name: told(known, strongest) for name, known in KNOWN.items()},
    "networks of the same initial weights on other data": told_by_twins(strongest),
}


def _claim(name: str, statement: str, known: str, primary: bool = True) -> Claim:
    return Claim(
        name,
        statement,
        pooled("share of the variance told", MEASURES[known], explained, rows="networks"),
        source="ours",
        estimand="1 - squared errors of what is said of the strength of the strongest head at the "
        f"end from {known}, over those of the mean; of each network by those that share neither "
        "initial weights nor draw",
        kind="hypothesis",
        primary=primary,
    )


CLAIMS = (
    _claim(
        "told at step 0",
        "The leads of heads before training tell how strong the strongest will be.",
        "leads at step 0",
    ),
    _claim(
        "told at 30,000 sequences",
        "Strengths after about a thousand steps tell how strong the strongest will be.",
        "strengths at 30,000 sequences",
    ),
    _claim(
        "told when learned",
        "Strengths where the loss has fallen to 0.4 ln 2 tell how strong the strongest will be.",
        "strengths where the loss is 0.4 ln 2",
        primary=False,
    ),
    _claim(
        "told by single heads",
        "How soon heads learn alone, and how far the first is ahead, tell how strong the strongest "
        "will be.",
        "times of single heads",
        primary=False,
    ),
    _claim(
        "told by twins",
        "Networks of the same initial weights on other data tell how strong the strongest will be.",
        "networks of the same initial weights on other data",
        primary=False,
    ),
)


def tables(results: xr.Dataset) -> list[Table]:
    """How much each tells; how networks with and without a strong head differ."""
    groups = []
    strength = [strongest(results.sel(init=i)) for i in results["init"].values.tolist()]
    for words, some in (
        (f"strongest head above {STRONG}", np.array(strength) > STRONG),
        ("none above", np.array(strength) <= STRONG),
    ):
        each = [results.isel(init=i) for i in np.flatnonzero(some)]
        if each:
            values = [
                [roles.worth(when_learned(one)) for one in each],
                [roles.worth(at_end(one)) for one in each],
                [float(at_end(one).sum()) for one in each],
            ]
            groups.append([words, str(len(each)), *(f"{np.nanmedian(v):.2f}" for v in values)])
    return [
        Table(
            "Strength of the strongest head at the end, told of networks held out",
            ("known", "share of the variance (95%)", "root mean square error"),
            telling.rows(MEASURES, results, lambda errors: math.sqrt(errors.mean())),
        ),
        Table(
            "Medians",
            (
                "",
                "networks",
                "heads' worth, loss 0.4 ln 2",
                "heads' worth, end",
                "sum of strengths",
            ),
            groups,
        ),
    ]


def draw(results: xr.Dataset) -> Figure:
    """Strongest heads by initial weights; their growth; what tells them."""
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(1.2, 1, 1.1))
    inits = results["init"].values.tolist()
    strength = np.array([strongest(results.sel(init=i)) for i in inits])
    weights = results["weights_seed"].values if "weights_seed" in results.coords else inits
    weights = np.asarray(weights)
    order = sorted(set(weights.tolist()), key=lambda w: float(np.median(strength[weights == w])))
    for place, each in enumerate(order):
        own = np.sort(strength[weights == each])
        colour = "#0072B2"
        left.plot([place, place], [own[0], own[-1]], color=colour, lw=0.8, alpha=0.5)
        left.plot([place] * len(own), own, "o", color=colour, ms=4.5, alpha=0.7, mew=0)
    left.axhline(STRONG, color=FAINT, lw=0.8, ls="--", zorder=0)
    left.set_xticks(range(len(order)), order, rotation=90, fontsize=7)
    left.set(ylim=(0, 1), xlabel="initial weights (seed); a dot a draw of the data")
    left.set_ylabel("strength of the strongest head, end")
    tidy(left, "By initial weights and draws")
    curve = results["strength"].max("head").transpose("init", "checkpoint").values
    x = results["checkpoint"].values
    for low, colour, words in (
        (False, "#0072B2", f"above {STRONG} at the end"),
        (True, "#D55E00", "not"),
    ):
        some = (strength <= STRONG) == low
        for own in curve[some]:
            middle.plot(x, own, color=colour, lw=0.6, alpha=0.35, rasterized=True)
        if some.any():
            median = np.median(curve[some], axis=0)
            label = f"{words} ({int(some.sum())})"
            middle.plot(x, median, color=colour, lw=2, label=label)
    middle.legend(frameon=False, fontsize=8)
    middle.set(ylim=(0, 1), ylabel="strength of the head that is strongest then")
    over_sequences(middle)
    tidy(middle, "Over training")
    labels = ["\n".join(_two_lines(name)) for name in MEASURES]
    telling.draw(right, MEASURES, results, labels)
    return figure


def _two_lines(text: str) -> list[str]:
    words = text.split()
    middle = (len(words) + 1) // 2
    return [" ".join(words[:middle]), " ".join(words[middle:])] if len(words) > 4 else [text]


experiment = Experiment(
    name="specialists",
    title="When does no head specialise?",
    paper="ours",
    summary="In most networks one induction head is strong at the end; in about one of ten no head "
    "is above .5, and several weak ones solve the task together. Whether that can be told before "
    "training, early in it, or where the loss has fallen to 0.4 ln 2.",
    measure=measure,
    claims=CLAIMS,
    draw=draw,
    tables=tables,
    quantities=OF_HEADS,
    trainings=(MAIN, SINGLE_HEADS),
    seconds=lambda options: 8.0 * max(options.seeds, 3),
)
