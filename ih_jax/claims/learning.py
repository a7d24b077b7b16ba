"""What learning curves say: when a run has learned, and whether it first sat on a plateau.

Glossary: E  evaluations of one run, at rising numbers of sequences seen; its loss in nats.
`results` is the dataset of a finished sweep, with dims clamp, init and sequences.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from ih_jax.claims.bounds import Bounds, median, ratio
from ih_jax.errors import UserError

Floats = NDArray[np.float64]

LEARNED = 0.4 * math.log(2)  # nats; Singh et al. 2024, section 3.2
RISE = 3.0  # a plateau ends in a speed of at least this many times its slowest
REACH = 0.25  # half-width of the smoothing window, as a share of the sequences seen,
SHORTEST = 0.05  # and at least this share of the time to learn
FEWEST = 5  # evaluations in a window, at least
ERRORS = 3.0  # standard errors a comparison of speeds must withstand: tens of windows are compared


class Time(NamedTuple):
    """When a level was reached, or (censored) up to when it was not."""

    sequences: float
    censored: bool


class Plateau(NamedTuple):
    """The deepest valley of a run's speed of learning: how many times it the speed later is."""

    low: float  # at least, whatever the noise; 1: no valley
    high: float  # as estimated, which noise can only raise; inf where the speed falls to 0
    at: float  # sequences seen at the bottom of the valley of `high`; NaN: no valley
    present: bool  # low >= RISE
    decided: bool  # present, or learned with high < RISE; else noise or the run's end hides it

    @property
    def seen(self) -> bool | None:
        """Whether there is one; None: cannot tell."""
        return self.present if self.decided else None

    @property
    def absent(self) -> bool | None:
        """Whether there is none; None: cannot tell."""
        return not self.present if self.decided else None


def time_to(sequences: ArrayLike, loss: ArrayLike, level: float = LEARNED) -> Time:
    """Sequences seen when the loss, [E], first falls below `level` (Singh et al. 2024, fig. 4b).

    Between the first evaluation below and the one before it, log loss is taken to be linear, so the
    time does not depend on where the evaluations happen to fall. (The paper gives the first
    evaluation below: up to one interval later.) A run that never gets there is censored at its
    last evaluation. Values that are not finite are left out; NaN if there are no others.
    """
    n, loss = _finite(sequences, loss)
    if not len(n):
        return Time(math.nan, False)
    below = np.flatnonzero(loss < level)
    if not len(below):
        return Time(float(n[-1]), True)
    after = below[0]
    if after == 0:
        return Time(float(n[0]), False)
    high, low = _log(loss[after - 1 : after + 1])
    share = (high - math.log(level)) / (high - low)
    return Time(float(n[after - 1] + share * (n[after] - n[after - 1])), False)


def times_to(loss: xr.DataArray, level: float = LEARNED) -> xr.Dataset:
    """`time_to` for every run of `loss`, [..., sequences]: `time` and `censored`, [...]."""
    time, censored = xr.apply_ufunc(
        lambda n, y: tuple(time_to(n, y, level)),
        loss["sequences"],
        loss,
        input_core_dims=[["sequences"], ["sequences"]],
        output_core_dims=[[], []],
        vectorize=True,
        output_dtypes=[float, bool],
    )
    time.attrs = {"long_name": f"time to a loss below {level:.3g}", "units": "sequences"}
    return xr.Dataset({"time": time, "censored": censored})


def plateau(sequences: ArrayLike, loss: ArrayLike, level: float = LEARNED) -> Plateau:
    """Does learning slow down and then speed up again? A statistic of a curve's shape, no band.

    The speed s(n) = -d ln(loss) / dn is the slope of a straight line fitted to ln(loss) over the
    evaluations within REACH n of n, or within SHORTEST times the time to `level`, or over the
    FEWEST nearest, whichever is widest. Such a window is the same on uniform and geometric grids,
    and requires a plateau to last a fair share of the time that led to it and a visible share of
    the whole; a line, unlike an average, is unbiased at both ends.

    A valley is an evaluation i with a higher speed both before and after it, and its depth is the
    highest speed after it over its own. The noise of ln(loss) (root of the median, over the
    windows, of the residual variance; taken as independent from one evaluation to the next) gives s
    a standard error e, and so the depth two values:

        high = max over i < j of s_j / max(s_i, 0), given some h < i with s_h > s_i;
        low  = the same with s_j - 3 e_j, max(s_i, 0) + 3 e_i and s_h - 3 e_h in their places.

    A maximum over a minimum is raised by noise and never lowered, and `low` is what noise cannot
    have made: a plateau is present if low >= RISE, absent if high < RISE, and between the two
    undecided. Only evaluations up to the first below `level` count (windows reach beyond): slower
    learning after the task is learned is no plateau, and the log of a loss near 0 is mostly noise.
    A run that shows none and never gets below `level` is undecided too: it may be in one.
    """
    n, loss = _finite(sequences, loss)
    if len(n) < FEWEST:
        return Plateau(math.nan, math.nan, math.nan, False, False)
    learned = bool(np.any(loss < level))
    stop = int(np.argmax(loss < level)) + 1 if learned else len(n)
    slope, error = (fit[:stop] for fit in _fits(n, _log(loss), stop))
    low, _ = _valley(-slope, ERRORS * error)
    high, bottom = _valley(-slope, np.zeros(stop))
    present = low >= RISE
    at = math.nan if bottom is None else float(n[bottom])
    return Plateau(low, high, at, present, present or (learned and high < RISE))


def plateaus(loss: xr.DataArray, level: float = LEARNED) -> xr.Dataset:
    """`plateau` for every run of `loss`, [..., sequences]: its fields, [...] each."""
    fields = xr.apply_ufunc(
        lambda n, y: tuple(plateau(n, y, level)),
        loss["sequences"],
        loss,
        input_core_dims=[["sequences"], ["sequences"]],
        output_core_dims=[[]] * len(Plateau._fields),
        vectorize=True,
        output_dtypes=[float, float, float, bool, bool],
    )
    return xr.Dataset(dict(zip(Plateau._fields, fields, strict=True)))


class Learning(NamedTuple):
    """Times of a sweep's runs, by clamp and seed, and what was left out."""

    times: dict[str, dict[int, Bounds]]
    left_out: dict[str, dict[int, str]]

    def median(self, clamp: str) -> Bounds:
        """Over the seeds of one clamp."""
        return median(list(self.times.get(clamp, {}).values()))

    def ratios(self, slow: str, fast: str) -> list[Bounds]:
        """slow / fast of every seed that has both."""
        a, b = self.times.get(slow, {}), self.times.get(fast, {})
        return [ratio(a[seed], b[seed]) for seed in a if seed in b]

    def remarks(self, clamps: Iterable[str]) -> list[str]:
        """What a reader should know about these clamps."""
        said = [
            f"no run is called {clamp!r}"
            for clamp in dict.fromkeys(clamps)
            if clamp not in self.times
        ]
        for clamp in dict.fromkeys(clamps):
            for why in sorted(set(self.left_out.get(clamp, {}).values())):
                seeds = [s for s, reason in self.left_out[clamp].items() if reason == why]
                said.append(f"left out, {why}: {clamp}, init {listed(seeds)}")
            late = [s for s, t in self.times.get(clamp, {}).items() if t.low < t.high]
            if late:
                said.append(f"not below the level by the end: {clamp}, init {listed(late)}")
        return said


def learning_times(results: xr.Dataset, level: float = LEARNED) -> Learning:
    """Times to `level` on the training set. UserError where more than clamp and init vary.

    `results` needs `loss` and `diverged_at`, NaN for the runs that did not diverge.
    """
    results = one_setting(results)
    times = times_to(results["loss"], level)
    learned = Learning({}, {})
    for clamp in results["clamp"].values.tolist():
        learned.times[clamp], learned.left_out[clamp] = {}, {}
        for init in results["init"].values.tolist():
            run = times.sel(clamp=clamp, init=init)
            time = float(run["time"])
            if np.isfinite(results["diverged_at"].sel(clamp=clamp, init=init)):
                learned.left_out[clamp][init] = "diverged"
            elif math.isnan(time):
                learned.left_out[clamp][init] = "not measured"
            else:
                high = math.inf if bool(run["censored"]) else time
                learned.times[clamp][init] = Bounds(time, high)
    return learned


def one_setting(results: xr.Dataset) -> xr.Dataset:
    """Without swept dims of length 1. Raises UserError for a longer one."""
    loss = results["loss"]
    for dim in loss.dims:
        if dim not in ("clamp", "init", "sequences") and loss.sizes[dim] > 1:
            given = ", ".join(str(value) for value in loss[dim].values.tolist())
            raise UserError(
                f"{dim} varies ({given}): claims are about a single one; select it with .sel()"
            )
    extra = [dim for dim in loss.dims if dim not in ("clamp", "init", "sequences")]
    return results.squeeze(extra)


def time_of(curve: xr.DataArray, level: float = LEARNED) -> Bounds:
    """When a loss curve, [sequences], falls below a level; if never, after its last evaluation."""
    time = time_to(curve["sequences"].values, curve.values, level)
    return Bounds(time.sequences, math.inf if time.censored else time.sequences)


def _fits(n: Floats, y: Floats, stop: int) -> tuple[Floats, Floats]:
    """Lines through y, [E], in a window about each n: slopes and their standard errors."""
    distance = np.abs(n[:, None] - n)  # [E, E], window by evaluation
    nearest = np.sort(distance, axis=1)[:, FEWEST - 1]
    reach = np.maximum(np.maximum(REACH * n, SHORTEST * n[stop - 1]), nearest)
    window = distance <= reach[:, None]
    count = window.sum(1)
    x = n - (window @ n / count)[:, None]
    y = y - (window @ y / count)[:, None]
    spread = (window * x**2).sum(1)
    slope = (window * x * y).sum(1) / spread
    residual = y - slope[:, None] * x
    variance = (window * residual**2).sum(1) / (count - 2)
    return slope, np.sqrt(np.median(variance[:stop]) / spread)


def _valley(speed: Floats, margin: Floats) -> tuple[float, int | None]:
    """Depth and place of the deepest valley, every speed given this margin against it; or 1."""
    top = speed - margin
    bottom = np.maximum(speed, 0) + margin
    before = np.maximum.accumulate(np.append(-np.inf, top))[:-1]
    after = np.maximum.accumulate(np.append(top, -np.inf)[::-1])[::-1][1:]
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = np.where((before > bottom) & (after > bottom), after / bottom, 1.0)
    deepest = int(np.argmax(depth))
    return (float(depth[deepest]), deepest) if depth[deepest] > 1 else (1.0, None)


def _finite(sequences: ArrayLike, loss: ArrayLike) -> tuple[Floats, Floats]:
    n, loss = np.asarray(sequences, float), np.asarray(loss, float)
    keep = np.isfinite(n) & np.isfinite(loss)
    return n[keep], loss[keep]


def _log(loss: Floats) -> Floats:
    return np.log(np.maximum(loss, np.finfo(np.float32).tiny))


def listed(seeds: Sequence[int]) -> str:
    """As written in a sentence: 5, 6, 7."""
    return ", ".join(str(seed) for seed in seeds)
