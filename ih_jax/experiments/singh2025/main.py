"""Figures 1 and 2: in-context learning comes, and goes again.

Paper: Singh et al. 2025, sections 3 and 4. Command: ih-jax run singh2025. On 2 CPU cores: two
minutes a network (one run of a million sequences).
Expected: new labels are read from the context for a while only; in the end weights decide where
they disagree with the context.

Smaller than the paper, as `trainings` says, which also tells what had been seen when the statements
were written.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ih_jax.claims import Claim, Reported, in_most, more_than, of_networks
from ih_jax.experiments.base import Experiment, Found, Options, Table
from ih_jax.experiments.drawing import curves, over_sequences, tidy
from ih_jax.experiments.singh2025 import runs
from ih_jax.experiments.singh2025.strategies import fate, reads
from ih_jax.experiments.singh2025.trainings import DIFFERS, MAIN

RUNS = {"main": MAIN}

FOUND = (
    " Who answers turns over in three networks of five: the context wins exchanged labels in .71 "
    "to .85 after 67,000 to 100,000 sequences, and in .28 to .37 after a million. In two weights "
    "win from the beginning. New labels, which weights cannot know, are still read from the "
    "context in .80 to .97 at the end: that ability hardly goes at this scale."
)


def measure(options: Options, found: Found) -> xr.Dataset:
    """Scores on every evaluation set, [run, init, set, sequences]."""
    return runs.gather(found, RUNS)


def falls(one: xr.Dataset) -> float:
    """Nats by which the loss falls between the context's best time and the end."""
    loss = one["eval_loss"].sel(run="main", set="train_eval").values
    return float(loss[np.nanargmax(reads(one, "main"))] - loss[-1])


def constrained(one: xr.Dataset) -> float:
    """By how much more often answers from weights are right where the label can be copied."""
    last = one["eval_accuracy"].sel(run="main").isel(sequences=-1)
    return float(last.sel(set="iwl_copy_avail") - last.sel(set="pure_iwl"))


ONE = Reported(share=(1, 1))
CLAIMS = (
    *fate("main"),
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
)


def tables(results: xr.Dataset) -> list[Table]:
    """Medians over networks, by run."""
    return [runs.ends(results)]


def draw(results: xr.Dataset) -> Figure:
    """Who answers: the context, weights, or weights that copy; and the loss."""
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    one = results.sel(run="main", drop=True)
    runs.answers(left, one, "Who answers")
    curves(right, one["eval_loss"].sel(set="train_eval", drop=True), "#000000")
    right.set(yscale="log", ylabel="loss (nats)")
    tidy(right, "The loss, as trained")
    over_sequences(right)
    figure.legend(*left.get_legend_handles_labels(), frameon=False, loc="outside right upper")
    return figure


experiment = Experiment(
    name="singh2025",
    title="In-context learning comes, and goes again",
    paper="Singh et al. 2025, sections 3 and 4",
    summary="Every class has a label of its own, and the query's class is in the context: both the "
    "context and weights can answer. On icl labels are new, so that only the context can; on "
    "flip_icl they are exchanged (1 is the context, 0 weights); on iwl_copy_avail and pure_iwl "
    "only weights can, with the label in the context and without (all labels). In-context accuracy "
    "is among the two labels of the context.",
    trainings=tuple(RUNS.values()),
    measure=measure,
    claims=CLAIMS,
    draw=draw,
    tables=tables,
    differs=DIFFERS + FOUND,
)
