"""What is measured of every network: one value each, by what tells the networks apart.

Networks that share their initial weights, or their draw of the data, are not independent: a
network's key says what it shares with which.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ih_jax.claims.bounds import Bounds
from ih_jax.errors import UserError, given

# Seeds that go with a network, as coordinates along `init` where they do not follow from it.
WEIGHTS = "weights_seed"
DATA = ("order", "label_split", "class_split")

Network = tuple[Any, ...]  # its number; then its initial weights and its draw, if these are shared
Value = Bounds | NDArray[np.float64]  # one number, or what is pooled (rows of heads, say)


@dataclass(frozen=True)
class Networks:
    """One value of each network; networks in which it was not measured are only named.

    Args:
        varies: the seeds in which the networks differ: of init alone, or of the data too.
        values: by network.
        missing: networks whose value is NaN.
        remarks: what else a reader should know.
    """

    varies: tuple[str, ...]
    values: Mapping[Network, Value]
    missing: tuple[Network, ...] = ()
    remarks: tuple[str, ...] = ()

    def named(self, networks: list[Network]) -> str:
        """Networks as written in a sentence: init 5, 6 (more than eight: how many)."""
        if len(networks) > 8:
            return f"{len(networks)} networks"
        kind = "" if any(isinstance(network[0], str) for network in networks) else "init "
        return kind + ", ".join(str(network[0]) for network in networks)


Measure = Callable[[xr.Dataset], Networks]
Number = float | bool | None | Bounds | NDArray[np.float64]


def of_networks(value: Callable[[xr.Dataset], Number]) -> Measure:
    """A measure of claims, from a function of one network's results.

    Args:
        value: of the results at one `init`: a number (NaN: not measured), `Bounds` where it is not
            fully known, yes, no, or None (cannot tell); for pooled estimates an array, [heads,
            columns], rows with NaN or infinities left out.

    The measure raises UserError where two networks have one number.
    """

    def measure(results: xr.Dataset) -> Networks:
        networks, inits = _networks(results)
        if len({*inits}) < len(inits):
            raise UserError(f"init is {given(inits)}: give every network a number of its own")
        found = {n: value(results.sel(init=i)) for n, i in zip(networks, inits, strict=True)}
        return _split(what_varies(results), found)

    return measure


def what_varies(results: xr.Dataset) -> tuple[str, ...]:
    """The seeds in which the networks of some results differ."""
    seeds = [name for name in (WEIGHTS, *DATA) if name in results.coords]
    if not seeds:
        return ("init",)
    several = [n for n in seeds if len(np.unique(results[n].values)) > 1]
    return tuple("init" if name == WEIGHTS else name for name in several)


def draws_of(results: xr.Dataset) -> list[int]:
    """The draw of the data that each network saw, by a seed of it; empty where all saw the same.

    What of the data varies has the same seeds (`experiments.networks`).
    """
    varied = [name for name in what_varies(results) if name != "init"]
    return results[varied[0]].values.astype(int).tolist() if varied else []


def _networks(results: xr.Dataset) -> tuple[list[Network], list[Any]]:
    """The networks and their numbers."""
    inits = results["init"].values.tolist()
    seeds = {n: results[n].values.tolist() for n in (WEIGHTS, *DATA) if n in results.coords}
    if not seeds:
        return [(init,) for init in inits], inits
    weights = seeds.get(WEIGHTS, inits)
    draws = zip(*(seeds[name] for name in DATA if name in seeds), strict=True)
    drawn = list(draws) or [()] * len(inits)
    return list(zip(inits, weights, drawn, strict=True)), inits


def networks_of(values: Mapping[Any, Number]) -> Networks:
    """What claims take, of values that are known already, by the network's number or its name."""
    own = {key if isinstance(key, tuple) else (key,): value for key, value in values.items()}
    return _split(("init",), own)


def _split(varies: tuple[str, ...], found: Mapping[Network, Number]) -> Networks:
    """Networks with what was found of each, and those where it was not measured."""
    values, missing = {}, []
    for network, number in found.items():
        value = _bounded(number)
        if value.size if isinstance(value, np.ndarray) else value.measured:
            values[network] = value
        else:
            missing.append(network)
    return Networks(varies, values, tuple(missing))


def _bounded(value: Number) -> Value:
    if value is None:
        return Bounds(-math.inf, math.inf)
    if isinstance(value, Bounds):
        return value
    if isinstance(value, np.ndarray) and value.ndim:
        rows = np.asarray(value, float)
        return rows[np.isfinite(rows).all(tuple(range(1, rows.ndim)))]
    return Bounds(float(value), float(value))
