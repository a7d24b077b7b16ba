"""How figures look: colours that everyone can tell apart, axes in sequences seen."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

if TYPE_CHECKING:  # the page of a run takes its colours from here, and draws nothing
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

QUIET, FAINT = "0.35", "0.7"  # greys

# Okabe and Ito 2008, the yellow darkened: eight heads.
HEAD_COLOURS = (
    "#E69F00",
    "#0072B2",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#B8AC00",
    "#000000",
)
LN2 = float(np.log(2))


def short(n: float, _: object = None) -> str:
    """A number of sequences as ticks show it: 0, 50k, 1M."""
    return f"{n / 1e6:g}M" if n >= 1e6 else f"{n / 1e3:g}k" if n else "0"


def tidy(axes: Axes, title: str = "") -> None:
    """Keep only the left and bottom spines, with grey ticks and the title at the left."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(color=FAINT)
    if title:
        axes.set_title(title, loc="left", fontsize=10.5)


def over_sequences(axes: Axes, label: str = "sequences seen") -> None:
    """Name and format a horizontal axis of sequences seen."""
    axes.xaxis.set_major_formatter(short)
    axes.set_xlabel(label)


def chance(axes: Axes) -> None:
    """A dashed line at ln 2: the loss of picking one of two labels at random."""
    axes.axhline(LN2, ls="--", lw=0.8, color=FAINT, zorder=0)


MANY = 8  # networks from which quartiles say more than single curves


def curves(
    axes: Axes,
    values: xr.DataArray,
    colour: str,
    label: str | None = None,
    every: bool = True,
    **line: Any,
) -> None:
    """A bold median over `init`, every network thin, and quartiles shaded; along the other dim."""
    (along,) = (dim for dim in values.dims if dim != "init")
    x, y = values[along].values, values.transpose(along, "init").values
    known = np.isfinite(y).all(axis=1)
    axes.plot(x[known], np.median(y[known], axis=1), color=colour, lw=2.0, label=label, **line)
    count = y.shape[1]
    if count >= MANY and known.any():
        low, high = np.quantile(y[known], [0.25, 0.75], axis=1)
        axes.fill_between(x[known], low, high, color=colour, alpha=0.15, lw=0, zorder=1)
    alpha = 0.35 if count < MANY else max(0.06, 0.35 * MANY / count)
    for curve in y.T if every and count > 1 else ():
        kept = np.isfinite(curve)
        axes.plot(
            x[kept], curve[kept], color=colour, lw=0.6, alpha=alpha, zorder=1, rasterized=count > 16
        )


def by_layer(axes: Axes, x: xr.DataArray, y: xr.DataArray) -> None:
    """A dot for each head, in the colour of its layer; of arrays [layer, ...] of the same dims."""
    for layer in range(x.sizes["layer"]):
        axes.plot(
            x.isel(layer=layer).values.ravel(),
            y.isel(layer=layer).values.ravel(),
            "o",
            ms=4,
            alpha=0.7,
            mew=0,
            color=HEAD_COLOURS[layer],
            label=f"layer {layer}",
        )


MOST_POINTS = 10_000  # of thin lines in an SVG, some 200 kB


def save_svg(figure: Figure, path: Path) -> None:
    """Write a figure as an SVG that is no larger than what one sees of it.

    Where there are very many thin lines, they become pixels, once and for all in this figure;
    coordinates are rounded to a hundredth of a point.
    """
    lines = [line for axes in figure.axes for line in axes.get_lines()]
    points = {line: np.size(line.get_xdata()) for line in lines if line.get_linewidth() < 1}
    if sum(points.values()) > MOST_POINTS:
        for line, count in points.items():
            if count > 2:  # in few colours, which pack well
                line.set(rasterized=True, antialiased=False, color=_pale(line), alpha=None)
    figure.savefig(path, format="svg", metadata={"Date": None})
    path.write_text(re.sub(r' (?:d|x|y)="[^"]*"', _rounded, path.read_text()))


def _pale(line: Line2D) -> tuple[float, ...]:
    """The colour of a line on white, opaque."""
    from matplotlib.colors import to_rgb

    alpha = line.get_alpha() or 1.0
    return tuple(1 - alpha * (1 - part) for part in to_rgb(line.get_color()))


def _rounded(attribute: re.Match[str]) -> str:
    return re.sub(r"(\.\d\d)\d+", r"\1", attribute[0])


def strip(
    axes: Axes,
    place: float,
    values: ArrayLike,
    colour: str,
    paper: ArrayLike = (),
    late: ArrayLike | None = None,
    across: bool = False,
    width: float = 0.36,
) -> None:
    """Every network as a dot, median and quartiles as lines, the paper's networks as diamonds.

    Args:
        axes: where to draw.
        place: on the axis of groups.
        values: one a network; NaN is left out.
        colour: of this group.
        paper: the paper's values.
        late: which values are only known to be greater: open.
        across: values along x, groups along y.
        width: half of what the dots spread over.
    """
    y = np.asarray(values, float)
    open_ = np.zeros(len(y), bool) if late is None else np.asarray(late, bool)
    known = np.isfinite(y)
    y, open_ = y[known], open_[known]
    theirs = np.asarray(paper, float)
    # Neighbours in value lie far from each other, without chance: steps of the golden section.
    spread = np.argsort(np.argsort(y, kind="stable")) * 0.618034 % 1 - 0.5
    for some, fill in ((~open_, colour), (open_, "none")):
        at = (place + 2 * width * 0.8 * spread[some], y[some])
        axes.plot(*_turned(at, across), "o", ms=3.5, color=colour, mfc=fill, alpha=0.55, mew=0.7)
    if len(y):
        for share, lw in ((0.25, 0.9), (0.5, 2.4), (0.75, 0.9)):
            value = float(np.quantile(y, share))
            line = ([place - width, place + width], [value, value])
            axes.plot(*_turned(line, across), color=colour, lw=lw, zorder=3)
    if theirs.size:
        at = (np.full(theirs.size, place), theirs)
        axes.plot(*_turned(at, across), "D", ms=6, mfc="none", mec=QUIET, mew=1.1, zorder=4)


def _turned(points: tuple[Any, Any], across: bool) -> tuple[Any, Any]:
    return (points[1], points[0]) if across else points
