"""What makes in-context learning come sooner and stay longer? Subcircuits given.

Ours, beside Singh et al. 2023 and 2025. Command: ih-jax run singh2025-clamps. On 2 CPU cores: two
minutes a network (two runs of 600,000 sequences, beside that of singh2025).
Expected: previous-token heads that are given bring in-context learning sooner; the context wins for
longer with them, and with a match that is given.
"""

from __future__ import annotations

from collections.abc import Callable

import xarray as xr
from matplotlib.figure import Figure

from ih_jax.claims import (
    Bounds,
    Claim,
    below,
    first_at,
    in_most,
    more_than,
    of_networks,
    ratio,
)
from ih_jax.experiments.base import Experiment, Found, Options, Table
from ih_jax.experiments.drawing import curves, tidy
from ih_jax.experiments.singh2025 import runs
from ih_jax.experiments.singh2025.strategies import MARGIN, READS, flipped, reads
from ih_jax.experiments.singh2025.trainings import CLAMPED, DIFFERS, MAIN

RUNS = {"main": MAIN, "clamps": CLAMPED}
COLOURS = ("#000000", "#D55E00", "#0072B2")

FOUND = (
    " After 600,000 sequences the context wins exchanged labels in .75 to .85 with given "
    "previous-token heads and in .84 to .99 with a given match; without, in .02 to .49. It falls "
    "slowly with either. Evaluations, every 33,000 sequences, are too far apart to tell when it "
    "comes."
)


def measure(options: Options, found: Found) -> xr.Dataset:
    """Scores on every evaluation set, [run, init, set, sequences]."""
    return runs.gather(found, RUNS)


def comes_at(one: xr.Dataset, run: str) -> Bounds:
    """Sequences until new labels are read from the context better than by chance."""
    return first_at(one["sequences"].values, reads(one, run) > 0.5 + MARGIN)


def sooner(run: str) -> Callable[[xr.Dataset], Bounds]:
    """When in-context learning comes in a run over when it does in the main one."""
    return lambda one: ratio(comes_at(one, run), comes_at(one, "main"))


def longer(run: str) -> Callable[[xr.Dataset], float]:
    """By how much more often the context wins at the end of a run than in the main one then."""
    return lambda one: float(flipped(one, run)[-1] - flipped(one, "main")[-1])


def _keeps(name: str, says: str, run: str) -> Claim:
    return Claim(
        name,
        says,
        in_most("accuracy, more", of_networks(longer(run)), more_than(0)),
        source="ours",
        estimand="in-context accuracy on flip_icl at the end of these runs, less that of the main "
        "run after as many sequences",
        kind="hypothesis",
    )


CLAIMS = (
    Claim(
        "a previous-token head brings it sooner",
        "Given previous-token heads in layer 0, in-context learning comes sooner.",
        in_most("quotient", of_networks(sooner("previous token given")), below(1)),
        source="ours",
        estimand=f"time at which it is above chance, given over not, within networks: {READS}",
        kind="hypothesis",
    ),
    _keeps(
        "a previous-token head keeps it longer",
        "With given previous-token heads the context wins for longer.",
        "previous token given",
    ),
    _keeps(
        "a given match keeps it longer",
        "With two heads of layer 1 that are given the match the context wins for longer.",
        "match given",
    ),
)


def tables(results: xr.Dataset) -> list[Table]:
    """Medians over networks, by run."""
    return [runs.ends(results)]


def draw(results: xr.Dataset) -> Figure:
    """Whether new labels are read from the context, and who wins on exchanged ones."""
    figure = Figure(figsize=(9.5, 3.8), layout="constrained")
    titles = {"icl": "New labels read from the context", "flip_icl": "Context (1) or weights (0)"}
    scores = results["eval_in_context_accuracy"]
    for axes, (name, title) in zip(figure.subplots(1, 2), titles.items(), strict=True):
        for run, colour in zip(results["run"].values.tolist(), COLOURS, strict=True):
            curves(axes, scores.sel(run=run, set=name, drop=True), colour, run)
        runs.half(axes, f"in-context accuracy on {name}")
        tidy(axes, title)
    figure.axes[0].legend(frameon=False, fontsize=8)
    return figure


experiment = Experiment(
    name="singh2025-clamps",
    title="What makes in-context learning stay",
    paper="ours, beside Singh et al. 2023 and 2025",
    summary="The main run's data, with attention to the previous token given to two heads of layer "
    "0, or with the match given to two heads of layer 1; three fifths of the main run's way.",
    trainings=tuple(RUNS.values()),
    measure=measure,
    claims=CLAIMS,
    draw=draw,
    tables=tables,
    differs=DIFFERS + FOUND,
)
