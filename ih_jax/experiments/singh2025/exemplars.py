"""The more exemplars a class has, the harder it is to know by heart: is more read from the context?

Ours, beside Singh et al. 2025, section 3. Command: ih-jax run singh2025-exemplars. On 2 CPU cores:
a minute a network (one run of three fifths of the main run's length, beside the main one).
Expected: with twenty exemplars a class new labels are read from the context more often than with
four. (Refuted: less often, in five networks of five.)
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ih_jax.claims import Claim, in_most, more_than, of_networks
from ih_jax.experiments.base import Experiment, Found, Options, Table
from ih_jax.experiments.singh2025 import runs
from ih_jax.experiments.singh2025.strategies import reads
from ih_jax.experiments.singh2025.trainings import DIFFERS, FEW, MAIN

MANY, FOUR = "20 exemplars", "4 exemplars"
RUNS = {MANY: MAIN, FOUR: FEW}


def measure(options: Options, found: Found) -> xr.Dataset:
    """Scores on every evaluation set, [run, init, set, sequences]."""
    return runs.gather(found, RUNS)


def higher(one: xr.Dataset) -> float:
    """Best accuracy on new labels with 20 exemplars, less that with four."""
    return float(np.nanmax(reads(one, MANY)) - np.nanmax(reads(one, FOUR)))


CLAIMS = (
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
    paper="ours, beside Singh et al. 2025, section 3",
    summary="The main run's data, of 20 exemplars a class, and of four; three fifths of the main "
    "run's way.",
    trainings=tuple(RUNS.values()),
    measure=measure,
    claims=CLAIMS,
    draw=draw,
    tables=tables,
    differs=DIFFERS,
)
