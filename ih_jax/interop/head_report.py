"""The folder of a pretrained network's head scores.

heads.nc        the scores, [layer, head], and what they were measured on
README.md       the heads with the highest prefix matching, and what was measured
figure.png, figure.svg
"""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table

from ih_jax import array_files, files, paths
from ih_jax.errors import UserError
from ih_jax.experiments.drawing import FAINT, QUIET, tidy
from ih_jax.interop import head_series
from ih_jax.interop.head_scores import ENOUGH, KINDS, SCORES, kinds
from ih_jax.interop.head_words import RULE, markdown, measured

HEADER = ("head", *SCORES.values(), "kind")
SHOWN = 12  # heads in tables
WRITTEN = ("card.json", "README.md", "figure.png", "figure.svg")  # by other commands, or by hand
MAPPED = ("prefix_matching", "copying", "previous_token")


def write(found: xr.Dataset, folder: Path) -> None:
    """Write heads.nc, README.md and the figure into a folder, each whole or not at all."""
    with files.atomic(folder / "heads.nc") as temporary:
        found.to_netcdf(temporary, engine="h5netcdf")
    with matplotlib.rc_context({"svg.hashsalt": str(found.attrs["name"])}):
        figure = head_series.draw(found) if "step" in found.dims else draw(found)
        for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
            with files.atomic(folder / f"figure.{kind}") as temporary:
                figure.savefig(temporary, format=kind, dpi=200, metadata=metadata)
    text = head_series.readme(found) if "step" in found.dims else readme(found)
    files.write_text(folder / "README.md", text)


def check_free(sha256: dict[str, str], folder: Path) -> None:
    """Raise UserError where a folder holds scores of other weights, or other results."""
    path = folder / "heads.nc"
    if not paths.is_there(path):
        for name in WRITTEN:
            if paths.is_there(folder / name):
                raise UserError(
                    f"{folder} holds a {name} of something else: give another folder with --out"
                )
        return
    try:
        before = array_files.read_netcdf(path).attrs.get("sha256")
    except UserError:  # whatever it is, it is not ours to lose
        before = None
    if before != json.dumps(sha256):
        raise UserError(f"{path} holds scores of other weights: give another folder with --out")


def first_heads(found: xr.Dataset, score: str, count: int = SHOWN) -> list[tuple[int, int]]:
    """Layer and head of the heads with the highest scores, the highest first."""
    values = found[score].values
    order = np.argsort(-values, axis=None, kind="stable")[:count]
    return [
        (int(layer), int(head))
        for layer, head in np.stack(np.unravel_index(order, values.shape), 1)
    ]


def rows(found: xr.Dataset) -> list[tuple[str, ...]]:
    """The heads with the highest prefix matching: layer.head, its scores, what it is called."""
    kind = kinds(found)
    return [
        (f"{at[0]}.{at[1]}", *(f"{found[name].values[at]:.2f}" for name in SCORES), str(kind[at]))
        for at in first_heads(found, "prefix_matching")
    ]


def table(found: xr.Dataset) -> Table:
    """The heads with the highest prefix matching, for the terminal."""
    made = Table(*HEADER, box=None, padding=(0, 2, 0, 0))
    made.columns[-1].min_width = max(map(len, KINDS))
    for row in rows(found):
        made.add_row(*row)
    return made


def sentences(found: xr.Dataset) -> list[str]:
    """Which heads are of which kind, in words."""
    kind, said = kinds(found), []
    by = ("prefix_matching", "prefix_matching", "previous_token")
    for name, score in zip(KINDS, by, strict=True):
        every = first_heads(found, score, found[score].size)
        named = [f"{layer}.{head}" for layer, head in every if kind[layer, head] == name]
        highest = f" (highest {SCORES[score]} {found[score].values[every[0]]:.2f})"
        none = f"none{highest if found[score].values[every[0]] < ENOUGH else ''}"
        said.append(f"{name} heads: {', '.join(named) or none}")
    return said


def readme(found: xr.Dataset) -> str:
    """The folder's README, in Markdown."""
    attributes = found.attrs
    sizes = f"{found.sizes['layer']} layers of {found.sizes['head']} heads"
    lines = [
        f"# Heads of {attributes['name']}",
        f"{attributes['architecture']}, {sizes}, from `{attributes['model']}`. Scores as in Olsson "
        'et al. 2022, "In-context Learning and Induction Heads". Heads are layer.head, from 0.',
        "![Scores of every head](figure.png)",
        "\n".join(f"- {sentence[0].upper()}{sentence[1:]}." for sentence in sentences(found)),
        RULE,
        f"## The {len(rows(found))} heads with the highest prefix matching",
        markdown(HEADER, rows(found)),
        *measured(found),
    ]
    return "\n\n".join(lines) + "\n"


def draw(found: xr.Dataset) -> Figure:
    """Copying against prefix matching, and each score by layer and head."""
    figure = Figure(figsize=(8.6, 7.4), layout="constrained")
    panels = figure.subplots(2, 2)
    _scatter(figure, panels[0, 0], found)
    for axes, name in zip(panels.flat[1:], MAPPED, strict=True):
        _map(figure, axes, found, name)
    figure.suptitle(f"Heads of {found.attrs['name']}", x=0.01, ha="left", fontsize=12)
    return figure


def _scatter(figure: Figure, axes: Axes, found: xr.Dataset) -> None:
    """Every head, coloured by layer; induction heads are up and to the right."""
    x, y = found["prefix_matching"].values, found["copying"].values
    layers = np.broadcast_to(found["layer"].values[:, None], x.shape)
    colours = matplotlib.colormaps["viridis"].resampled(max(2, found.sizes["layer"]))
    ends = (-0.5, max(2, found.sizes["layer"]) - 0.5)
    dots = axes.scatter(
        x.ravel(),
        y.ravel(),
        c=layers.ravel(),
        cmap=colours,
        vmin=ends[0],
        vmax=ends[1],
        s=26,
        edgecolors=QUIET,
        linewidths=0.4,
        zorder=3,
    )
    axes.axvline(ENOUGH, lw=0.8, ls="--", color=FAINT, zorder=0)
    kind = kinds(found)
    named = [at for at in first_heads(found, "prefix_matching", 8) if kind[at] == KINDS[0]]
    for number, at in enumerate(named):
        right = number % 2 == 0
        axes.annotate(
            f"{at[0]}.{at[1]}",
            (x[at], y[at]),
            (5 if right else -5, 3),
            fontsize=7.5,
            textcoords="offset points",
            ha="left" if right else "right",
            color=QUIET,
            zorder=4,
        )
    axes.set(xlim=(-0.04, 1.12), ylim=(-1.08, 1.08), xlabel="prefix matching", ylabel="copying")
    bar = figure.colorbar(dots, ax=axes, label="layer", pad=0.01)
    bar.locator = matplotlib.ticker.MaxNLocator(integer=True, nbins=8)
    bar.outline.set_visible(False)
    tidy(axes, "every head, the first induction heads by name")


def _map(figure: Figure, axes: Axes, found: xr.Dataset, name: str) -> None:
    """One score of every head, the first layer at the bottom."""
    lowest = -1 if name == "copying" else 0
    drawn = axes.imshow(
        found[name].values,
        origin="lower",
        aspect="auto",
        interpolation="nearest",
        cmap="Blues",
        vmin=lowest,
        vmax=1,
    )
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
    axes.set(xlabel="head", ylabel="layer")
    bar = figure.colorbar(drawn, ax=axes, pad=0.01)
    bar.outline.set_visible(False)
    tidy(axes, SCORES[name])
