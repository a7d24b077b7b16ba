"""Figure 10: does clamping in training show what progress measures of a finished run do not?

Paper: Singh et al. 2024, appendix, fig. 10. Command: ih-jax run fig10 (the networks of fig5b).
Expected: the loss of unclamped checkpoints, with a part of the circuit given only when they are
measured, has a phase change of its own; with the same part clamped in training, the loss has none.
Decided by sixteen networks of all of Omniglot, 5000 to 5015, that differ in init alone and were
named before they ran: in results/replication/fig10.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ih_jax.claims import (
    Bounds,
    Claim,
    Reported,
    below,
    every,
    in_most,
    more_than,
    of_networks,
    plateau,
    ratio,
    time_of,
    yes,
)
from ih_jax.experiments.base import Experiment, Found, Options, Table
from ih_jax.experiments.drawing import chance, curves, over_sequences, tidy
from ih_jax.experiments.looking import along, config, probe
from ih_jax.experiments.singh2024.trainings import CLAMPED, CLAMPS
from ih_jax.measures.heads import first_layer_previous_token_strength
from ih_jax.measures.performance import under

GIVEN = {"previous-token attention": "#E69F00", "match": "#009E73"}
# What shows A, B and C forming in a run without clamps: the strongest previous-token head, and the
# losses given all but B and all but C.
PARTS = {"A": "previous_token", "B": "layer1+copy", "C": "match"}
WORDS = {
    "A": "A: attention of the strongest previous-token head",
    "B": "B: loss given layer 1 and copying",
    "C": "C: loss given a match",
}
FROM, WINDOW = 50_000, 0.1  # sequences; share of those after that


def measure(options: Options, found: Found) -> xr.Dataset:
    """Training loss [clamp, init, sequences]; progress measures [held, init, checkpoint].

    `whole` [init, checkpoint]: the loss at checkpoints; `previous_token`: of the strongest head.
    """
    trained = found["clamps"]
    batch = probe(options)
    clamps = {name: CLAMPS[name] for name in ("none", *GIVEN, "layer1+copy")}
    scores = along(trained, under(clamps, config(trained)), batch)["loss"]
    back = along(trained, first_layer_previous_token_strength, batch)
    curves = trained.results["loss"].sel(clamp=["none", *GIVEN])
    return xr.Dataset(
        {
            "loss": curves,
            "progress": scores.sel(held=[*GIVEN, "layer1+copy"]),
            "whole": scores.sel(held="none", drop=True),
            "previous_token": back["previous_token_strength"].max("head"),
        }
    )


def part(results: xr.Dataset, name: str) -> xr.DataArray:
    """[..., checkpoint] what shows A, B or C."""
    if PARTS[name] == "previous_token":
        return results["previous_token"]
    return results["progress"].sel(held=PARTS[name], drop=True)


def sharpness(curve: xr.DataArray) -> float:
    """0 to 1: the most that a curve, [checkpoint], changes within WINDOW, over all it changes.

    From FROM on; a straight line has WINDOW, a jump 1.
    """
    values = curve.sel(checkpoint=slice(FROM, None)).dropna("checkpoint").values
    width = max(1, round(WINDOW * (len(values) - 1)))
    if len(values) <= width:
        return float("nan")
    span = float(values.max() - values.min())
    return float(np.max(np.abs(values[width:] - values[:-width]))) / span if span else 0.0


def _smoother(name: str) -> Callable[[xr.Dataset], float]:
    """Sharpness of a part's curve over that of the loss."""
    return lambda seed: sharpness(part(seed, name)) / sharpness(seed["whole"])


def lagging(one: xr.Dataset) -> float:
    """Progress measure of match over the loss with match clamped, at 100,000 sequences."""
    clamped = one["loss"].sel(clamp="match").dropna("sequences")
    clamped = clamped.sel(sequences=100_000, method="nearest")
    measured = one["progress"].sel(held="match").sel(checkpoint=100_000, method="nearest")
    return float(measured / clamped)


def later(name: str) -> Callable[[xr.Dataset], Bounds]:
    """Time of the progress measure over that of the clamped run, in one network."""

    def value(one: xr.Dataset) -> Bounds:
        curve = one["progress"].sel(held=name).rename(checkpoint="sequences")
        return ratio(time_of(curve), time_of(one["loss"].sel(clamp=name)))

    return value


def measured_plateau(one: xr.Dataset, name: str) -> bool | None:
    """Whether a progress measure has a plateau; None: cannot tell."""
    curve = one["progress"].sel(held=name)
    shape = plateau(curve["checkpoint"].values, curve.values)
    return shape.seen


def only_measured(one: xr.Dataset) -> bool | None:
    """Whether the progress measure of match has a plateau and the loss with it clamped has none."""
    curve = one["loss"].sel(clamp="match")
    shape = plateau(curve["sequences"].values, curve.values)
    return every([measured_plateau(one, "match"), shape.absent])


CLAIMS = (
    Claim(
        "a phase change in the progress measure, none with the clamp",
        "The loss of unclamped checkpoints given a perfect match still has a phase change; with "
        "match clamped in training there is none.",
        in_most("only in the measure", of_networks(only_measured), yes),
        paper="seed 5",
        reported=Reported(share=(1, 1)),
        source="appendix, fig. 10",
        estimand="share of networks in which the speed of the fall drops and later rises to 3 "
        "times its minimum for the progress measure, and not for the clamped loss",
    ),
    Claim(
        "match: later",
        "The progress measure of match falls later than the loss with match clamped.",
        in_most("times as long", of_networks(later("match")), more_than(1)),
        paper="247k / 33k = 7.5",
        reported=Reported(values=(247 / 33,)),
        source="appendix, fig. 10",
        estimand="ratio of times to 0.4 ln 2 within a network",
        primary=False,
    ),
    Claim(
        "match: at 100,000 sequences",
        "At 100,000 sequences it is above the loss with match clamped.",
        in_most("quotient of losses", of_networks(lagging), more_than(1)),
        paper=".525 / .044 = 12",
        reported=Reported(values=(0.525 / 0.044,)),
        source="appendix, fig. 10",
        estimand="quotient of losses",
        primary=False,
    ),
    Claim(
        "previous-token attention: a phase change in the measure",
        "The loss of unclamped checkpoints given previous-token attention has a phase change.",
        in_most(
            "plateau",
            of_networks(lambda one: measured_plateau(one, "previous-token attention")),
            yes,
        ),
        paper="seed 5",
        reported=Reported(share=(1, 1)),
        source="appendix, fig. 10",
        estimand="share of networks in which it has a plateau",
        primary=False,
    ),
    Claim(
        "previous-token attention: later",
        "It falls later than the loss with previous-token attention clamped.",
        in_most("times as long", of_networks(later("previous-token attention")), more_than(1)),
        paper="348k / 217k = 1.6",
        reported=Reported(values=(348 / 217,)),
        source="appendix, fig. 10",
        estimand="ratio of times to 0.4 ln 2 within a network",
        primary=False,
    ),
    *(
        Claim(
            f"{name} evolves smoothly",
            f"In a network without clamps what shows {name} ({words}) changes less abruptly than "
            "the loss.",
            in_most("sharpness over the loss's", of_networks(_smoother(name)), below(1)),
            paper="not measured there",
            source="ours, after section 5",
            estimand="most that it changes within a tenth of training, over all it changes, over "
            "the same of the loss",
            kind="hypothesis",
            primary=False,
        )
        for name, words in (
            ("A", "the strongest previous-token head's attention"),
            ("C", "the loss given a match"),
        )
    ),
)


def tables(results: xr.Dataset) -> list[Table]:
    """How sharply each curve changes."""
    rows = []
    seeds = [results.sel(init=seed) for seed in results["init"].values.tolist()]
    lines = {"loss": [one["whole"] for one in seeds]}
    lines |= {WORDS[name]: [part(one, name) for one in seeds] for name in PARTS}
    for name, curves_ in lines.items():
        low, middle, high = np.quantile([sharpness(curve) for curve in curves_], [0.25, 0.5, 0.75])
        rows.append([name, f"{middle:.2f}", f"{low:.2f} to {high:.2f}"])
    title = f"Most that a curve changes within {WINDOW:.0%} of training, over all it changes"
    return [Table(title, ("", "median", "quartiles"), rows)]


def draw(results: xr.Dataset) -> Figure:
    """Left clamped in training, right given to unclamped checkpoints."""
    figure = Figure(figsize=(14, 3.8), layout="constrained")
    left, right, parts = figure.subplots(1, 3)
    for axes, title in ((left, "Clamped in training"), (right, "Given when measured only")):
        curves(axes, results["loss"].sel(clamp="none", drop=True), "#000000", "nothing")
        for name, colour in GIVEN.items():
            if axes is left:
                line = results["loss"].sel(clamp=name, drop=True)
            else:
                line = results["progress"].sel(held=name, drop=True)
            curves(axes, line, colour, name)
        chance(axes)
        axes.set(xlim=(0, 600_000), ylim=(0, 2.1))
        over_sequences(axes)
        tidy(axes, title)
    left.set_ylabel("loss (nats)")
    left.legend(frameon=False, fontsize=9)
    colours = {"A": "#0072B2", "B": "#E69F00", "C": "#009E73"}
    lines = {"loss": ("#000000", results["whole"])}
    lines |= {name: (colours[name], part(results, name)) for name in PARTS}
    for name, (colour, line) in lines.items():
        late = line.sel(checkpoint=slice(FROM, None))
        if not late.sizes["checkpoint"]:  # cut short
            continue
        # All from 1 down to 0, so that shapes compare.
        scaled = (late - late.min("checkpoint")) / (late.max("checkpoint") - late.min("checkpoint"))
        curves(parts, 1 - scaled if name == "A" else scaled, colour, name)
    parts.set(xlim=(0, 600_000), ylim=(-0.02, 1.02), ylabel="share of its range after 50k")
    over_sequences(parts)
    if parts.get_legend_handles_labels()[0]:
        parts.legend(frameon=False, fontsize=9)
    tidy(parts, "Parts of unclamped networks")
    return figure


experiment = Experiment(
    name="fig10",
    title="Clamping against progress measures",
    paper="Singh et al. 2024, appendix, fig. 10",
    summary="Left: a part of the circuit is perfect from the first step of training on. Right: "
    "networks trained without, at every checkpoint given that part only while the loss is "
    "measured (a progress measure); and how parts of the circuit form in such a network: A, the "
    "attention of its strongest previous-token head, B and C, its loss given all but B or all but "
    "C. Head 3 of layer 1 does the induction. Every seed thin, medians bold.",
    differs="The loss given layer 1 and copying, which leaves B, rises while a network learns: "
    "the match that it learns reads its own layer 0, not a perfect one (the co-adaptation of "
    "fig. 7), so this is no measure of B, and no claim is made of it.",
    measure=measure,
    claims=CLAIMS,
    draw=draw,
    tables=tables,
    trainings=(CLAMPED,),
    seconds=lambda options: (6.0 if options.quick else 80.0) * max(options.seeds, 1) / 2,
)
