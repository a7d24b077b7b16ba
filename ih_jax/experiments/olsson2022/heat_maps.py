"""Heat maps of how the loss falls along the context, over training: one of each model.

Paper: Olsson et al. 2022, "loss derivative in the log token index".
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.figure import FigureBase

from ih_jax.claims import phase_change as changes
from ih_jax.experiments.drawing import FAINT, over_sequences, tidy
from ih_jax.experiments.olsson2022 import models


def draw(
    figure: FigureBase, results: xr.Dataset, names: Sequence[str], shown_from: int = 1
) -> None:
    """d loss / d ln(index) by index and tokens seen, side by side, with the first seed's window.

    Args:
        figure: to draw in; one panel a model.
        results: "index_loss" [model, snapshot, index], and "score" as `models.window_of` reads it.
        names: of models.
        shown_from: the first index that colours are scaled to. At the first few tokens the loss
            falls so steeply that on real text nothing else would be seen.
    """
    axes = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    every = {
        name: changes.derivative_by_log_index(results["index_loss"].sel(model=name).values)
        for name in names
    }
    later = np.stack([slopes[:, shown_from - 1 :] for slopes in every.values()])
    largest = float(np.nanmax(np.abs(later)))
    for each, name in zip(axes, names, strict=True):
        losses, slopes = results["index_loss"].sel(model=name), every[name]
        index = np.arange(1, slopes.shape[1] + 1)
        image = each.pcolormesh(
            losses["snapshot"].values,
            index,
            slopes.T,
            cmap="RdBu_r",
            vmin=-largest,
            vmax=largest,
            rasterized=True,
        )
        window = models.window_of(results.isel(init=0), name)
        for edge in () if window is None else (window.start, window.end):
            each.axvline(edge, color=FAINT, lw=0.8)
        tidy(each, name)
        over_sequences(each, "tokens seen")
    axes[0].set(ylabel="token index", yscale="log")
    for each in axes[1:]:
        each.tick_params(which="both", left=False)
    figure.colorbar(
        image,
        ax=list(axes),
        label="d loss / d ln(index)",
        shrink=0.9,
        extend="neither" if shown_from == 1 else "both",
    )
