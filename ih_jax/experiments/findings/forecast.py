"""Is how long a network takes told by how long it takes when parts of its circuit are given?

Of our own, after Singh et al. 2024, section 6 ("predict learning dynamics from subcircuit
formation"). Command: ih-jax run forecast --seeds 64 (the networks of fig5b). Expected, if the parts
make the whole: within one setting, a network whose parts form late is late itself.

All networks have one setting, so that a model which knows the setting alone says their mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ih_jax.claims import Claim, Measure, Networks, of_networks, pooled
from ih_jax.claims.timing import time_with
from ih_jax.experiments.base import Experiment, Found, Options, Table
from ih_jax.experiments.drawing import FAINT, short, tidy
from ih_jax.experiments.findings import telling
from ih_jax.experiments.findings.held_out import apart, explained, linear, told, told_by_twins
from ih_jax.experiments.singh2024.trainings import CLAMPED

PARTS = ("layer1+copy", "match", "layer1")  # leave B, C, B and C to be learned
CLAMPS = {
    "layer1+copy": "B alone",
    "match": "C alone",
    "layer1": "B and C",
    "copy": "A and B",
    "previous-token attention": "all but one previous-token head",
}
TWINS = "networks of the same initial weights on other data"


def measure(options: Options, found: Found) -> xr.Dataset:
    """Curves of all clamps, [clamp, init, sequences]."""
    return found["clamps"].results[["loss", "diverged_at"]]


def log_time(one: xr.Dataset, clamp: str) -> float:
    """Of the sequences to learn; of the horizon where a network has not learned by then."""
    return math.log(time_with(one, clamp).low)


def whole(one: xr.Dataset) -> float:
    """The log time without a clamp."""
    return log_time(one, "none")


def times(*clamps: str) -> Callable[[xr.Dataset], Sequence[float]]:
    """The log times with these."""
    return lambda one: [log_time(one, clamp) for clamp in clamps]


def beyond_twins(results: xr.Dataset) -> Networks:
    """A measure of claims: [1, 2] squared errors from the parts, and from twins."""
    parts, twins = MEASURES["B, C, B and C"](results), MEASURES[TWINS](results)
    rows = {
        key: np.array([[np.asarray(value)[0, 0], np.asarray(twins.values[key])[0, 0]]])
        for key, value in parts.values.items()
        if key in twins.values
    }
    return Networks(parts.varies, rows, parts.missing)


MEASURES: dict[str, Measure] = {
    "B, C, B and C": told(times(*PARTS), whole),
    **{words: told(times(clamp), whole) for clamp, words in CLAMPS.items()},
    "all five": told(times(*CLAMPS), whole),
    TWINS: told_by_twins(whole),
}

CLAIMS = (
    Claim(
        "parts tell the whole",
        "Times with B, with C and with both left to be learned tell the time without a clamp, "
        "better than the setting alone.",
        pooled("share of the variance told", MEASURES["B, C, B and C"], explained, rows="networks"),
        paper="promised",
        source="ours, after section 6",
        estimand="1 - squared errors of the log time said from the three log times, over those of "
        "the mean; of each network by those that share neither initial weights nor draw",
        kind="hypothesis",
    ),
    Claim(
        "parts tell more than twins",
        "They tell it better than the times of networks with the same initial weights on other "
        "data.",
        pooled("share of the twins' error saved", beyond_twins, explained, rows="networks"),
        source="ours",
        estimand="1 - squared errors from the parts, over those from the mean of the twins",
        kind="hypothesis",
        primary=False,
    ),
)


def tables(results: xr.Dataset) -> list[Table]:
    """How much each tells."""
    return [
        Table(
            "Time without a clamp, told of networks held out",
            ("from the times with these left to be learned", "variance told (95%)", "factor off"),
            telling.rows(MEASURES, results, lambda errors: math.exp(np.median(np.sqrt(errors)))),
        )
    ]


def draw(results: xr.Dataset) -> Figure:
    """The whole against a part; said against seen; what tells how much."""
    figure = Figure(figsize=(13, 4), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 1.2))
    rows = of_networks(lambda one: np.array([[whole(one), *times(*PARTS)(one)]]))(results)
    keys = list(rows.values)
    table = np.array([np.asarray(rows.values[key])[0] for key in keys])
    y = np.exp(table[:, 0])
    for column, (clamp, colour) in enumerate(
        zip(PARTS, ("#CC79A7", "#0072B2", "#009E73"), strict=True)
    ):
        x = np.exp(table[:, 1 + column])
        left.plot(x, y, "o", ms=4, color=colour, alpha=0.6, mew=0, label=CLAMPS[clamp])
    left.set(xscale="log", yscale="log", xlabel="sequences, a part left to be learned")
    left.set_ylabel("sequences, nothing clamped")
    left.legend(frameon=False, fontsize=8)
    tidy(left, "Every network")
    said, mean = linear(table[:, 1:], table[:, 0], apart(keys))
    span = (float(y.min()) / 1.05, float(y.max()) * 1.05)
    middle.plot(y, np.exp(said), "o", ms=4, color="#0072B2", alpha=0.7, mew=0, label="from parts")
    middle.plot(
        y, np.exp(mean), "o", ms=3, color=FAINT, mew=0, zorder=0, label="mean of the others"
    )
    middle.plot(span, span, color=FAINT, lw=0.8, zorder=0)
    middle.set(xscale="log", yscale="log", xlim=span, ylim=span, xlabel="sequences to learn")
    middle.set_ylabel("said, this network held out")
    middle.legend(frameon=False, fontsize=8)
    tidy(middle, "From B, C, B and C")
    for axes in (left, middle):
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(short)
            axis.set_minor_formatter(lambda *_: "")
    for axis in (left.yaxis, middle.xaxis, middle.yaxis):  # less than a decade
        axis.set_minor_formatter(short)
    for axes in (left, middle):
        axes.tick_params(which="both", labelsize=7)
    labels = [name if name != TWINS else "twins: same weights,\nother data" for name in MEASURES]
    telling.draw(right, MEASURES, results, labels)
    return figure


experiment = Experiment(
    name="forecast",
    title="Do the parts tell the whole, network by network?",
    paper="ours, after Singh et al. 2024, section 6",
    summary="Networks of one setting differ in how long they take to learn. Each was also trained "
    "with clamps that leave only B (match), only C (copy), or both to be learned, from the same "
    "initial weights on the same data. Do these times tell that without a clamp, for networks "
    "held out, better than the mean of the others does?",
    measure=measure,
    claims=CLAIMS,
    draw=draw,
    tables=tables,
    trainings=(CLAMPED,),
    seconds=lambda options: 6.0,
)
