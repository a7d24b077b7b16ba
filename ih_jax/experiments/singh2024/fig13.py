"""Figure 13: the ablations of figure 4a, measured by the loss.

Paper: Singh et al. 2024, appendix, fig. 13. Command: ih-jax run fig13 (the networks of fig3).
Expected: what fig. 4a shows of accuracy: the stronger a head, the lower the loss with it alone.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ih_jax.claims import Claim, at_most, in_every_seed
from ih_jax.experiments.base import Experiment, Found, Options
from ih_jax.experiments.drawing import tidy
from ih_jax.experiments.singh2024.ablations import (
    correlation,
    draw_ablations,
    measure_ablations,
    others,
    strongest,
)
from ih_jax.experiments.singh2024.trainings import MAIN


def measure(options: Options, found: Found) -> xr.Dataset:
    """As fig. 4a."""
    return measure_ablations(options, found)


def _more_with_another(seed: xr.Dataset) -> float:
    """Least loss with another head alone, over the loss with the strongest alone."""
    own = float(seed["only_loss"].sel(head=strongest(seed)))
    return float(np.min(others(seed, "only_loss"))) / own


CLAIMS = (
    Claim(
        "strength tells loss",
        "Over the heads of a network, the correlation of strength with the loss when all others "
        "are ablated is at most -.9.",
        paper="seed 5: -.99, of the losses read off the figure",
        decide=in_every_seed(
            "correlation",
            lambda seed: correlation(seed["strength"].values, seed["only_loss"].values),
            at_most(-0.9),
        ),
    ),
    Claim(
        "the strongest alone",
        "With any other head alone the loss is greater than with the strongest alone.",
        paper="5 of 5 seeds",
        decide=in_every_seed("times the loss", _more_with_another, lambda v: v.more_than(1)),
    ),
    Claim(
        "any other may go",
        "With any one head ablated that is not the strongest, the loss is at most .1.",
        paper="at least .985 correct",
        decide=in_every_seed(
            "greatest loss", lambda s: float(np.max(others(s, "without_loss"))), at_most(0.1)
        ),
    ),
)


def draw(results: xr.Dataset) -> Figure:
    """Loss against strength."""
    figure = Figure(figsize=(5.6, 4), layout="constrained")
    axes = figure.subplots()
    draw_ablations(axes, results, "loss")
    axes.set(ylim=(0, None), ylabel="loss (nats)")
    tidy(axes)
    return figure


experiment = Experiment(
    name="fig13",
    title="Heads ablated: the loss",
    paper="Singh et al. 2024, appendix, fig. 13",
    summary="The networks and ablations of fig. 4a, with the loss instead of the accuracy.",
    measure=measure,
    claims=CLAIMS,
    draw=draw,
    trainings=(MAIN,),
    seconds=lambda options: (3.0 if options.quick else 12.0) * max(options.seeds, 3) / 3,
)
