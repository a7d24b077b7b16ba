"""How long in-context learning lasts: by number of classes, weight decay and Zipf exponent.

Paper: Singh et al. 2023, sections 4 and 5. Command: ih-jax run singh2023-lasting. On 2 CPU cores: 5
minutes a network (six runs of 1.5 million sequences beside that of singh2025); with --quick two
thirds of that.
Expected: in-context learning goes later with more classes, and stays with weight decay.

The networks are those of `singh2025.trainings`, smaller than the paper's: two layers of attention
(there 12 with MLPs), contexts of two pairs (8), at most 1,600 classes (12,800). Weight decay is
decoupled, as in AdamW; the paper adds the norm of the weights to the loss. What had been seen when
the statements were written is told in `singh2025.trainings`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

import ih_jax as ih
from ih_jax.claims import (
    Bounds,
    Claim,
    Reported,
    first_at,
    in_most,
    more_than,
    of_networks,
    ratio,
    yes,
)
from ih_jax.experiments.base import Experiment, Found, Options, Table, Training
from ih_jax.experiments.drawing import curves, tidy
from ih_jax.experiments.singh2025 import runs, trainings
from ih_jax.experiments.singh2025.strategies import (
    FLIP,
    MARGIN,
    METRICS,
    comes,
    reads,
    wins,
)

SHARES = (4, 2)  # classes: the most, of the main run, over these
DECAYS = (0.01, 0.1)
EXPONENTS = (0.5, 1.0)
COLOURS = ("#56B4E9", "#0072B2", "#000000", "#E69F00", "#D55E00", "#009E73", "#CC79A7")


def by_classes(options: Options, found: Found) -> ih.Sweep:
    """A quarter of the classes and half, with a label for each of them all (fig. 3)."""
    most = trainings.task(options).classes
    counts = [most // share for share in SHARES]
    return trainings.sweep(options, "transience_classes", vary={"classes": counts})


def by_decay(options: Options, found: Found) -> ih.Sweep:
    """All classes, with weight decay (fig. 5)."""
    return trainings.sweep(options, "transience_decay", vary={"weight_decay": list(DECAYS)})


def by_zipf(options: Options, found: Found) -> ih.Sweep:
    """All classes, in frequencies by Zipf's law (section 4)."""
    return trainings.sweep(options, "transience_zipf", vary={"zipf": list(EXPONENTS)})


BY_CLASSES = Training("transience_classes", by_classes, in_parts=True)
BY_DECAY = Training("transience_decay", by_decay, in_parts=True)
BY_ZIPF = Training("transience_zipf", by_zipf, in_parts=True)
RUNS = {  # training, axis, and the name of a run by its place on it; "main": all classes
    BY_CLASSES: ("classes", ("a quarter of the classes", "half of the classes")),
    trainings.MAIN: ("", ("main",)),  # which singh2025 trains, too
    BY_DECAY: ("weight_decay", tuple(f"weight decay {decay:g}" for decay in DECAYS)),
    BY_ZIPF: ("zipf", tuple(f"Zipf exponent {exponent:g}" for exponent in EXPONENTS)),
}
NAMES = [name for _, names in RUNS.values() for name in names]


def measure(options: Options, found: Found) -> xr.Dataset:
    """Scores on every evaluation set, [run, init, set, sequences]."""
    parts = []
    for training, (axis, names) in RUNS.items():
        results = found[training.name].results[list(METRICS)].sel(clamp="none", drop=True)
        results = results.rename(eval_sequences="sequences")
        results = results.rename({axis: "run"}) if axis else results.expand_dims("run")
        parts.append(results.assign_coords(run=list(names)))
    return xr.concat(parts, dim="run")


def leaves(one: xr.Dataset, run: str) -> Bounds:
    """Sequences until new labels are read no better than by chance: NaN where they never were.

    The first evaluation from its best time on; beyond the end if there is none.
    """
    if not comes(run)(one):
        return Bounds(math.nan, math.nan)
    curve, seen = reads(one, run), one["sequences"].values
    best = int(np.nanargmax(curve))
    return first_at(seen[best:], curve[best:] < 0.5 + MARGIN)


def later(run: str, than: str) -> Callable[[xr.Dataset], Bounds]:
    """When in-context learning goes in one run over when it does in another."""

    def value(one: xr.Dataset) -> Bounds:
        times = leaves(one, run), leaves(one, than)
        if any(math.isnan(time.low) for time in times):
            return Bounds(math.nan, math.nan)
        return ratio(*times)

    return value


ONE = Reported(share=(1, 1))
GOES = "sequences until icl is back within .11 of chance, a quotient within networks"
CLAIMS = (
    Claim(
        "more classes postpone it",
        "With more classes in-context learning lasts longer.",
        in_most("quotient", of_networks(later("main", "a quarter of the classes")), more_than(1)),
        paper="so",
        reported=ONE,
        source="section 4, fig. 3",
        estimand=f"all classes over a quarter of them: {GOES}",
    ),
    Claim(
        "a Zipf exponent postpones it",
        "Classes in Zipf's frequencies make in-context learning last longer.",
        in_most("quotient", of_networks(later(NAMES[-1], "main")), more_than(1)),
        paper="so, for moderate exponents",
        source="section 4",
        estimand=f"exponent 1 over 0: {GOES}",
        primary=False,
    ),
    Claim(
        "weight decay keeps it",
        "With enough regularisation in-context learning is persistent.",
        in_most("stays", of_networks(wins("weight decay 0.1", "context")), yes),
        paper="so",
        reported=ONE,
        source="section 5, fig. 5",
        estimand=f"share of networks in which the context wins at the end, decay 0.1: {FLIP}",
    ),
)


def tables(results: xr.Dataset) -> list[Table]:
    """Medians over networks, by run."""
    rows = []
    for run in NAMES:
        one = results.sel(run=run).median("init")
        curve = one["eval_in_context_accuracy"].sel(set="icl").values
        weights = float(one["eval_accuracy"].sel(set="pure_iwl")[-1])
        at = runs.best(curve, one["sequences"].values)
        rows.append((run, at, f"{curve[-1]:.2f}", f"{weights:.2f}"))
    header = ("run", "icl, best", "icl, end", "pure_iwl, end")
    return [Table("In-context accuracy on icl, and what weights alone know", header, rows)]


def draw(results: xr.Dataset) -> Figure:
    """How well new labels are read from the context: by classes, decay and exponent."""
    figure = Figure(figsize=(12.5, 3.6), layout="constrained")
    scores = results["eval_in_context_accuracy"].sel(set="icl", drop=True)
    colour = dict(zip(NAMES, COLOURS, strict=True))
    panels = [names for axis, names in RUNS.values() if axis]
    for axes, names in zip(figure.subplots(1, 3, sharey=True), panels, strict=True):
        for run in dict.fromkeys((*names, "main")):
            label = "all classes" if run == "main" else run
            curves(axes, scores.sel(run=run, drop=True), colour[run], label)
        runs.half(axes, "")
        axes.legend(frameon=False, fontsize=8)
        tidy(axes)
    figure.axes[0].set_ylabel("in-context accuracy on icl")
    return figure


experiment = Experiment(
    name="singh2023-lasting",
    title="How long in-context learning lasts",
    paper="Singh et al. 2023, sections 4 and 5",
    summary="Every class has a label of its own, and the query's class is in the context. How well "
    "the network reads new labels from the context, by number of classes, weight decay and Zipf "
    "exponent.",
    measure=measure,
    claims=CLAIMS,
    draw=draw,
    tables=tables,
    trainings=tuple(RUNS),
    differs=trainings.DIFFERS_2023,
)
