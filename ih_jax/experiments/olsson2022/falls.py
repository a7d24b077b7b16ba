"""How fast the loss falls before and after the change, and whether large networks fall faster.

Paper: Olsson et al. 2022, "Loss derivative order inversion". What is compared stands along one dim
of the results, such as `model` or `width`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from scipy import stats

from ih_jax.claims import phase_change as changes

LATEST = 0.9  # share of training; a window that ends later leaves no time after it


def window_of(curve: xr.DataArray) -> changes.Window | None:
    """The phase change of one network, of its in-context learning score along `tokens`."""
    return changes.phase_change(curve.values, curve["tokens"].values)


def windows(curves: xr.DataArray, dim: str) -> tuple[float, float] | None:
    """The first start and the last end of all windows along a dim; None if one has none."""
    found = [window_of(curves.sel({dim: label})) for label in curves[dim].values]
    known = [each for each in found if each is not None]
    if len(known) < len(found) or not known:
        return None
    return min(each.start for each in known), max(each.end for each in known)


def fall(loss: xr.DataArray, begin: float, end: float) -> float:
    """By how much a loss falls per unit of ln(tokens), between two numbers of tokens (nats)."""
    a, b = (float(loss.interp(tokens=each)) for each in (begin, end))
    return (a - b) / float(np.log(end / begin))


def span(found: tuple[float, float] | None, last: float, after: bool) -> tuple[float, float] | None:
    """Over which tokens: the half of ln(tokens) before the first window, or all after the last.

    None where nothing changes, from the first look on or until the end.
    """
    if found is None:
        return None
    start, end = found
    if after:
        return (end, last) if end < LATEST * last else None
    return (start / 2, start) if start > 0 else None


def order(
    losses: xr.DataArray, sizes: Mapping[Any, float], between: tuple[float, float] | None, dim: str
) -> float:
    """Rank correlation of sizes (by label along the dim) with how fast the loss falls.

    Above 0: large networks fall faster. NaN for fewer than three, or no time to fall in.
    """
    if between is None or len(sizes) < 3:
        return float("nan")
    falls = [fall(losses.sel({dim: label}), *between) for label in sizes]
    return float(stats.spearmanr(list(sizes.values()), falls)[0])
