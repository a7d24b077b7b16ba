"""As many exemplars of a class as in the paper: does in-context learning come, and go?

Paper: Singh et al. 2025, section 3, with its 20 exemplars. Command: ih-jax run singh2025-exemplars.
On 2 CPU cores: a minute a network (one run of 1.5 million sequences beside the main one).
Expected: what a class looks like is harder to learn by heart, so that new labels are read from the
context in more sequences than with four exemplars, and later in fewer again.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ih_jax.claims import Claim, in_most, more_than, of_networks
from ih_jax.experiments.base import Experiment, Found, Options, Table
from ih_jax.experiments.singh2025 import runs
from ih_jax.experiments.singh2025.strategies import fate, reads
from ih_jax.experiments.singh2025.trainings import DIFFERS, MAIN, TWENTY

FOUR, MANY = "4 exemplars", "20 exemplars"
RUNS = {FOUR: MAIN, MANY: TWENTY}


def measure(options: Options, found: Found) -> xr.Dataset:
    """Scores on every evaluation set, [run, init, set, sequences]."""
    return runs.gather(found, RUNS)


def higher(one: xr.Dataset) -> float:
    """Best accuracy on new labels with 20 exemplars, less that with four."""
    return float(np.nanmax(reads(one, MANY)) - np.nanmax(reads(one, FOUR)))


COMES, GOES, DECIDE = fate(MANY, ", 20 exemplars")
CLAIMS = (
    COMES,
    GOES,
    replace(DECIDE, primary=False),
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
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    for axes, run in zip(figure.subplots(1, 2), RUNS, strict=True):
        runs.answers(axes, results.sel(run=run, drop=True), run)
    figure.legend(*axes.get_legend_handles_labels(), frameon=False, loc="outside right upper")
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
