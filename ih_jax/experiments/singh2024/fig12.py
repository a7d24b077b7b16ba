"""Figure 12: how much each layer adds to the logits by itself, over training.

Paper: Singh et al. 2024, section 3.1 and appendix, fig. 12. Command: ih-jax run fig12 (the networks
of fig3). Expected: what layer 0 writes helps the logits directly early in training only; by the end
nearly all goes through layer 1.
"""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure

from ih_jax.claims import Claim, at_least, at_most, in_every_seed
from ih_jax.clamps.clamp import Clamp
from ih_jax.experiments.base import Experiment, Found, Options
from ih_jax.experiments.drawing import FAINT, curves, over_sequences, tidy
from ih_jax.experiments.looking import HEADS, along, config, probe
from ih_jax.experiments.singh2024.trainings import MAIN
from ih_jax.measures.performance import direct_path, under

PANELS = {
    "direct_l0": ("#0072B2", "Layer 0 ablated as the logits see it (patterns, values preserved)"),
    "without_l1": ("#D55E00", "Layer 1 ablated"),
}


def measure(options: Options, found: Found) -> xr.Dataset:
    """Loss and accuracy under each ablation, [init, checkpoint, held]; `added` loss, without."""
    main = found["main"]
    batch = probe(options)
    clamps = {"whole": Clamp(), **direct_path(HEADS)}
    scores = along(main, under(clamps, config(main)), batch)
    results = scores[["loss", "accuracy"]]
    added = results["loss"] - results["loss"].sel(held="whole", drop=True)
    return results.assign(added=added.sel(held=list(PANELS)))


def last(seed: xr.Dataset, held: str) -> float:
    """Loss added at the end of training."""
    return float(seed["added"].sel(held=held).isel(checkpoint=-1))


def _drop(seed: xr.Dataset) -> float:
    """Accuracy lost at the end when layer 0 is taken from the logits only."""
    accuracy = seed["accuracy"].isel(checkpoint=-1)
    return float(accuracy.sel(held="whole") - accuracy.sel(held="direct_l0"))


def _once_more(seed: xr.Dataset) -> float:
    """Greatest loss added by layer 0's direct path between 50,000 and 300,000 sequences."""
    early = seed["added"].sel(held="direct_l0")
    early = early.where((early["checkpoint"] >= 50_000) & (early["checkpoint"] <= 300_000))
    return float(early.max())


CLAIMS = (
    Claim(
        "layer 0's direct path is not needed",
        "At the end, ablating layer 0 as seen by the logits only costs at most .005 of accuracy.",
        paper=".0001 to .0026",
        decide=in_every_seed("accuracy lost", _drop, at_most(0.005)),
    ),
    Claim(
        "its part fades",
        "At the end it adds at most .01 nats.",
        paper=".0016 (seed 5)",
        decide=in_every_seed("nats", lambda seed: last(seed, "direct_l0"), at_most(0.01)),
    ),
    Claim(
        "it was there before",
        "Before and in the phase change (50,000 to 300,000 sequences) it adds .05 nats or more.",
        paper=".06 to .1 (seed 5)",
        decide=in_every_seed("nats", _once_more, at_least(0.05)),
    ),
    Claim(
        "all goes through layer 1",
        "At the end, ablating layer 1 adds at least 1.5 nats.",
        paper="1.89 (seed 5)",
        decide=in_every_seed("nats", lambda seed: last(seed, "without_l1"), at_least(1.5)),
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
    differs="Init 7, the slowest to learn, has not finished by the end: layer 0's direct path "
    "still helps it a little (.013 nats), and ablating layer 1 adds 1.47. The four others agree in "
    "every claim.",
    measure=measure,
    claims=CLAIMS,
    draw=draw,
    trainings=(MAIN,),
    seconds=lambda options: (15.0 if options.quick else 110.0) * max(options.seeds, 3) / 3,
)
