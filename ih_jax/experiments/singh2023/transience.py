"""Figure 1: in-context learning is transient, and gives way to weights.

Paper: Singh et al. 2023, section 3. Command: ih-jax run singh2023. On 2 CPU cores: two
minutes a network (one run of a million sequences, which singh2025 trains, too).
Expected: in-context learning comes and goes while the loss falls and weights learn.

The networks are those of `singh2025.trainings`, smaller than the paper's: two layers of attention
(there 12 with MLPs), contexts of two pairs (8), 6,400 classes. What had been seen when the
statements were written is told there.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ih_jax.claims import Claim, Reported, in_most, more_than, of_networks, yes
from ih_jax.experiments.base import Experiment, Found, Options, Table
from ih_jax.experiments.drawing import curves, over_sequences, tidy
from ih_jax.experiments.singh2025 import runs, trainings
from ih_jax.experiments.singh2025.strategies import READS, SETS, reads, transient


def measure(options: Options, found: Found) -> xr.Dataset:
    """Scores on every evaluation set, [run, init, set, sequences]; the one run is "main"."""
    return runs.gather(found, {"main": trainings.MAIN})


def risen(one: xr.Dataset) -> float:
    """How much more often weights alone are right at the end than at the context's best time."""
    scores = one["eval_accuracy"].sel(run="main", set="pure_iwl").values
    return float(scores[-1] - scores[np.nanargmax(reads(one, "main"))])


ONE = Reported(share=(1, 1))
CLAIMS = (
    Claim(
        "in-context learning is transient",
        "In-context learning first emerges, then disappears and gives way to in-weights learning.",
        in_most("comes and goes", of_networks(transient("main")), yes),
        paper="so",
        reported=ONE,
        source="section 3, fig. 1",
        estimand=f"share of networks in which it comes and ends below its best: {READS}",
    ),
    Claim(
        "while weights learn",
        "In-weights learning rises as in-context learning goes.",
        in_most("difference", of_networks(risen), more_than(0)),
        paper="so",
        reported=ONE,
        source="section 3, fig. 1",
        estimand="accuracy on pure_iwl at the end less that at the context's best time",
    ),
)


def tables(results: xr.Dataset) -> list[Table]:
    """Medians over networks, and each network: the context's best and end, weights' end."""
    rows = []
    for init in results["init"].values.tolist():
        one = results.sel(init=init)
        curve = reads(one, "main")
        last = one["eval_accuracy"].sel(run="main").isel(sequences=-1)
        weights = (f"{float(last.sel(set=name)):.2f}" for name in ("pure_iwl", "iwl_copy_avail"))
        at = runs.best(curve, one["sequences"].values)
        rows.append((str(init), at, f"{curve[-1]:.2f}", *weights))
    header = ("network", "icl, best", "icl, end", "pure_iwl, end", "iwl_copy_avail, end")
    return [runs.ends(results), Table("By network (on icl: in context)", header, rows)]


def draw(results: xr.Dataset) -> Figure:
    """How well new labels are read from the context, what weights alone know, and the loss."""
    figure = Figure(figsize=(12.5, 3.6), layout="constrained")
    one = results.sel(run="main", drop=True)
    panels = {
        "icl": (one["eval_in_context_accuracy"], "New labels, read from the context"),
        "pure_iwl": (one["eval_accuracy"], "The label from weights alone"),
        "train_eval": (one["eval_loss"], "Loss, as trained (nats)"),
    }
    for axes, (name, (values, title)) in zip(figure.subplots(1, 3), panels.items(), strict=True):
        curves(axes, values.sel(set=name, drop=True), SETS[name], name)
        over_sequences(axes)
        tidy(axes, title)
    whole, weights, loss = figure.axes
    whole.axhline(0.5, ls="--", lw=0.8, color="0.7", zorder=0)
    whole.set(ylim=(0.4, 1.02), ylabel="in-context accuracy on icl")
    weights.set(ylim=(0, 1.02), ylabel="accuracy on pure_iwl")
    loss.set(yscale="log", ylabel="loss on train_eval")
    return figure


experiment = Experiment(
    name="singh2023",
    title="In-context learning is transient",
    paper="Singh et al. 2023, section 3",
    summary="Every class has a label of its own, and the query's class is in the context. How well "
    "the network reads new labels from the context over training, and what its weights know.",
    measure=measure,
    claims=CLAIMS,
    draw=draw,
    tables=tables,
    trainings=(trainings.MAIN,),
    differs=trainings.DIFFERS_2023
    + " The ability to read new labels goes in one network of five here, and who answers where "
    "context and weights disagree turns over in three (see singh2025). With a quarter of the "
    "classes the ability goes, too (see singh2023-lasting).",
)
