"""The toy model's draws: what figures 5a and 9 share in running, deciding and drawing them."""

from __future__ import annotations

from collections.abc import Callable

import xarray as xr
from matplotlib.axes import Axes

from ih_jax.claims import Networks, of_networks
from ih_jax.claims.networks import Measure, Number
from ih_jax.experiments.singh2024 import toy_model

CLAMPS = {"none": (), "c": ("c",), "b,c": ("b", "c")}
DRAWS = 33  # at least: seeds 0 to 32
LEARNED = 0.1  # of the first loss
PLATEAU = (50, 500)  # iterations, of the paper's draw with no clamp
COLOURS = {"none": "#000000", "c": "#0072B2", "b,c": "#CC79A7"}  # Okabe and Ito 2008


def of_other_draws(value: Callable[[xr.Dataset], Number]) -> Measure:
    """A measure of claims over all draws but the paper's, from a function of one draw's results."""

    def measure(results: xr.Dataset) -> Networks:
        others = results.drop_sel(seed=toy_model.PAPER_SEED).rename(seed="init")
        return of_networks(value)(others)

    return measure


def draw_curves(axes: Axes, curves: xr.DataArray, colour: str, label: str) -> None:
    """Curves of one clamp, [seed, iteration]: the paper's draw bold, the others faint."""
    n = curves["iteration"].values
    others = curves.drop_sel(seed=toy_model.PAPER_SEED).transpose("iteration", "seed").values
    axes.plot(n, others, color=colour, lw=0.6, alpha=0.15, zorder=1, rasterized=True)
    axes.plot(n, curves.sel(seed=toy_model.PAPER_SEED).values, color=colour, lw=2.2, label=label)
