"""Figure 6: what in the data slows learning down, and which subcircuit it slows.

Paper: Singh et al. 2024, section 5 and fig. 6. Command: ih-jax run fig6 (a file of at least 250
classes for the paper's numbers of classes; fewer where the data has fewer). On 2 CPU cores: about 4
minutes per seed (18 million sequences). Expected: more classes and more labels both slow learning.
Classes slow matching (B), labels not at all; labels slow copying (C), classes hardly; and both slow
the two together.
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
    Finding,
    at_least,
    at_most,
    in_every_seed,
    median,
    ratio,
    thousands,
    time_of,
    within,
)
from ih_jax.experiments.base import Experiment, Found, Options, Table
from ih_jax.experiments.drawing import curves, over_sequences, tidy
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


def times(seed: xr.Dataset, clamp: str, axis: str) -> list[Bounds]:
    """Times to learn along an axis, from the fewest on; `seed` is the results of one."""
    loss = seed[AXES[axis]].sel(clamp=clamp)
    return [time_of(loss.sel({axis: value})) for value in loss[axis].values.tolist()]


def slower(clamp: str, axis: str, place: int = -1) -> Callable[[xr.Dataset], Bounds]:
    """Time with the most (or `place`) over the time with the fewest."""

    def value(seed: xr.Dataset) -> Bounds:
        found = times(seed, clamp, axis)
        return ratio(found[place], found[0])

    return value


def ordered(clamp: str, axis: str) -> Callable[[xr.Dataset], Finding]:
    """Decides whether times rise along an axis within every seed."""

    def rising(seed: xr.Dataset) -> Bounds:
        found = times(seed, clamp, axis)
        steps = [ratio(b, a) for a, b in itertools.pairwise(found)]
        return min(steps, key=lambda step: step.low)

    return in_every_seed("least ratio of neighbours", rising, lambda v: v.more_than(1))


def _largest_difference(seed: xr.Dataset) -> float:
    """Between loss curves of different numbers of labels, layer 1 and copy clamped."""
    loss = seed["loss_by_labels"].sel(clamp="layer1+copy")
    return float(np.abs(loss - loss.isel(labels=0, drop=True)).max())


def _labels_slow(seed: xr.Dataset) -> Bounds:
    """Least of the ratios of times with more labels over the time with the fewest."""
    first, *more = times(seed, "none", "labels")
    return min((ratio(each, first) for each in more), key=lambda r: r.low)


def _not_alone(seed: xr.Dataset) -> Bounds:
    """Ratio of the effect of labels on C over that of classes."""
    return ratio(slower("match", "labels")(seed), slower("match", "classes")(seed))


CLAIMS = (
    Claim(
        "normal: classes",
        "Without a clamp, more classes take longer, in every step.",
        paper="8 of 8 (x 1.16 to 1.43 from 50 to 200)",
        decide=ordered("none", "classes"),
    ),
    Claim(
        "normal: labels",
        "Without a clamp, more labels take at least 1.2 times as long as the fewest.",
        paper="8 of 8 (x 2.4 with 10, x 3 with 15, medians)",
        decide=in_every_seed("least ratio", _labels_slow, at_least(1.2)),
    ),
    Claim(
        "B: classes",
        "With layer 1 and copy clamped, more classes take longer.",
        paper="8 of 8 (x 1.1 to 1.3)",
        decide=in_every_seed("ratio", slower("layer1+copy", "classes"), lambda v: v.more_than(1)),
    ),
    Claim(
        "B: labels do not exist",
        "There the number of labels does not change the loss at all: curves differ by less than "
        "1e-5 nats anywhere.",
        paper="curves coincide",
        decide=in_every_seed("nats", _largest_difference, at_most(1e-5)),
    ),
    Claim(
        "C: classes",
        "With match clamped, the most classes take as long as the fewest, to 8%.",
        paper="8 of 8 within 8%, but one",
        decide=in_every_seed("ratio", slower("match", "classes"), within(1 / 1.08, 1.08)),
    ),
    Claim(
        "C: labels",
        "With match clamped, three times as many labels take 2.7 to 3.8 times as long.",
        paper="2.7 to 3.8 in 8 of 8",
        decide=in_every_seed("ratio", slower("match", "labels"), within(2.7, 3.8)),
    ),
    Claim(
        "C: order",
        "There times rise with the number of labels, in every step.",
        paper="8 of 8",
        decide=ordered("match", "labels"),
    ),
    Claim(
        "C feels labels rather than classes",
        "There three times the labels cost more than four times the classes.",
        paper="3 and 1",
        decide=in_every_seed("quotient of ratios", _not_alone, lambda v: v.more_than(1)),
    ),
    Claim(
        "B and C: classes",
        "With layer 1 clamped, more classes take longer.",
        paper="8 of 8 (x 1.2 to 1.35)",
        decide=ordered("layer1", "classes"),
    ),
    Claim(
        "B and C: labels",
        "With layer 1 clamped, more labels take longer.",
        paper="8 of 8 (x 2 to 2.5 with 15)",
        decide=ordered("layer1", "labels"),
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
)
