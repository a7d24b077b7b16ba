"""How much each of several things tells of networks held out, as rows of a table and as a panel."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from numpy.typing import NDArray

from ih_jax.claims import Measure
from ih_jax.claims.intervals import of_statistic
from ih_jax.experiments.drawing import FAINT, tidy
from ih_jax.experiments.findings.held_out import explained

Floats = NDArray[np.float64]
Measures = Mapping[str, Measure]  # of squared errors, by what is known (`held_out.told`)
COLOUR = "#0072B2"


def rows(
    measures: Measures, results: xr.Dataset, off: Callable[[Floats], float]
) -> list[list[str]]:
    """What is known, the share of the variance that it tells (95%), and how far off it is.

    Args:
        measures: by what is known.
        results: of an experiment.
        off: says how far off, from the model's squared errors, [N].
    """
    found = [
        [name, f"{share:.2f} ({ends[0]:.2f} to {ends[1]:.2f})", f"{off(errors):.3f}"]
        for name, share, ends, errors in _each(measures, results)
    ]
    return found or [["nothing: too few networks", "", ""]]


def draw(axes: Axes, measures: Measures, results: xr.Dataset, labels: Sequence[str]) -> None:
    """The shares of the variance told, with their intervals, one below the other."""
    places = {name: row for row, name in enumerate(measures)}
    for name, share, ends, _ in _each(measures, results):
        row = places[name]
        if np.isfinite(ends).all():
            axes.plot(np.clip(ends, -1, 1), [row, row], color=COLOUR, lw=1.6)
        axes.plot(np.clip(share, -1, 1), row, "o", color=COLOUR, ms=5)
    axes.axvline(0, color=FAINT, lw=0.8, ls="--", zorder=0)
    axes.set_yticks(range(len(measures)), labels, fontsize=8)
    axes.set(xlim=(-1, 1), ylim=(len(measures) - 0.5, -0.5), xticks=(-1, -0.5, 0, 0.5, 1))
    axes.set_xlabel("share of the variance told (95%)")
    tidy(axes, "Told from")


def _each(
    measures: Measures, results: xr.Dataset
) -> Iterator[tuple[str, float, tuple[float, float], Floats]]:
    """Name, share told, its interval, and the model's squared errors; none without networks."""
    for name, measure in measures.items():
        found = measure(results)
        if found.values:
            samples = [np.asarray(each) for each in found.values.values()]
            ends = of_statistic(explained, samples, list(found.values))
            yield name, explained(samples), ends, np.concatenate(samples)[:, 0]
