"""Figure 12: how much each layer adds to the logits by itself, over training.

Paper: Singh et al. 2024, section 3.1 and appendix, fig. 12. Command: ih-jax run fig12 (the networks
of fig3). Expected: what layer 0 writes helps the logits directly early in training only; by the end
nearly all goes through layer 1.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ih_jax.claims import (
    Claim,
    Reported,
    below,
    in_most,
    more_than,
    no_difference,
    of_networks,
)
from ih_jax.clamps.clamp import Clamp
from ih_jax.experiments.base import Experiment, Found, Options
from ih_jax.experiments.drawing import FAINT, curves, over_sequences, tidy
from ih_jax.experiments.looking import HEADS, along, config, probe
from ih_jax.experiments.singh2024.known import ACCURACY, DIRECT_ACCURACY, authors
from ih_jax.experiments.singh2024.trainings import MAIN
from ih_jax.measures.performance import direct_path, under

PANELS = {
    "direct_l0": ("#0072B2", "Layer 0 ablated as the logits see it (patterns, values preserved)"),
    "without_l1": ("#D55E00", "Layer 1 ablated"),
}


ON_PLATEAU = 50_000  # sequences, from which on the loss waits
EQUAL = 0.05  # nats: all five networks of the paper are below it before 800,000 sequences


def measure(options: Options, found: Found) -> xr.Dataset:
    """Loss and accuracy under each ablation, [init, checkpoint, held]; `added` loss, without."""
    main = found["main"]
    batch = probe(options)
    clamps = {"whole": Clamp(), **direct_path(HEADS)}
    scores = along(main, under(clamps, config(main)), batch, inits=options.inits)
    results = scores[["loss", "accuracy"]]
    added = results["loss"] - results["loss"].sel(held="whole", drop=True)
    return results.assign(added=added.sel(held=list(PANELS)))


def added(one: xr.Dataset, held: str) -> xr.DataArray:
    """Loss added by an ablation, at every checkpoint or at the end."""
    return one["loss"].sel(held=held) - one["loss"].sel(held="whole")


def last(one: xr.Dataset, held: str) -> float:
    """Loss added at the end of training."""
    return float(np.atleast_1d(added(one, held).values)[-1])


def lost(one: xr.Dataset) -> float:
    """Accuracy lost at the end when layer 0 is taken from the logits only."""
    whole, direct = (
        np.atleast_1d(one["accuracy"].sel(held=held).values)[-1] for held in ("whole", "direct_l0")
    )
    return float(whole - direct)


def faded(one: xr.Dataset, at_loss: float | None = None) -> float:
    """Loss added by layer 0's direct path at the end over its most since the plateau.

    Args:
        one: results of one network.
        at_loss: not at the end but where the loss is first below this; NaN: it never is.
    """
    whole, direct = one["loss"].sel(held="whole"), added(one, "direct_l0")
    late = direct.where(direct["checkpoint"] >= ON_PLATEAU, drop=True)
    below_level = np.flatnonzero(whole.values < (np.inf if at_loss is None else at_loss))
    if not late.size or not below_level.size:
        return float("nan")
    end = direct.values[-1 if at_loss is None else below_level[0]]
    return float(end / late.max())


CLAIMS = (
    Claim(
        "layer 0's direct path is not needed",
        "At the end what layer 0 writes hardly helps the logits directly.",
        no_difference("accuracy lost", of_networks(lost), -0.01, 0.01, "{:.4f}".format),
        paper=".0001 to .0026",
        reported=Reported(values=tuple(ACCURACY - DIRECT_ACCURACY)),
        source="section 3.1",
        estimand="accuracy lost where layer 0 is ablated for the logits only; within a hundredth",
    ),
    Claim(
        "nearly all goes through layer 1",
        "At the end layer 1 adds more than layer 0 does directly.",
        in_most(
            "nats more",
            of_networks(lambda one: last(one, "without_l1") - last(one, "direct_l0")),
            more_than(0),
        ),
        paper="1.89",
        reported=Reported(values=(1.89 - 0.0016,)),
        source="appendix, fig. 12",
        estimand="loss added by ablating layer 1 less that by ablating layer 0 for the logits only",
    ),
    Claim(
        "its part fades",
        "What layer 0 adds directly is there on the plateau and fades.",
        in_most("quotient", of_networks(faded), below(0.5)),
        paper=".0016 / .104 = .015",
        reported=Reported(values=(0.0016 / 0.104,)),
        source="appendix, fig. 12",
        estimand="loss added at the end over its most after 50,000 sequences; below half",
        primary_since="2026-11-26",
    ),
    Claim(
        "its part fades, at equal loss",
        "It has faded where the loss is first below .05 (whether or not training ends there).",
        in_most("quotient", of_networks(lambda one: faded(one, EQUAL)), below(0.5)),
        paper=".024 / .104 = .23",
        reported=Reported(values=(0.024 / 0.104,)),
        source="appendix, fig. 12",
        estimand="loss added at the first checkpoint with a loss below .05 over its most after "
        "50,000 sequences; below half",
        primary=False,
    ),
)


def draw(results: xr.Dataset) -> Figure:
    """The paper's two panels, one below the other."""
    figure = Figure(figsize=(6.2, 5.4), layout="constrained")
    for axes, (held, (colour, title)) in zip(figure.subplots(2, 1), PANELS.items(), strict=True):
        curves(axes, results["added"].sel(held=held, drop=True), colour)
        axes.axhline(0, lw=0.8, color=FAINT, zorder=0)
        axes.set(xlim=(0, float(results["checkpoint"][-1])), ylabel="loss added (nats)")
        over_sequences(axes)
        tidy(axes, title)
    return figure


experiment = Experiment(
    name="fig12",
    title="How much does each layer add to the logits by itself?",
    paper="Singh et al. 2024, appendix, fig. 12",
    summary="Two ablations at every checkpoint of the networks of fig. 3: layer 0 taken from what "
    "the logits see, while layer 1 keeps the patterns and values that it had; and layer 1 taken "
    "away, so that only the direct paths are left. Drawn: the loss that each adds. Every seed "
    "thin, medians bold.",
    authors=lambda: authors("fig12"),
    measure=measure,
    claims=CLAIMS,
    draw=draw,
    trainings=(MAIN,),
    seconds=lambda options: (8.0 if options.quick else 55.0) * max(options.seeds, 3) / 3,
)
