"""Figure 13: the ablations of figure 4a, measured by the loss.

Paper: Singh et al. 2024, appendix, fig. 13. Command: ih-jax run fig13 (the networks of fig3).
Expected: what fig. 4a shows of accuracy: the stronger a head, the lower the loss with it alone.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ih_jax.claims import Claim, Reported, correlation, of_networks, pooled
from ih_jax.experiments.base import Experiment, Found, Options
from ih_jax.experiments.drawing import tidy
from ih_jax.experiments.singh2024.ablations import draw_ablations, measure_ablations
from ih_jax.experiments.singh2024.known import ONLY_LOSS, authors
from ih_jax.experiments.singh2024.trainings import MAIN


def measure(options: Options, found: Found) -> xr.Dataset:
    """As fig. 4a."""
    return measure_ablations(options, found)


def _strength_and_loss(one: xr.Dataset) -> np.ndarray:
    """[head, 2]"""
    return np.stack([one["strength"].values, one["only_loss"].values], axis=1)


CLAIMS = (
    Claim(
        "the stronger, the lower the loss alone",
        "The stronger an induction head, the lower the loss with it alone (fig. 4a, by the loss: "
        "not counted again).",
        pooled("correlation", of_networks(_strength_and_loss), correlation(), more=False),
        paper="-.94 (40 heads of 5 networks)",
        reported=Reported(pooled=(-0.94, 5)),
        source="appendix, fig. 13",
        estimand="correlation, over all heads of layer 1 of all networks, of strength with the "
        "loss when all others are ablated",
        primary=False,
    ),
)


def draw(results: xr.Dataset) -> Figure:
    """Loss against strength."""
    figure = Figure(figsize=(5.6, 4), layout="constrained")
    axes = figure.subplots()
    draw_ablations(axes, results, "loss", ONLY_LOSS)
    axes.set(ylim=(0, None), ylabel="loss (nats)")
    tidy(axes)
    return figure


experiment = Experiment(
    name="fig13",
    title="Heads ablated: the loss",
    paper="Singh et al. 2024, appendix, fig. 13",
    summary="The networks and ablations of fig. 4a, with the loss instead of the accuracy.",
    authors=lambda: authors("fig4"),
    measure=measure,
    claims=CLAIMS,
    draw=draw,
    trainings=(MAIN,),
    seconds=lambda options: (3.0 if options.quick else 12.0) * max(options.seeds, 3) / 3,
)
