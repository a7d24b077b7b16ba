"""Heads of a series of checkpoints: how each score came about, as a figure and in words."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table

from ih_jax.experiments.drawing import FAINT, QUIET, tidy
from ih_jax.interop.head_scores import ENOUGH, KINDS, SCORES, kinds
from ih_jax.interop.head_words import RULE, markdown, measured

DRAWN = ("prefix_matching", "previous_token", "copying")
COLOURS = {KINDS[0]: "#c0392b", KINDS[1]: "#8e44ad", KINDS[2]: "#2471a3"}
NAMED = 4  # heads of a kind that are named at the end of their curve
ROWS = 12  # heads in the table
HEADER = ("head", "kind at the end", "prefix matching at the end", f"{ENOUGH} or more from step")


def sentences(found: xr.Dataset) -> list[str]:
    """From when on there are heads of each kind, in words."""
    each, steps = kinds(found), found["step"].values
    said = [f"{len(steps)} checkpoints, steps {steps[0]} to {steps[-1]}"]
    for name in KINDS:
        count = (each == name).sum((1, 2))
        if not count.any():
            said.append(f"{name} heads: none at any step")
            continue
        first = steps[int(np.argmax(count > 0))]
        last = [f"{layer}.{head}" for layer, head in np.argwhere(each[-1] == name)]
        shown = ", ".join(last[:ROWS]) + ", ..." * (len(last) > ROWS)
        said.append(
            f"{name} heads: the first at step {first}; at the last step {len(last)}"
            + f" ({shown})" * bool(last)
        )
    return said


def rows(found: xr.Dataset) -> list[tuple[str, ...]]:
    """The heads with the highest prefix matching at the end: kind, score, since when."""
    score, steps = found["prefix_matching"].values, found["step"].values
    kind = kinds(found)[-1]
    order = np.argsort(-score[-1], axis=None, kind="stable")[:ROWS]
    made: list[tuple[str, ...]] = []
    for layer, head in np.stack(np.unravel_index(order, score.shape[1:]), 1):
        matched = score[:, layer, head] >= ENOUGH
        since = str(steps[int(np.argmax(matched))]) if matched.any() else "none"
        last = f"{score[-1, layer, head]:.2f}"
        made.append((f"{layer}.{head}", str(kind[layer, head]), last, since))
    return made


def table(found: xr.Dataset) -> Table:
    """The same, for the terminal."""
    made = Table(*HEADER, box=None, padding=(0, 2, 0, 0))
    for row in rows(found):
        made.add_row(*row)
    return made


def readme(found: xr.Dataset) -> str:
    """The folder's README, in Markdown."""
    attributes = found.attrs
    sizes = f"{found.sizes['layer']} layers of {found.sizes['head']} heads"
    lines = [
        f"# Heads of {attributes['name']} over training",
        f"{attributes['architecture']}, {sizes}, {found.sizes['step']} checkpoints. Scores as in "
        'Olsson et al. 2022, "In-context Learning and Induction Heads". Heads are layer.head, '
        "from 0.",
        "![Scores of every head at every checkpoint](figure.png)",
        "\n".join(f"- {sentence[0].upper()}{sentence[1:]}." for sentence in sentences(found)),
        RULE,
        f"## The {len(rows(found))} heads with the highest prefix matching at the end",
        markdown(HEADER, rows(found)),
        *measured(found),
    ]
    return "\n\n".join(lines) + "\n"


def draw(found: xr.Dataset) -> Figure:
    """A curve of every head for each score, coloured by what the head is at the end."""
    figure = Figure(figsize=(9.6, 3.6), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(DRAWN)), DRAWN, strict=True):
        _curves(axes, found, name)
    handles = [
        axes.plot([], [], color=colour, label=f"{kind} at the end")[0]
        for kind, colour in COLOURS.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    figure.suptitle(f"Heads of {found.attrs['name']} over training", x=0.01, ha="left", fontsize=12)
    return figure


def _curves(axes: Axes, found: xr.Dataset, name: str) -> None:
    steps, values, kind = found["step"].values, found[name].values, kinds(found)[-1]
    for layer, head in np.ndindex(kind.shape):
        colour = COLOURS.get(str(kind[layer, head]))
        axes.plot(
            steps,
            values[:, layer, head],
            color=colour or FAINT,
            lw=1.2 if colour else 0.6,
            marker="o" if len(steps) < 12 else None,
            ms=2.5,
            zorder=3 if colour else 1,
        )
    belongs = {"previous_token": KINDS[2]}.get(name, KINDS[0])
    mine = np.argwhere(kind == belongs)
    mine = mine[np.argsort([-values[-1, *at] for at in mine], kind="stable")][:NAMED]
    for layer, head in mine:
        axes.annotate(
            f"{layer}.{head}",
            (steps[-1], values[-1, layer, head]),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
            color=QUIET,
            annotation_clip=False,
        )
    positive = steps[steps > 0]
    if len(positive) > 2 and positive.max() > 50 * positive.min():
        axes.set_xscale("symlog", linthresh=float(positive.min()))
    axes.set(xlabel="step", ylim=(-1.05 if name == "copying" else -0.03, 1.05))
    tidy(axes, SCORES[name])
