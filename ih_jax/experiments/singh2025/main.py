"""Figures 1 to 6: in-context learning comes, goes, and what it does to what remains.

Paper: Singh et al. 2025, sections 3 to 7. Command: ih-jax run singh2025. On 2 CPU cores: half an
hour a network (ten runs of 1.5 million sequences); with --quick a third of that.
Expected: new labels are read from the context for a while only; in the end weights decide where
they disagree with the context, unless the query's own exemplar is there. New labels alone are
learned late, and sooner with layer 1 of a trained network.

Smaller than the paper, as `trainings` says. When the statements were written, the first 240,000
sequences of two networks (init 0, four and two exemplars a class) had been seen: at their end
answers from weights were right in 94% of `iwl_copy_avail` and in 2% of `pure_iwl`, new labels were
read from the context in 71% (with two exemplars in 66%, after 70%), and weights had won on
`flip_icl` from the beginning.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ih_jax.claims import (
    Bounds,
    Claim,
    Reported,
    Rule,
    below,
    in_most,
    more_than,
    of_networks,
    ratio,
    time_of,
    yes,
)
from ih_jax.experiments.base import Experiment, Found, Options, Table, Training
from ih_jax.experiments.drawing import chance, curves, over_sequences, tidy
from ih_jax.experiments.singh2025.strategies import (
    FLIP,
    METRICS,
    READS,
    SETS,
    comes,
    reads,
    transient,
    wins,
)
from ih_jax.experiments.singh2025.trainings import (
    CIWL_ONLY,
    CLAMPED,
    GRAFTS,
    ICL_ONLY,
    MAIN,
    MATCHED,
)

ALONE = {"main": MAIN, "matched": MATCHED, "icl_only": ICL_ONLY, "ciwl_only": CIWL_ONLY}


def measure(options: Options, found: Found) -> xr.Dataset:
    """Scores on every evaluation set, [run, init, set, sequences]."""
    return xr.concat(
        [
            one.assign_coords(run=name)
            for training in (*ALONE.values(), GRAFTS, CLAMPED)
            for name, one in _runs(training, found)
        ],
        dim="run",
    )


def _runs(training: Training, found: Found) -> list[tuple[str, xr.Dataset]]:
    """The results of each clamp of a training, by the name of the run."""
    results = found[training.name].results[list(METRICS)]
    results = results.rename(eval_sequences="sequences")
    names = {own.name: name for name, own in ALONE.items()}
    return [
        (names.get(training.name, clamp), results.sel(clamp=clamp, drop=True))
        for clamp in results["clamp"].values.tolist()
    ]


def falls(one: xr.Dataset) -> float:
    """Nats by which the loss falls between the context's best time and the end."""
    loss = one["eval_loss"].sel(run="main", set="train_eval").values
    return float(loss[np.nanargmax(reads(one, "main"))] - loss[-1])


def constrained(one: xr.Dataset) -> float:
    """By how much more often answers from weights are right where the label can be copied."""
    last = one["eval_accuracy"].sel(run="main").isel(sequences=-1)
    return float(last.sel(set="iwl_copy_avail") - last.sel(set="pure_iwl"))


def time(one: xr.Dataset, run: str) -> Bounds:
    """Sequences until new labels are read from the context: a loss of 0.4 ln 2 on `icl`."""
    return time_of(one["eval_loss"].sel(run=run, set="icl"))


def quicker(fast: str, slow: str) -> Callable[[xr.Dataset], Bounds]:
    """Time of one run over that of another."""
    return lambda one: ratio(time(one, fast), time(one, slow))


def _share(what: str, value: Callable[[xr.Dataset], bool | None]) -> Rule:
    return in_most(what, of_networks(value), yes)


ONE = Reported(share=(1, 1))
CLAIMS = (
    Claim(
        "in-context learning comes",
        "Where labels are the classes' own, in-context learning emerges first.",
        _share("comes", comes("main")),
        paper="so",
        reported=ONE,
        source="section 3, fig. 1b",
        estimand=f"share of networks above chance at some time: {READS}",
    ),
    Claim(
        "and goes",
        "Later in-context learning disappears.",
        _share("comes and goes", transient),
        paper="so",
        reported=ONE,
        source="section 3, fig. 1b",
        estimand=f"share of networks in which it comes and ends below its best: {READS}",
    ),
    Claim(
        "and weights decide",
        "In the end weights win where they disagree with the context.",
        _share("weights win", wins("main", "weights")),
        paper="so",
        reported=ONE,
        source="section 3, fig. 1b",
        estimand=f"share of networks in which weights win at the end: {FLIP}",
    ),
    Claim(
        "while the loss falls",
        "All the while the training loss falls.",
        in_most("nats", of_networks(falls), more_than(0)),
        paper="so",
        reported=ONE,
        source="section 3; Singh et al. 2023, fig. 1",
        estimand="loss on train_eval at the context's best time less that at the end",
    ),
    Claim(
        "what remains needs the label in the context",
        "What replaces it is constrained by the context: right where the correct label is there.",
        in_most("difference", of_networks(constrained), more_than(0)),
        paper="so",
        reported=ONE,
        source="section 4",
        estimand="accuracy on iwl_copy_avail less that on pure_iwl, at the end of the main run",
    ),
    Claim(
        "layer 1 of the main run is what new labels lack",
        "On new labels alone in-context learning is slow; with the trained run's second layer it "
        "is learned at once.",
        in_most("quotient", of_networks(quicker("layer 1 of main", "icl_only")), below(1)),
        paper="a very long plateau without, none with",
        source="section 5.2, fig. 4a",
        estimand="time to a loss of 0.4 ln 2 on icl with the graft over that without",
    ),
    Claim(
        "and so is that of in-weights learning",
        "A second layer that never saw the query's class in a context does it, too.",
        in_most("quotient", of_networks(quicker("layer 1 of ciwl_only", "icl_only")), below(1)),
        paper="so, for checkpoints within a window",
        source="section 5.3, fig. 4b",
        estimand="the same with layer 1 of ciwl_only, at its end",
    ),
    Claim(
        "with the query's own exemplar it stays",
        "Where the exemplar in the context is the query's own, in-context learning is emergent and "
        "persistent.",
        _share("stays", wins("matched", "context")),
        paper="so",
        reported=ONE,
        source="section 7, fig. 6",
        estimand=f"share of networks in which the context wins at the end: {FLIP}",
    ),
    Claim(
        "no previous token, no in-context learning",
        "Without attention to the previous token in layer 0 in-context learning never comes.",
        _share("never", lambda one: not comes("previous token denied")(one)),
        source="ours",
        estimand=f"share of networks at chance throughout: {READS}",
        kind="hypothesis",
    ),
    Claim(
        "a previous-token head does not keep it",
        "Given previous-token heads do not make in-context learning stay.",
        _share("goes", wins("previous token given", "weights")),
        source="ours",
        estimand=f"share of networks in which weights win at the end: {FLIP}",
        kind="hypothesis",
    ),
    Claim(
        "a given match keeps it",
        "Two heads of layer 1 that are given the match make in-context learning stay.",
        _share("stays", wins("match given", "context")),
        source="ours",
        estimand=f"share of networks in which the context wins at the end: {FLIP}",
        kind="hypothesis",
    ),
    Claim(
        "but only while it is given",
        "A match that is given for the first quarter only does not make it stay.",
        _share("goes", wins("match given at first", "weights")),
        source="ours",
        estimand=f"share of networks in which weights win at the end: {FLIP}",
        kind="hypothesis",
    ),
)


def tables(results: xr.Dataset) -> list[Table]:
    """Medians over networks, by run: the context's best, its end, and the other sets' ends."""
    rows = []
    for run in results["run"].values.tolist():
        one = results.sel(run=run).median("init")
        flip = one["eval_in_context_accuracy"].sel(set="flip_icl").values
        best = int(np.nanargmax(flip))
        last = one["eval_accuracy"].isel(sequences=-1)
        ends = [f"{float(last.sel(set=name)):.2f}" for name in SETS if name != "flip_icl"]
        at = f"{flip[best]:.2f} at {int(one['sequences'][best]):,}"
        rows.append((run, at, f"{flip[-1]:.2f}", *ends))
    others = [f"{name}, end" for name in SETS if name != "flip_icl"]
    header = ("run", "flip_icl, best", "flip_icl, end", *others)
    return [Table("Accuracy (on flip_icl: in context), medians over networks", header, rows)]


def draw(results: xr.Dataset) -> Figure:
    """The main run; who wins in all runs of its data; how new labels are learned."""
    figure = Figure(figsize=(13.5, 3.8), layout="constrained")
    whole, flip, new = figure.subplots(1, 3)
    scores = results["eval_in_context_accuracy"]
    for name, colour in SETS.items():
        if name != "pure_iwl":  # its label is not in the context
            curves(whole, scores.sel(run="main", set=name, drop=True), colour, name)
    palette = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00")
    of_main = ("main", "matched", *results["run"].values.tolist()[-4:])
    for run, colour in zip(of_main, palette, strict=False):
        curves(flip, scores.sel(run=run, set="flip_icl", drop=True), colour, run, every=False)
    losses = results["eval_loss"].sel(set="icl", drop=True)
    of_new = ("icl_only", "layer 1 of main", "layer 1 of ciwl_only")
    for run, colour in zip(of_new, palette, strict=False):
        curves(new, losses.sel(run=run, drop=True), colour, run)
    chance(new)
    for axes, title in ((whole, "The main run"), (flip, "Context (1) or weights (0)")):
        axes.axhline(0.5, ls="--", lw=0.8, color="0.7", zorder=0)
        axes.set(ylim=(0, 1.02), ylabel="in-context accuracy")
        tidy(axes, title)
    new.set(ylim=(0, 3), ylabel="loss on icl (nats)")
    tidy(new, "New labels alone")
    for axes in (whole, flip, new):
        over_sequences(axes)
        axes.legend(frameon=False, fontsize=8)
    return figure


experiment = Experiment(
    name="singh2025",
    title="In-context learning comes, and goes again",
    paper="Singh et al. 2025, sections 3 to 7",
    summary="Every class has a label of its own, and the query's class is in the context: both the "
    "context and weights can answer. Runs of the same data with subcircuits given or denied, with "
    "the query's own exemplar, and runs on data that only one of the strategies can answer.",
    measure=measure,
    claims=CLAIMS,
    draw=draw,
    tables=tables,
    trainings=(*ALONE.values(), GRAFTS, CLAMPED),
)
