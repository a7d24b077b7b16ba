"""What the experiments on a lent previous-token head share: bounds, measuring, figure and table."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ih_jax.experiments.base import Table
from ih_jax.experiments.drawing import FAINT, curves, over_sequences, tidy
from ih_jax.experiments.olsson2022 import models
from ih_jax.sweeps.trajectory import Trajectories

# Of prefix matching. Below the first a network has no induction head (an untrained one has .03);
# from the second on, three times that, it has one; between, neither.
NONE, SOME = 0.1, 0.3
OWN = 0.5  # attention to the previous token: more than to all else together

COLOURS = {
    "none": "black",
    "lent to 1000": "#009E73",
    "lent to 2000": "#0072B2",
    "lent to 2000, then denied": "#D55E00",
}

AT_END = "the highest prefix matching of any head after 3.3 million tokens"
HAS, LACKS = f"{AT_END}, above {SOME}", f"{AT_END}, below {NONE}"


def measured(trained: Trajectories) -> xr.Dataset:
    """Curves on held-out text, and best head scores by layer, [clamp, init, ...].

    `released` [clamp] is when the pattern is taken back, in tokens; NaN where none was lent.
    """
    probe = models.sample(trained, models.LOOKED_AT)
    seen = trained.measure(models.head_scores, probe)
    assert isinstance(seen, xr.Dataset)
    seen = seen.max("head").rename(tokens="checkpoint")
    curves_of = trained.results[["loss", "in_context_score"]]
    own = curves_of.rename(in_context_score="score").merge(seen)
    extra = [d for d in own.dims if d not in ("clamp", "init", "tokens", "checkpoint", "layer")]
    own = own.squeeze(extra, drop=True).drop_vars("layer", errors="ignore")
    when = {}
    for run in trained.study.runs:
        stops = [part.stop for part in run.clamp.parts if np.isfinite(part.stop)]
        when[str(run.names["clamp"])] = min(stops, default=np.nan)
    names = [str(each) for each in own["clamp"].values]
    results = own.assign(released=("clamp", [when[name] for name in names]))
    results.attrs["text"] = trained.study.runs[0].task.in_words()["data"]
    return results


def matching(clamp: str) -> Callable[[xr.Dataset], float]:
    """Of a network: the best prefix matching at the end."""

    def value(seed: xr.Dataset) -> float:
        own = seed["prefix_matching"].sel(clamp=clamp)
        return float(own.isel(checkpoint=-1).max())

    return value


def clamps(results: xr.Dataset) -> list[str]:
    """Those that were trained, as the figure and the table have them: none first."""
    there = [str(each) for each in results["clamp"].values]
    return [name for name in COLOURS if name in there]


def tables(results: xr.Dataset) -> list[Table]:
    """Per clamp, medians over seeds, and how many networks have an induction head."""
    rows = []
    for name in clamps(results):
        own = results.sel(clamp=name)
        end = own.isel(checkpoint=-1)
        best = end["prefix_matching"].max("layer")
        rows.append(
            (
                name,
                f"{float(own['loss'].isel(tokens=slice(-3, None)).median()):.3f}",
                f"{float(own['score'].isel(tokens=slice(-3, None)).median()):.2f}",
                f"{float(end['previous_token'].isel(layer=0).median()):.2f}",
                f"{float(best.median()):.2f}",
                f"{float(best.min()):.2f} to {float(best.max()):.2f}",
                f"{int((best > SOME).sum())} of {best.sizes['init']}",
            )
        )
    header = (
        "clamp (steps)",
        "held-out loss",
        "score",
        "previous token, layer 0",
        "prefix matching",
        "from, to",
        f"above {SOME}",
    )
    return [Table("At the end, medians over seeds", header, rows)]


def draw(results: xr.Dataset) -> Figure:
    """Prefix matching, previous-token head, score and loss over training, by clamp."""
    figure = Figure(figsize=(15, 4.2), layout="constrained")
    every = figure.subplots(1, 4)
    for name in clamps(results):
        own, colour = results.sel(clamp=name), COLOURS[name]
        values = (
            own["prefix_matching"].max("layer"),
            own["previous_token"].isel(layer=0),
            own["score"],
            own["loss"],
        )
        for axes, each in zip(every, values, strict=True):
            curves(axes, each, colour, name, ls="--" if "denied" in name else "-")
    matching, previous, _, loss = every
    released = results["released"].values
    for axes in every:
        for at in np.unique(released[np.isfinite(released)]):
            axes.axvline(at, color=FAINT, lw=0.8, ls=":", zorder=0)
    low = float(np.nanmin(results["loss"]))
    loss.set(ylim=(low - 0.1, low + 1.5))
    matching.set(ylim=(0, 1))
    previous.set(ylim=(0, 1.02))
    titles = (
        "Best prefix matching",
        "Best previous-token head, layer 0",
        "In-context learning score",
        "Held-out loss (nats)",
    )
    for axes, title in zip(every, titles, strict=True):
        tidy(axes, title)
        over_sequences(axes, "tokens seen")
    figure.legend(
        *matching.get_legend_handles_labels(),
        frameon=False,
        loc="outside right upper",
        title="clamp (steps of 1,024 tokens)",
        alignment="left",
    )
    return figure
