"""What experiments on real text show alike: curves over training, and where models end."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import xarray as xr
from matplotlib.figure import FigureBase

from ih_jax.experiments.base import Table
from ih_jax.experiments.drawing import curves, over_sequences, tidy
from ih_jax.experiments.olsson2022.colours import colour_of

HEADER = ("model", "held-out loss", "score", "previous token", "prefix matching")


def over_training(
    figure: FigureBase, results: xr.Dataset, previous: str = "Best previous-token head"
) -> None:
    """Loss, score, best prefix matching and best previous-token head of every model, side by side.

    Args:
        figure: to draw in.
        results: "loss" and "score" [model, init, tokens] in nats; "prefix_matching" and
            "previous_token" [model, init, checkpoint], of the best head.
        previous: title of the last panel, which says among which heads.
    """
    titles = {
        "loss": "Held-out loss (nats)",
        "score": "In-context learning score",
        "prefix_matching": "Best prefix matching",
        "previous_token": previous,
    }
    panels = dict(zip(titles, figure.subplots(1, len(titles)), strict=True))
    for name in (str(each) for each in results["model"].values):
        own, dash = results.sel(model=name), "--" if "smeared" in name else "-"
        for what, axes in panels.items():
            curves(axes, own[what], colour_of(name), name, ls=dash)
    low = float(np.nanmin(results["loss"]))
    panels["loss"].set(ylim=(low - 0.1, low + 2.0))
    for what in ("prefix_matching", "previous_token"):
        panels[what].set(ylim=(0, 1))
    for what, axes in panels.items():
        tidy(axes, titles[what])
        over_sequences(axes, "tokens seen")
    panels["loss"].legend(frameon=False, fontsize=8)


def at_the_end(results: xr.Dataset, last: Callable[[xr.Dataset], Sequence[xr.DataArray]]) -> Table:
    """A row for each model, medians over seeds.

    Args:
        results: of all models.
        last: of one model's results: loss and score (nats), and the best heads' attention to the
            previous token and prefix matching, at all looks that the end is judged by.
    """
    rows = []
    for name in (str(each) for each in results["model"].values):
        numbers = [float(each.median()) for each in last(results.sel(model=name))]
        loss, *rest = numbers
        rows.append((name, f"{loss:.3f}", *(f"{each:.2f}" for each in rest)))
    return Table("At the end, medians over seeds", HEADER, rows)
