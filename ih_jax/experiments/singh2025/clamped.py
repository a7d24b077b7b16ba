"""What makes in-context learning stay? Subcircuits given.

Ours, beside Singh et al. 2023 and 2025. Command: ih-jax run singh2025-clamps. On 2 CPU
cores: a minute a network (two runs of 750,000 sequences, beside that of singh2025).
Expected: previous-token heads that are given bring in-context learning and do not keep it; a match
that is given does.
"""

from __future__ import annotations

from collections.abc import Callable

import xarray as xr
from matplotlib.figure import Figure

from ih_jax.claims import Claim, Rule, in_most, of_networks, yes
from ih_jax.experiments.base import Experiment, Found, Options, Table
from ih_jax.experiments.drawing import curves, tidy
from ih_jax.experiments.singh2025 import runs
from ih_jax.experiments.singh2025.strategies import FLIP, READS, comes, wins
from ih_jax.experiments.singh2025.trainings import CLAMPED, DIFFERS, MAIN

RUNS = {"main": MAIN, "clamps": CLAMPED}
COLOURS = ("#000000", "#D55E00", "#0072B2")

FOUND = (
    " What is given decides who wins. With previous-token heads the context wins exchanged labels "
    "from 150,000 sequences on, and at the end in .83 to .90 of them, if a little less often than "
    "at its best (.91 to .94). With a match it wins .88 to .94 after 100,000; from then on weights "
    "gain, down to .51 to .61 at the end, within the margin of one half, so that nobody has won in "
    "any of the five. New labels alone are still read, in 1.00 (median), but in one network, where "
    "that falls from .99 to .82."
)


def measure(options: Options, found: Found) -> xr.Dataset:
    """Scores on every evaluation set, [run, init, set, sequences]."""
    return runs.gather(found, RUNS)


def _share(what: str, value: Callable[[xr.Dataset], bool | None]) -> Rule:
    return in_most(what, of_networks(value), yes)


CLAIMS = (
    Claim(
        "a previous-token head brings it",
        "Given previous-token heads in layer 0, in-context learning comes.",
        _share("comes", comes("previous token given")),
        source="ours",
        estimand=f"share of networks above chance at some time: {READS}",
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
    "0, or with the match given to two heads of layer 1; half of the main run's way.",
    trainings=tuple(RUNS.values()),
    measure=measure,
    claims=CLAIMS,
    draw=draw,
    tables=tables,
    differs=DIFFERS + FOUND,
)
