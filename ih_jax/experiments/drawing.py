"""How figures look: colours that everyone can tell apart, axes in sequences seen."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

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
SEED_MARKS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
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


def curves(
    axes: Axes,
    values: xr.DataArray,
    colour: str,
    label: str | None = None,
    every: bool = True,
    **line: Any,
) -> None:
    """A bold median over `init`, and every seed thin; along the other dim."""
    (along,) = (dim for dim in values.dims if dim != "init")
    x, y = values[along].values, values.transpose(along, "init").values
    known = np.isfinite(y).all(axis=1)
    axes.plot(x[known], np.median(y[known], axis=1), color=colour, lw=2.0, label=label, **line)
    for curve in y.T if every and y.shape[1] > 1 else ():
        kept = np.isfinite(curve)
        axes.plot(x[kept], curve[kept], color=colour, lw=0.6, alpha=0.35, zorder=1)


def seeds_of(results: xr.Dataset) -> Iterable[tuple[int, str]]:
    """Every init seed with a mark of its own."""
    for i, seed in enumerate(results["init"].values.tolist()):
        yield seed, SEED_MARKS[i % len(SEED_MARKS)]
