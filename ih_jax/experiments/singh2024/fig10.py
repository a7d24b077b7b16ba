"""Figure 10: does clamping in training show what progress measures of a finished run do not?

Paper: Singh et al. 2024, appendix, fig. 10. Command: ih-jax run fig10 (the networks of fig5b).
Expected: the loss of unclamped checkpoints, with a part of the circuit given only when they are
measured, has a phase change of its own; with the same part clamped in training, the loss has none.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ih_jax.claims import (
    Bounds,
    Claim,
    Finding,
    at_least,
    in_every_seed,
    over_seeds,
    plateaus,
    ratio,
    time_of,
)
from ih_jax.experiments.base import Experiment, Found, Options, Table
from ih_jax.experiments.drawing import chance, curves, over_sequences, tidy
from ih_jax.experiments.looking import along, config, probe
from ih_jax.experiments.singh2024.trainings import CLAMPED, CLAMPS
from ih_jax.measures.heads import previous_token_strength
from ih_jax.measures.performance import under

GIVEN = {"previous-token attention": "#E69F00", "match": "#009E73"}
# What shows A, B and C forming in a run without clamps: the strongest previous-token head, and the
# losses given all but B and all but C.
PARTS = {"A": "previous_token", "B": "layer1+copy", "C": "match"}
FROM, WINDOW = 50_000, 0.1  # sequences; share of those after that


def measure(options: Options, found: Found) -> xr.Dataset:
    """Training loss [clamp, init, sequences]; progress measures [held, init, checkpoint].

    `whole` [init, checkpoint]: the loss at checkpoints; `previous_token`: of the strongest head.
    """
    trained = found["clamps"]
    batch = probe(options)
    clamps = {name: CLAMPS[name] for name in ("none", *GIVEN, "layer1+copy")}
    scores = along(trained, under(clamps, config(trained)), batch)["loss"]
    back = along(trained, previous_token_strength, batch)["previous_token_strength"]
    curves = trained.results["loss"].sel(clamp=["none", *GIVEN])
    return xr.Dataset(
        {
            "loss": curves,
            "progress": scores.sel(held=[*GIVEN, "layer1+copy"]),
            "whole": scores.sel(held="none", drop=True),
            "previous_token": back.sel(layer=0, drop=True).max("head"),
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


def _lagging(seed: xr.Dataset) -> float:
    """Progress measure of match over the loss with match clamped, at 100,000 sequences."""
    clamped = seed["loss"].sel(clamp="match").dropna("sequences")
    clamped = clamped.sel(sequences=100_000, method="nearest")
    measured = seed["progress"].sel(held="match").sel(checkpoint=100_000, method="nearest")
    return float(measured / clamped)


def _later(name: str) -> Callable[[xr.Dataset], Bounds]:
    """Time of the progress measure over that of the clamped run."""

    def value(seed: xr.Dataset) -> Bounds:
        curve = seed["progress"].sel(held=name).rename(checkpoint="sequences")
        return ratio(time_of(curve), time_of(seed["loss"].sel(clamp=name)))

    return value


def _plateau(name: str, clamped: bool) -> Callable[[xr.Dataset], Finding]:
    """Decides whether every seed has a plateau (its progress measure) or none (clamped)."""

    def decide(results: xr.Dataset) -> Finding:
        if clamped:
            curve = results["loss"].sel(clamp=name)
        else:
            curve = results["progress"].sel(held=name).rename(checkpoint="sequences")
        shapes = plateaus(curve)
        verdicts: dict[int, bool | None] = {}
        for seed in results["init"].values.tolist():
            mine = shapes.sel(init=seed)
            verdicts[seed] = bool(mine["present"]) is not clamped if mine["decided"] else None
        return over_seeds(verdicts)

    return decide


CLAIMS = (
    Claim(
        "match: clamped, no plateau",
        "With match clamped in training there is no plateau.",
        paper="absent",
        decide=_plateau("match", clamped=True),
    ),
    Claim(
        "match: a plateau of the progress measure",
        "The loss of unclamped checkpoints given a perfect match has a plateau.",
        paper="present",
        decide=_plateau("match", clamped=False),
    ),
    Claim(
        "previous-token: a plateau of the progress measure",
        "Their loss given previous-token attention has a plateau.",
        paper="present",
        decide=_plateau("previous-token attention", clamped=False),
    ),
    Claim(
        "match: at 100,000 sequences",
        "At 100,000 sequences the progress measure of match is at least 5 times the loss with "
        "match clamped.",
        paper=".525 and .044: 12",
        decide=in_every_seed("quotient", _lagging, at_least(5)),
    ),
    Claim(
        "match: time",
        "It falls below 0.4 ln 2 at least 3 times as late.",
        paper="247k and 33k: 7.5",
        decide=in_every_seed("quotient", _later("match"), at_least(3)),
    ),
    Claim(
        "previous-token: time",
        "The progress measure of previous-token attention falls below 0.4 ln 2 later than the loss "
        "with it clamped.",
        paper="348k and 217k: 1.6",
        decide=in_every_seed(
            "quotient", _later("previous-token attention"), lambda v: v.more_than(1)
        ),
    ),
    *(
        Claim(
            f"{name} evolves smoothly",
            f"In a run without clamps what shows {name} ({words}) has no jump as sharp as the "
            "loss's: it changes less, as a share of all it changes, within a tenth of training.",
            paper="smooth (section 5)",
            decide=in_every_seed(
                "sharpness over the loss's", _smoother(name), lambda v: v.within(0, 1)
            ),
        )
        for name, words in (
            ("A", "the strongest previous-token head's attention"),
            ("B", "the loss given layer 1 and copying"),
            ("C", "the loss given a match"),
        )
    ),
)


def tables(results: xr.Dataset) -> list[Table]:
    """How sharply each curve changes."""
    rows = []
    for seed in results["init"].values.tolist():
        mine = results.sel(init=seed)
        cells = [f"{sharpness(part(mine, name)):.2f}" for name in PARTS]
        rows.append([str(seed), f"{sharpness(mine['whole']):.2f}", *cells])
    header = (
        "init",
        "loss",
        "A: previous-token head",
        "B: loss given the rest",
        "C: loss given the rest",
    )
    title = f"Most that a curve changes within {WINDOW:.0%} of training, over all it changes"
    return [Table(title, header, rows)]


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
    differs="The losses given B's and C's complements were read as measures of B and C. C's falls "
    "as it should. The loss with layer 1 and copying given, which leaves B, rises while the "
    "network learns: the match that it learns reads its own layer 0, not a perfect one (the "
    "co-adaptation of fig. 7), so this is no measure of B in an unclamped network; its sharpness "
    "is reported all the same, as was written down before. What shows A is sharper than the loss "
    "in four of five seeds, by half or more in three: with one head of layer 1 its attention "
    "grows as the loss falls, hardly before.",
    measure=measure,
    claims=CLAIMS,
    draw=draw,
    tables=tables,
    trainings=(CLAMPED,),
    seconds=lambda options: (6.0 if options.quick else 80.0) * max(options.seeds, 1) / 2,
)
