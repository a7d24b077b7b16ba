"""Figure 8: which heads of layer 0 must attend to the previous token?

Paper: Singh et al. 2024, appendix, fig. 8. Command: ih-jax run fig8. On 2 CPU cores: about 1.5
minutes per seed (4 million sequences).
Expected: any head will do, those that would become previous-token heads by themselves best; but if
all heads do nothing else, the label's own value is missing and learning is slower than without.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import xarray as xr
from matplotlib.figure import Figure

from ih_jax.claims import (
    Bounds,
    Claim,
    Reported,
    in_most,
    median,
    more_than,
    of_networks,
    ratio,
    thousands,
)
from ih_jax.experiments.base import Experiment, Found, Options, Table
from ih_jax.experiments.drawing import FAINT, chance, curves, over_sequences, strip, tidy
from ih_jax.experiments.singh2024.known import time_in
from ih_jax.experiments.singh2024.roles import PREVIOUS_TOKEN_CHOICES, previous_token_heads
from ih_jax.experiments.singh2024.trainings import CLAMPED, MAIN, PREVIOUS_TOKEN_HEADS

COLOURS = {
    "none": "#000000",
    "strongest": "#D55E00",
    "weakest": "#56B4E9",
    "three strongest": "#009E73",
    "all heads": "#CC79A7",
}


PAPER = {  # thousands of sequences to learn, seed 5
    "none": 310,
    "strongest": 216,
    "weakest": 280,
    "three strongest": 186,
    "all heads": 563,
}


def measure(options: Options, found: Found) -> xr.Dataset:
    """Training loss [clamp, init, sequences]; which heads were clamped, in words [clamp, init]."""
    clamped = found["previous_token_heads"].results["loss"]
    free = found["clamps"].results["loss"].sel(clamp=["none"])
    results = xr.Dataset({"loss": clamped})
    results["free"] = free.isel(clamp=0, drop=True).rename(sequences="free_sequences")
    heads = previous_token_heads(options, found)
    words = [
        [" ".join(map(str, heads[seed][name])) for seed in clamped["init"].values.tolist()]
        for name in PREVIOUS_TOKEN_CHOICES
    ]
    results["heads"] = xr.DataArray(
        words,
        dims=("clamp", "init"),
        coords={"clamp": list(PREVIOUS_TOKEN_CHOICES), "init": clamped["init"]},
    )
    return results


def _time(one: xr.Dataset, name: str) -> Bounds:
    if name == "none":
        return time_in(one, "free", "free_sequences")
    # Three heads were clamped where results of the first round had those above half the strongest.
    first_round = "all previous-token heads"
    known = one["clamp"].values.tolist()
    return time_in(one, "loss", clamp=first_round if name not in known else name)


def times_as_long(slow: str, fast: str) -> Callable[[xr.Dataset], Bounds]:
    """time(slow) / time(fast) in one network; unknown where neither is known."""
    return lambda one: ratio(_time(one, slow), _time(one, fast))


def _claim(
    name: str,
    says: str,
    slow: str,
    fast: str,
    theirs: tuple[int, int],
    primary: bool = True,
    since: str = "",
) -> Claim:
    return Claim(
        name,
        says,
        in_most("times as long", of_networks(times_as_long(slow, fast)), more_than(1)),
        paper=f"{theirs[0]}k / {theirs[1]}k = {theirs[0] / theirs[1]:.2f}",
        reported=Reported(values=(theirs[0] / theirs[1],)),
        source="appendix, fig. 8",
        estimand=f"time to a loss of 0.4 ln 2, {slow} over {fast}, within a network",
        primary=primary,
        primary_since=since,
    )


CLAIMS = (
    _claim(
        "a previous-token head",
        "With a previous-token head clamped a network learns sooner than without.",
        "none",
        "strongest",
        (310, 216),
        True,
    ),
    _claim(
        "any head",
        "It does so even with a head that would not become one.",
        "none",
        "weakest",
        (310, 280),
        False,
    ),
    _claim(
        "the right head is better",
        "It does so sooner with a head that would become one.",
        "weakest",
        "strongest",
        (280, 216),
        since="2026-11-26",
    ),
    _claim(
        "three do better than one",
        "With three previous-token heads clamped it learns sooner than with one.",
        "strongest",
        "three strongest",
        (216, 186),
        since="2026-11-26",
    ),
    _claim(
        "all heads are too many",
        "With all eight heads clamped it learns later than with none: nothing is left to bring "
        "layer 1 the values.",
        "all heads",
        "none",
        (563, 310),
        True,
    ),
)


def tables(results: xr.Dataset) -> list[Table]:
    """Median times, and in how many networks each clamp is quicker, slower or never learns."""
    seeds = [results.sel(init=seed) for seed in results["init"].values.tolist()]
    rows = []
    for name, theirs in PAPER.items():
        each = [_time(one, name) for one in seeds]
        against = [times_as_long(name, "none")(one) for one in seeds]
        counts = [
            sum(quotient.more_than(1) is False for quotient in against),
            sum(quotient.more_than(1) is True for quotient in against),
            sum(time.high == math.inf for time in each),
        ]
        said = "" if name == "none" else " / ".join(map(str, counts))
        rows.append([name, f"{theirs}k", thousands(median(each)), said])
    header = (
        "heads clamped",
        "paper, seed 5",
        "ours, median",
        "quicker / slower than none / not by the end",
    )
    return [Table("Sequences to learn", header, rows)]


def draw(results: xr.Dataset) -> Figure:
    """Learning curves; and how much sooner or later than without a clamp each network learns."""
    figure = Figure(figsize=(12.5, 4), layout="constrained")
    axes, right = figure.subplots(1, 2)
    free = results["free"].rename(free_sequences="sequences")
    curves(axes, free, COLOURS["none"], "none")
    for name in results["clamp"].values.tolist():
        colour = COLOURS.get(name, COLOURS["three strongest"])  # as the first round had it
        curves(axes, results["loss"].sel(clamp=name, drop=True), colour, name)
    chance(axes)
    axes.set(xlim=(0, float(results["sequences"][-1])), ylim=(0, 2.1))
    axes.set_ylabel("training loss (nats)")
    over_sequences(axes)
    axes.legend(frameon=False, title="heads of layer 0 clamped", alignment="left", fontsize=9)
    tidy(axes, "Previous-token attention clamped")
    seeds = [results.sel(init=seed) for seed in results["init"].values.tolist()]
    for place, name in enumerate(PREVIOUS_TOKEN_CHOICES):
        against = [times_as_long(name, "none")(one) for one in seeds]
        late = [quotient.high == math.inf for quotient in against]
        known = [q.low if q.low > 0 else math.nan for q in against]
        strip(right, place, known, COLOURS[name], [PAPER[name] / PAPER["none"]], late)
    right.axhline(1, color=FAINT, lw=0.8, zorder=0)
    right.set_yscale("log")
    right.set_yticks([0.25, 0.5, 1, 2, 4], ["1/4", "1/2", "1", "2", "4"])
    right.set_yticks([], minor=True)
    words = [name.replace(" ", "\n") for name in PREVIOUS_TOKEN_CHOICES]
    right.set_xticks(range(len(words)), words)
    right.set_ylabel("time to learn over that without")
    tidy(right, "Every network (open: later than that; diamonds: paper)")
    return figure


experiment = Experiment(
    name="fig8",
    title="Which heads must attend to the previous token?",
    paper="Singh et al. 2024, appendix, fig. 8",
    summary="Heads of layer 0 attend to the previous token from the first step on: the strongest "
    "previous-token head of that seed's own network in fig. 3, the weakest head, the three "
    "strongest, or all eight. Head 3 of layer 1 does the induction. Every seed "
    "thin, medians bold.",
    differs="With all eight heads clamped there are two populations, in the authors' code as in "
    "ours: some networks learn sooner than without a clamp, some later or not at all (thousands "
    "of sequences with all eight and with none, authors' code on the committed features: 240 and "
    "345, 545 and 270, above 800 and 360, 250 and 380). The paper's one network fell on one side.",
    measure=measure,
    claims=CLAIMS,
    draw=draw,
    tables=tables,
    trainings=(MAIN, CLAMPED, PREVIOUS_TOKEN_HEADS),
    seconds=lambda options: 10.0,
)
