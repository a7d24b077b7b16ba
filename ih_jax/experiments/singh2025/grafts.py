"""Figure 4: new labels alone are learned late, and sooner with the end of a trained network.

Paper: Singh et al. 2025, section 5. Command: ih-jax run singh2025-grafts. On 2 CPU
cores: 5 minutes a network (four runs of 600,000 sequences, beside the main one).
Expected: a long plateau on new labels alone, none with layer 1 of the main run, and of the run that
never saw the query's class in a context. (Found: so with that of the main run; with the other's,
taken at its end, nothing is learned within that time. The paper has it for checkpoints within a
window.)
"""

from __future__ import annotations

from collections.abc import Callable

import xarray as xr
from matplotlib.figure import Figure

from ih_jax.claims import Bounds, Claim, below, in_most, of_networks, ratio, time_of
from ih_jax.experiments.base import Experiment, Found, Options, Table
from ih_jax.experiments.drawing import chance, curves, over_sequences, tidy
from ih_jax.experiments.singh2025 import runs
from ih_jax.experiments.singh2025.trainings import DIFFERS, GRAFTS, ICL_ONLY

RUNS = {"icl_only": ICL_ONLY, "grafts": GRAFTS}
COLOURS = ("#000000", "#D55E00", "#0072B2")


def measure(options: Options, found: Found) -> xr.Dataset:
    """Scores on every evaluation set, [run, init, set, sequences]."""
    return runs.gather(found, RUNS)


def time(one: xr.Dataset, run: str) -> Bounds:
    """Sequences until new labels are read from the context: a loss of 0.4 ln 2 on `icl`."""
    return time_of(one["eval_loss"].sel(run=run, set="icl"))


def quicker(fast: str, slow: str) -> Callable[[xr.Dataset], Bounds]:
    """Time of one run over that of another."""
    return lambda one: ratio(time(one, fast), time(one, slow))


CLAIMS = (
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
)


def tables(results: xr.Dataset) -> list[Table]:
    """Medians over networks, by run."""
    return [runs.ends(results)]


def draw(results: xr.Dataset) -> Figure:
    """How new labels are learned: loss and accuracy."""
    figure = Figure(figsize=(9.5, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    for run, colour in zip(results["run"].values.tolist(), COLOURS, strict=True):
        one = results.sel(run=run, set="icl", drop=True)
        curves(left, one["eval_loss"], colour, run)
        curves(right, one["eval_in_context_accuracy"], colour, run)
    chance(left)
    left.set(ylim=(0, 3), ylabel="loss on icl (nats)")
    over_sequences(left)
    runs.half(right, "in-context accuracy on icl")
    for axes, title in ((left, "New labels alone"), (right, "")):
        axes.legend(frameon=False, fontsize=8)
        tidy(axes, title)
    return figure


experiment = Experiment(
    name="singh2025-grafts",
    title="What the second layer of a trained network is worth to in-context learning",
    paper="Singh et al. 2025, section 5",
    summary="Trained on new labels alone, from scratch or with layer 1 and all after it of a "
    "network that was trained on the main run's data, or on data without the query's class in the "
    "context.",
    trainings=tuple(RUNS.values()),
    measure=measure,
    claims=CLAIMS,
    draw=draw,
    tables=tables,
    differs=DIFFERS,
)
