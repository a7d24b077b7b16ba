"""As many exemplars of a class as in the paper: does in-context learning come, and go?

Paper: Singh et al. 2025, section 3, with its 20 exemplars. Command: ih-jax run singh2025-exemplars.
On 2 CPU cores: a minute a network (one run of 1.5 million sequences beside the main one).
Expected: what a class looks like is harder to learn by heart, so that new labels are read from the
context in more sequences than with four exemplars, and later in fewer again.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ih_jax.claims import Claim, Reported, in_most, more_than, of_networks, yes
from ih_jax.experiments.base import Experiment, Found, Options, Table
from ih_jax.experiments.drawing import curves, over_sequences, tidy
from ih_jax.experiments.singh2025 import runs
from ih_jax.experiments.singh2025.strategies import (
    FLIP,
    READS,
    SETS,
    comes,
    reads,
    transient,
    wins,
)
from ih_jax.experiments.singh2025.trainings import DIFFERS, MAIN, TWENTY

FOUR, MANY = "4 exemplars", "20 exemplars"
RUNS = {FOUR: MAIN, MANY: TWENTY}


def measure(options: Options, found: Found) -> xr.Dataset:
    """Scores on every evaluation set, [run, init, set, sequences]."""
    return runs.gather(found, RUNS)


def higher(one: xr.Dataset) -> float:
    """Best accuracy on new labels with 20 exemplars, less that with four."""
    return float(np.nanmax(reads(one, MANY)) - np.nanmax(reads(one, FOUR)))


ONE = Reported(share=(1, 1))
CLAIMS = (
    Claim(
        "in-context learning comes",
        "Where labels are the classes' own, in-context learning emerges first.",
        in_most("comes", of_networks(comes(MANY)), yes),
        paper="so",
        reported=ONE,
        source="section 3, fig. 1b",
        estimand=f"share of networks above chance at some time, 20 exemplars: {READS}",
    ),
    Claim(
        "and goes",
        "Later in-context learning disappears.",
        in_most("comes and goes", of_networks(transient(MANY)), yes),
        paper="so",
        reported=ONE,
        source="section 3, fig. 1b",
        estimand=f"share of networks in which it comes and ends below its best: {READS}",
    ),
    Claim(
        "and weights decide",
        "In the end weights win where they disagree with the context.",
        in_most("weights win", of_networks(wins(MANY, "weights")), yes),
        paper="so",
        reported=ONE,
        source="section 3, fig. 1b",
        estimand=f"share of networks in which weights win at the end: {FLIP}",
        primary=False,
    ),
    Claim(
        "the more exemplars, the more in context",
        "With more exemplars of a class, new labels are read from the context more often.",
        in_most("accuracy, more", of_networks(higher), more_than(0)),
        source="ours",
        estimand="highest in-context accuracy on icl, 20 exemplars less 4, within networks",
        kind="hypothesis",
    ),
)


def tables(results: xr.Dataset) -> list[Table]:
    """Medians over networks, by run."""
    return [runs.ends(results)]


def draw(results: xr.Dataset) -> Figure:
    """Who answers, with few exemplars and with many."""
    figure = Figure(figsize=(9.5, 3.8), layout="constrained")
    for axes, run in zip(figure.subplots(1, 2), RUNS, strict=True):
        for name, colour in SETS.items():
            metric = "eval_accuracy" if "iwl" in name else "eval_in_context_accuracy"
            curves(axes, results[metric].sel(run=run, set=name, drop=True), colour, name)
        axes.axhline(0.5, ls="--", lw=0.8, color="0.7", zorder=0)
        axes.set(ylim=(0, 1.02), ylabel="accuracy")
        over_sequences(axes)
        axes.legend(frameon=False, fontsize=8)
        tidy(axes, run)
    return figure


experiment = Experiment(
    name="singh2025-exemplars",
    title="In-context learning with more exemplars of a class",
    paper="Singh et al. 2025, section 3",
    summary="The main run's data with four exemplars of a class, and with 20.",
    trainings=tuple(RUNS.values()),
    measure=measure,
    claims=CLAIMS,
    draw=draw,
    tables=tables,
    differs=DIFFERS,
)
