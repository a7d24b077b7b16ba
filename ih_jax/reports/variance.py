"""How much of what networks differ in is due to their initial weights, how much to their data."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import xarray as xr

from ih_jax.claims import variance_components
from ih_jax.claims.networks import DATA, WEIGHTS
from ih_jax.experiments.base import Table

TITLE = "What the networks differ in"
HEADER = ("of the variance of", "initial weights", "draw of the data", "rest", "networks")
HOW_TO_READ = (
    "Every one of the initial weights meets every draw of the data (classes, label pairs, order). "
    "Shares are estimates of crossed random effects; in brackets, 95% intervals of a part over "
    "itself and the rest. The rest is what neither tells alone. Times are taken as logarithms, and "
    "of a run that has not learned by the end of its training the end is taken."
)
WEIGHTS_DIM, DRAW_DIM = "initial weights", "draw of the data"


def table(
    results: xr.Dataset, quantities: Mapping[str, Callable[[xr.Dataset], float]]
) -> Table | None:
    """Variance components of these numbers; None where networks are no table of weights x draws.

    Args:
        results: with coordinates along `init` that say which weights and which draw a network has.
        quantities: by name, a number of one network's results; NaN where it has none.
    """
    cells = _cells(results)
    if cells is None or not quantities:
        return None
    rows: list[tuple[str, ...]] = []
    for name, value in quantities.items():
        numbers = np.array([float(value(results.sel(init=n))) for n in results["init"].values])
        crossed = xr.DataArray(numbers[cells], dims=(WEIGHTS_DIM, DRAW_DIM))
        lacking = int(np.isnan(numbers).sum())
        if lacking:
            rows.append((name, "", "", "", f"{len(numbers)}, of which {lacking} have none"))
            continue
        if not numbers.std():
            rows.append((name, "", "", "", f"{len(numbers)}, all alike"))
            continue
        found = variance_components(crossed)
        shares = []
        for part in (WEIGHTS_DIM, DRAW_DIM):
            low, high = found.interval[part]
            shares.append(f"{found.share[part]:.0%} ({low:.0%} to {high:.0%})")
        rows.append((name, *shares, f"{found.share['rest']:.0%}", str(found.networks)))
    return Table(TITLE, HEADER, rows)


def _cells(results: xr.Dataset) -> np.ndarray | None:
    """[weights, draws], the place of each cell's network along `init`."""
    names = [name for name in DATA if name in results.coords]
    if WEIGHTS not in results.coords or not names:
        return None
    weights = results[WEIGHTS].values.tolist()
    draws = list(zip(*(results[name].values.tolist() for name in names), strict=True))
    rows, columns = sorted(set(weights)), sorted(set(draws))
    where = {each: place for place, each in enumerate(zip(weights, draws, strict=True))}
    full = len(where) == len(weights) == len(rows) * len(columns)
    if not full or len(rows) < 2 or len(columns) < 2:
        return None
    return np.array([[where[row, column] for column in columns] for row in rows])
