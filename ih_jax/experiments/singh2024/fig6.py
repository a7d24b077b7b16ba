"""Figure 6: what in the data slows learning down, and which subcircuit it slows.

Paper: Singh et al. 2024, section 5 and fig. 6. Command: ih-jax run fig6 (a file of at least 250
classes for the paper's numbers of classes; fewer where the data has fewer). On 2 CPU cores: about 4
minutes per seed (18 million sequences). Expected: more classes and more labels both slow learning.
Classes slow matching (B), labels not at all; labels slow copying (C), classes hardly; and both slow
the two together. Decided by sixteen networks of all of Omniglot, 5000 to 5015, that differ in init
alone, named before they ran.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ih_jax.claims import (
    Bounds,
    Claim,
    Reported,
    at_most,
    every,
    in_most,
    median,
    more_than,
    no_difference,
    of_networks,
    ratio,
    thousands,
    yes,
)
from ih_jax.experiments.base import Experiment, Found, Options, Table
from ih_jax.experiments.drawing import curves, over_sequences, tidy
from ih_jax.experiments.singh2024.known import reported, scaling, time_in
from ih_jax.experiments.singh2024.trainings import SCALING_CLASSES, SCALING_LABELS

PANELS = {  # clamps, as the paper calls what is left to learn
    "none": "nothing clamped",
    "layer1+copy": "B (layer 1 and copy clamped)",
    "match": "C (match clamped)",
    "layer1": "B and C (layer 1 clamped)",
}
AXES = {"classes": "loss_by_classes", "labels": "loss_by_labels"}
SHADES = ("#7FB2D6", "#2F6DA8", "#0B2F5B")


def measure(options: Options, found: Found) -> xr.Dataset:
    """Training loss [clamp, init, classes, sequences] and [clamp, init, labels, sequences]."""
    labels = found["scaling_labels"].results["loss"]
    classes = found["scaling_classes"].results["loss"]
    few = labels.isel(labels=[0])
    by_classes = xr.concat([few, classes], "classes").isel(labels=0, drop=True)
    return xr.Dataset(
        {"loss_by_classes": by_classes, "loss_by_labels": labels.isel(classes=0, drop=True)}
    )


def times(one: xr.Dataset, clamp: str, axis: str) -> list[Bounds]:
    """Times to learn of one network along an axis, from the fewest on."""
    return [
        time_in(one, AXES[axis], clamp=clamp, **{axis: value})
        for value in one[axis].values.tolist()
    ]


def slower(clamp: str, axis: str) -> Callable[[xr.Dataset], Bounds]:
    """Time with the most over the time with the fewest, in one network."""

    def value(one: xr.Dataset) -> Bounds:
        found = times(one, clamp, axis)
        return ratio(found[-1], found[0])

    return value


def rising(clamp: str, axis: str) -> Callable[[xr.Dataset], bool | None]:
    """Whether times rise in every step along an axis, in one network."""

    def value(one: xr.Dataset) -> bool | None:
        found = times(one, clamp, axis)
        return every(ratio(b, a).more_than(1) for a, b in itertools.pairwise(found))

    return value


def largest_difference(one: xr.Dataset) -> float:
    """Nats between loss curves of different numbers of labels, layer 1 and copy clamped."""
    loss = one["loss_by_labels"].sel(clamp="layer1+copy")
    return float(np.abs(loss - loss.isel(labels=0, drop=True)).max())


def rather_than(clamp: str, axis: str, other: str) -> Callable[[xr.Dataset], Bounds]:
    """How many times more one axis slows than the other does, from the fewest to the most."""
    return lambda one: ratio(slower(clamp, axis)(one), slower(clamp, other)(one))


TABLE = scaling()
TIMES = "ratio of times to a loss of 0.4 ln 2 within a network, most over fewest"


def _slows(name: str, clamp: str, axis: str, says: str, paper: str, primary: bool = False) -> Claim:
    return Claim(
        name,
        says,
        in_most("times as long", of_networks(slower(clamp, axis)), more_than(1)),
        paper=paper,
        reported=reported(slower(clamp, axis), TABLE),
        source="section 5, fig. 6",
        estimand=f"{TIMES} {axis}",
        primary=primary,
    )


CLAIMS = (
    _slows(
        "normal: classes",
        "none",
        "classes",
        "Without a clamp, more classes delay learning.",
        "1.3 to 1.4 (200 over 50)",
        primary=True,
    ),
    _slows(
        "normal: labels",
        "none",
        "labels",
        "Without a clamp, more labels delay learning.",
        "2.2 to 4.6 (15 over 5)",
        primary=True,
    ),
    _slows(
        "B: classes",
        "layer1+copy",
        "classes",
        "More classes delay matching (B: layer 1 and copy clamped).",
        "1.06 to 1.25",
        primary=True,
    ),
    Claim(
        "B: labels do not exist",
        "The number of labels does not matter for matching: losses are the same.",
        in_most("nats", of_networks(largest_difference), at_most(1e-5), form="{:.1g}".format),
        paper="curves coincide",
        source="section 5, fig. 6",
        estimand="largest difference of losses anywhere; at most 1e-5, which is rounding",
        primary=False,
    ),
    Claim(
        "C: labels rather than classes",
        "Copying (C: match clamped) is delayed by more labels, not by more classes.",
        in_most("times more", of_networks(rather_than("match", "labels", "classes")), more_than(1)),
        paper="2.6 to 3.5",
        reported=reported(rather_than("match", "labels", "classes"), TABLE),
        source="section 5, fig. 6",
        estimand=f"{TIMES} labels, over the same of classes",
    ),
    _slows(
        "C: labels",
        "match",
        "labels",
        "More labels delay copying.",
        "2.7 to 3.6",
    ),
    Claim(
        "C: classes hardly",
        "The number of classes hardly matters for copying.",
        no_difference("times as long", of_networks(slower("match", "classes")), 0.8, 1.25),
        paper="1.00 to 1.08",
        reported=reported(slower("match", "classes"), TABLE),
        source="section 5, fig. 6",
        estimand=f"{TIMES} classes; within a factor of 1.25",
        primary=False,
    ),
    _slows(
        "B and C: classes",
        "layer1",
        "classes",
        "With layer 1 clamped more classes delay learning.",
        "1.2 to 1.35",
    ),
    _slows(
        "B and C: labels",
        "layer1",
        "labels",
        "With layer 1 clamped more labels delay learning.",
        "2.0 to 2.2",
    ),
    Claim(
        "every step, without a clamp",
        "Each doubling of the number of classes delays learning.",
        in_most("every step", of_networks(rising("none", "classes")), yes),
        paper="5 of 5 seeds",
        reported=Reported(share=(5, 5)),
        source="section 5, fig. 6",
        estimand="share of networks in which time rises in every step",
        primary=False,
    ),
)


def tables(results: xr.Dataset) -> list[Table]:
    """Median times."""
    rows = []
    seeds = [results.sel(init=seed) for seed in results["init"].values.tolist()]
    for axis in AXES:
        for clamp, words in PANELS.items():
            columns = zip(*(times(seed, clamp, axis) for seed in seeds), strict=True)
            for value, column in zip(results[axis].values.tolist(), columns, strict=True):
                rows.append((words, f"{value} {axis}", thousands(median(list(column)))))
    return [Table("Median sequences to learn", ("", "data", "ours"), rows)]


def _panel(axes: Axes, results: xr.Dataset, axis: str, clamp: str) -> None:
    values = results[axis].values.tolist()
    shades = SHADES if len(values) > 2 else SHADES[::2]
    loss = results[AXES[axis]].sel(clamp=clamp, drop=True)
    for value, shade in zip(values, shades, strict=False):
        curves(axes, loss.sel({axis: value}, drop=True), shade, f"{value}")
    known = np.isfinite(loss.values).any(axis=tuple(range(loss.ndim - 1)))
    axes.set(ylim=(0, 1.5), xlim=(0, float(loss["sequences"].values[known].max())))


def draw(results: xr.Dataset) -> Figure:
    """The paper's 2 x 4 panels: classes above, labels below."""
    figure = Figure(figsize=(13.5, 6), layout="constrained")
    panels = figure.subplots(2, 4)
    for row, axis in enumerate(AXES):
        for column, (clamp, words) in enumerate(PANELS.items()):
            axes = panels[row, column]
            _panel(axes, results, axis, clamp)
            over_sequences(axes)
            tidy(axes, words if row == 0 else "")
        panels[row, 0].set_ylabel("training loss (nats)")
        panels[row, 0].legend(frameon=False, title=axis, fontsize=9)
    return figure


experiment = Experiment(
    name="fig6",
    title="What in the data slows learning, and which subcircuit does it slow?",
    paper="Singh et al. 2024, section 5, fig. 6",
    summary="Head 3 of layer 1 learns the task from more classes, or with more labels: with "
    "nothing clamped, and with clamps that leave only matching (B), only copying (C) or both.",
    measure=measure,
    claims=CLAIMS,
    draw=draw,
    tables=tables,
    trainings=(SCALING_LABELS, SCALING_CLASSES),
    seconds=lambda options: 4.0,
    differs="On all of Omniglot more classes delay matching more than in the paper (1.37 times, "
    "there 1.06 to 1.25), and more labels delay B and C together more (2.71, there 2.0 to 2.2).",
)
