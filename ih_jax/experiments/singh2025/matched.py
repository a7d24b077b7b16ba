"""Figure 6: where the query's own exemplar is in the context, in-context learning stays.

Paper: Singh et al. 2025, section 7. Command: ih-jax run singh2025-matched. On 2 CPU cores: a
minute a network (one run of 600,000 sequences beside the main one).
Expected: the context wins over weights, early and to the end.
"""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure

from ih_jax.claims import Claim, Reported, in_most, of_networks, yes
from ih_jax.experiments.base import Experiment, Found, Options, Table
from ih_jax.experiments.singh2025 import runs
from ih_jax.experiments.singh2025.strategies import FLIP, wins
from ih_jax.experiments.singh2025.trainings import DIFFERS, MAIN, MATCHED

RUNS = {"main": MAIN, "matched": MATCHED}

FOUND = (
    " As in the paper: after 600,000 sequences the context wins exchanged labels in .69 to .92, in "
    "networks that do without their own exemplar in .02 to .49."
)


def measure(options: Options, found: Found) -> xr.Dataset:
    """Scores on every evaluation set, [run, init, set, sequences]."""
    return runs.gather(found, RUNS)


CLAIMS = (
    Claim(
        "with the query's own exemplar it stays",
        "Where the exemplar in the context is the query's own, in-context learning is emergent and "
        "persistent.",
        in_most("stays", of_networks(wins("matched", "context")), yes),
        paper="so",
        reported=Reported(share=(1, 1)),
        source="section 7, fig. 6",
        estimand=f"share of networks in which the context wins at the end: {FLIP}",
    ),
)


def tables(results: xr.Dataset) -> list[Table]:
    """Medians over networks, by run."""
    return [runs.ends(results)]


def draw(results: xr.Dataset) -> Figure:
    """Who answers in either run: the context, weights, or weights that copy."""
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    titles = {"main": "The query's class in the context", "matched": "Its own exemplar"}
    for axes, (run, title) in zip(figure.subplots(1, 2), titles.items(), strict=True):
        runs.answers(axes, results.sel(run=run, drop=True), title)
    figure.legend(*axes.get_legend_handles_labels(), frameon=False, loc="outside right upper")
    return figure


experiment = Experiment(
    name="singh2025-matched",
    title="With the query's own exemplar in the context",
    paper="Singh et al. 2025, section 7",
    summary="The main run's data, and the same where the exemplar of the query's class in the "
    "context is the query's own, so that the context can be matched exactly.",
    trainings=tuple(RUNS.values()),
    measure=measure,
    claims=CLAIMS,
    draw=draw,
    tables=tables,
    differs=DIFFERS + FOUND,
)
