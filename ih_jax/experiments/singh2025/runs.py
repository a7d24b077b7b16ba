"""The runs of several trainings side by side, by name, and what is tabled of each."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from ih_jax.experiments.base import Found, Table, Training
from ih_jax.experiments.drawing import curves, over_sequences, tidy
from ih_jax.experiments.singh2025.strategies import METRICS, SETS

OTHERS = [name for name in SETS if name not in ("icl", "flip_icl")]


def gather(found: Found, trainings: Mapping[str, Training]) -> xr.Dataset:
    """Scores on every evaluation set, [run, init, set, sequences], as far as all runs go.

    Args:
        found: trained networks.
        trainings: {name: training}; a run is called by the name of its training, or, where a
            training has several clamps, by that of the clamp.
    """
    parts = []
    for name, training in trainings.items():
        results = found[training.name].results[list(METRICS)].rename(eval_sequences="sequences")
        clamps = results["clamp"].values.tolist()
        parts.append(
            results.rename(clamp="run").assign_coords(run=clamps if len(clamps) > 1 else [name])
        )
    both = xr.concat(parts, dim="run", join="inner")  # runs that go less far end the others
    return both.transpose("run", "init", "set", "sequences")


def best(curve: np.ndarray, seen: np.ndarray) -> str:
    """The highest of an accuracy [sequences], and when: "0.67 at 700,000"."""
    at = int(np.nanargmax(curve))
    return f"{curve[at]:.2f} at {int(seen[at]):,}"


def ends(results: xr.Dataset) -> Table:
    """Medians over networks, by run: the context's best, its end, and the other sets' ends."""
    rows = []
    for run in results["run"].values.tolist():
        one = results.sel(run=run).median("init")
        row = [run]
        for name in ("icl", "flip_icl"):
            curve = one["eval_in_context_accuracy"].sel(set=name).values
            row += [best(curve, one["sequences"].values), f"{curve[-1]:.2f}"]
        last = one["eval_accuracy"].isel(sequences=-1)
        rows.append((*row, *(f"{float(last.sel(set=name)):.2f}" for name in OTHERS)))
    header = ("run", "icl, best", "icl, end", "flip_icl, best", "flip_icl, end")
    others = [f"{name}, end" for name in OTHERS]
    title = "Accuracy (on icl and flip_icl: in context), medians over networks"
    return Table(title, (*header, *others), rows)


def answers(axes: Axes, one: xr.Dataset, title: str) -> None:
    """Draw who answers in one run: how often each evaluation set is answered rightly.

    Args:
        axes: to draw on.
        one: a run's scores, [init, set, sequences].
        title: of the panel.
    """
    for name, colour in SETS.items():
        metric = "eval_accuracy" if "iwl" in name else "eval_in_context_accuracy"
        curves(axes, one[metric].sel(set=name, drop=True), colour, name)
    half(axes, "accuracy")
    tidy(axes, title)


def half(axes: Axes, label: str) -> None:
    """An axis of accuracy over sequences, and a line at one half, which is chance in a context."""
    axes.axhline(0.5, ls="--", lw=0.8, color="0.7", zorder=0)
    axes.set(ylim=(0, 1.02), ylabel=label)
    over_sequences(axes)
