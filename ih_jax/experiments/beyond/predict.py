"""Can the time to learn be predicted from how its parts form by themselves?

Beyond the paper: Singh et al. 2024 ends with the promise to "predict learning dynamics from
subcircuit formation". Command: ih-jax run predict. On 2 CPU cores: about 2 minutes per seed (19
million sequences). Expected, if the parts make the whole: the times that B, C and both take, each
alone, predict the time without a clamp better than knowing classes, labels and Zipf exponent.

Every run is held out once: a model is fitted to runs of other networks in other settings. The
logarithm of the time has a mean that is linear in what the model knows, and normal noise; runs that
had not learned by the end enter the likelihood as later than that (a censored, or Tobit,
regression). Intervals resample networks and settings, each on its own.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import optimize, special

from ih_jax.claims import Claim, Networks, pooled, time_of
from ih_jax.claims.networks import Measure, Network, draws_of, what_varies
from ih_jax.experiments.base import Experiment, Found, Options, Table
from ih_jax.experiments.beyond.trainings import PREDICTED
from ih_jax.experiments.drawing import FAINT, short, tidy
from ih_jax.experiments.findings.held_out import apart

Floats = NDArray[np.float64]
PARTS = {"layer1+copy": "B", "match": "C", "layer1": "B and C"}
MODELS = {
    "nothing": "nothing",
    "setting": "classes, labels, Zipf exponent",
    "parts": "times of B, C, B and C",
    "both": "all of these",
}
AXES = ("classes", "labels", "zipf")
SCALES = (math.log2, math.log2, float)  # on which a setting is taken to act linearly
PENALTY = 1e-2  # of squared weights of standardised columns, in the likelihood's units
LEAST_NOISE = 0.02  # of a logarithm of a time


def measure(options: Options, found: Found) -> xr.Dataset:
    """Time to learn and whether it is censored, [clamp, init, classes, labels, zipf]."""
    loss = found["predicted"].results["loss"]
    stacked = loss.stack(run=[dim for dim in loss.dims if dim != "sequences"])
    times = [time_of(stacked.isel(run=i)) for i in range(stacked.sizes["run"])]
    runs = stacked["run"]
    both = xr.Dataset(
        {
            "time": xr.DataArray([t.low for t in times], coords={"run": runs}, dims="run"),
            "censored": xr.DataArray(
                [t.low < t.high for t in times], coords={"run": runs}, dims="run"
            ),
        }
    ).unstack("run")
    return both.transpose("clamp", "init", *AXES)


def rows(results: xr.Dataset) -> dict[str, Floats]:
    """One row per run: network, weights, draw, number of the setting, log time, censored; setting,
    log times of the parts."""
    settings = list(itertools.product(*(results[axis].values.tolist() for axis in AXES)))
    none = results.sel(clamp="none")
    found: dict[str, list[object]] = {}
    weights = results["weights_seed"] if "weights_seed" in results.coords else results["init"]
    drawn = draws_of(results)
    for i, seed in enumerate(results["init"].values.tolist()):
        for number, setting in enumerate(settings):
            where = {"init": seed, **dict(zip(AXES, setting, strict=True))}
            row = {
                "seed": seed,
                "weights": int(weights.values[i]),
                "draw": drawn[i] if drawn else 0,
                "number": number,
                "y": math.log(float(none["time"].sel(where))),
                "late": bool(none["censored"].sel(where)),
                "setting": [scale(value) for scale, value in zip(SCALES, setting, strict=True)],
                "parts": [math.log(float(results["time"].sel(clamp=p, **where))) for p in PARTS],
            }
            for name, value in row.items():
                found.setdefault(name, []).append(value)
    return {name: np.asarray(values, float) for name, values in found.items()}


def keys_of(data: dict[str, Floats]) -> list[Network]:
    """Of every run its number, then what it shares with others: weights, draw, setting."""
    shared = zip(*(data[name].astype(int) for name in ("weights", "draw", "number")), strict=True)
    return [(i, *parts) for i, parts in enumerate(shared)]


def columns(data: dict[str, Floats], model: str) -> Floats:
    """[N, K] what a model knows, standardised."""
    names = {"nothing": [], "both": ["setting", "parts"]}.get(model, [model])
    x = np.concatenate([np.zeros((len(data["y"]), 0)), *(data[name] for name in names)], axis=1)
    return np.asarray((x - x.mean(0)) / np.maximum(x.std(0), 1e-9))


def log_density(y: Floats, late: Floats, mean: Floats, noise: float) -> Floats:
    """Log density of the log time where it is known, of its being later where it is not."""
    z = (y - mean) / noise
    return np.where(late > 0, special.log_ndtr(-z), _log_normal(z) - math.log(noise))


def _log_normal(z: Floats) -> Floats:
    return -0.5 * z**2 - 0.5 * math.log(2 * math.pi)


def fit(x: Floats, y: Floats, late: Floats) -> tuple[Floats, float]:
    """Weights [K + 1] (the constant last) and noise of the most likely censored regression.

    The noise is that of the likelihood, made larger by the degrees of freedom that weights took:
    without that, models of more columns are too sure of themselves.
    """
    whole = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    middle = float(np.median(y))

    def cost(theta: Floats) -> tuple[float, Floats]:
        grown = math.exp(min(theta[-1], 5.0))
        noise = LEAST_NOISE + grown
        mean = middle + (whole * theta[:-1]).sum(1)
        z = (y - mean) / noise
        hazard = np.exp(_log_normal(z) - special.log_ndtr(-z))
        by_mean = np.where(late > 0, hazard, z) / noise
        by_noise = np.where(late > 0, hazard * z, z**2 - 1) / noise
        penalty = PENALTY * float(np.sum(theta[:-2] ** 2)) * len(x)
        slope = np.append(-(by_mean[:, None] * whole).sum(0), -by_noise.sum() * grown)
        slope[:-2] += 2 * PENALTY * len(x) * theta[:-2]
        return -float(log_density(y, late, mean, noise).sum()) + penalty, slope

    # From where it would be, were every time known.
    some = np.linalg.lstsq(whole, y - middle, rcond=None)[0]
    first = np.append(some, math.log(max(float(np.std(y - middle - whole @ some)), 0.02)))
    found = optimize.minimize(cost, first, method="L-BFGS-B", jac=True)
    weights = found.x[:-1].copy()
    weights[-1] += middle
    noise = LEAST_NOISE + math.exp(min(found.x[-1], 5.0))
    return weights, noise * math.sqrt(len(x) / max(1, len(x) - whole.shape[1]))


def held_out(results: xr.Dataset, model: str) -> xr.Dataset:
    """[run] every run from those of other networks in other settings: mean, score (log density), y,
    late, seed."""
    data = rows(results)
    x, y, late = columns(data, model), data["y"], data["late"]
    mean, score = np.full(len(y), np.nan), np.full(len(y), np.nan)
    for i, may in enumerate(apart(keys_of(data))):
        if may.sum() > x.shape[1] + 1:  # else there is too little to learn from
            weights, noise = fit(x[may], y[may], late[may])
            mean[i] = x[i] @ weights[:-1] + weights[-1]
            score[i] = log_density(y[i : i + 1], late[i : i + 1], mean[i], noise)[0]
    values = {"mean": mean, "score": score, "y": y, "late": late, "seed": data["seed"]}
    return xr.Dataset({name: ("run", value) for name, value in values.items()})


def gain(model: str, than: str) -> Measure:
    """A measure of claims: [1, 1] of every run, score of one model less that of another."""

    def measure(results: xr.Dataset) -> Networks:
        more = held_out(results, model)["score"] - held_out(results, than)["score"]
        return _by_run(results, more.values)

    return measure


def errors(model: str) -> Measure:
    """A measure of claims: [1, 1] size of the error of the log time, of runs that learned."""

    def measure(results: xr.Dataset) -> Networks:
        found = held_out(results, model)
        off = np.abs(found["mean"].values - found["y"].values)
        return _by_run(results, np.where(found["late"].values > 0, np.nan, off))

    return measure


def _by_run(results: xr.Dataset, values: Floats) -> Networks:
    keys = keys_of(rows(results))
    known = {k: np.array([[v]]) for k, v in zip(keys, values, strict=True) if np.isfinite(v)}
    counted = (results.sizes["init"], len(keys) // results.sizes["init"])
    remark = f"{len(known)} runs of {counted[0]} networks x {counted[1]} settings"
    return Networks(what_varies(results), known, (), (remark,))


def _mean(samples: list[Floats]) -> float:
    return float(np.concatenate(samples).mean())


def _factor(samples: list[Floats]) -> float:
    """Median factor between prediction and truth."""
    return float(np.exp(np.median(np.concatenate(samples))))


def _error(results: xr.Dataset, model: str) -> float:
    """Median factor between prediction and truth, over held-out runs that learned."""
    own = list(errors(model)(results).values.values())
    return _factor([np.asarray(each) for each in own]) if own else math.nan


SCORE = "log likelihood of the time of a run, its network and its setting held out: mean over runs"
CLAIMS = (
    Claim(
        "parts predict better than the setting",
        "Times to learn are better predicted from those of the parts than from classes, labels and "
        "Zipf exponent.",
        pooled("nats per run", gain("parts", "setting"), _mean, rows="runs"),
        paper="promised",
        source="ours, after section 6",
        estimand=f"{SCORE}; given the parts less given the setting; networks and settings "
        "resampled",
        kind="hypothesis",
    ),
    Claim(
        "parts add to the setting",
        "They are better predicted from both than from the setting alone.",
        pooled("nats per run", gain("both", "setting"), _mean, rows="runs"),
        paper="promised",
        source="ours, after section 6",
        estimand=f"{SCORE}; given both less given the setting",
        kind="hypothesis",
        primary=False,
    ),
    Claim(
        "within a quarter",
        "From the parts, half of the times are predicted within a factor of 1.25.",
        pooled("factor", errors("parts"), _factor, 1.25, more=False, rows="runs"),
        paper="promised",
        source="ours, after section 6",
        estimand="median factor between prediction and truth over held-out runs that learned",
        kind="hypothesis",
        primary=False,
    ),
)


def tables(results: xr.Dataset) -> list[Table]:
    """How well each model does, and the times."""
    scores = []
    for model, words in MODELS.items():
        found = held_out(results, model)
        scores.append(
            [words, f"{float(found['score'].mean()):.3f}", f"{_error(results, model):.2f}"]
        )
    times = []
    for setting in itertools.product(*(results[axis].values.tolist() for axis in AXES)):
        one = results.sel(dict(zip(AXES, setting, strict=True)))
        late = int(one["censored"].sel(clamp="none").sum())
        cells = [
            short(round(float(one["time"].sel(clamp=c).median("init")), -3))
            for c in ("none", *PARTS)
        ]
        said = f"{'>' if late > one.sizes['init'] / 2 else ''}{cells[0]}"
        times.append([*map(str, setting), said, *cells[1:], str(late)])
    return [
        Table(
            "Every run, its network and its setting held out",
            ("known", "log likelihood per run (nats)", "median factor off, of runs that learned"),
            scores,
        ),
        Table(
            "Median sequences to learn",
            (*AXES, "nothing clamped", *PARTS.values(), "not learned by the end"),
            times,
        ),
    ]


def draw(results: xr.Dataset) -> Figure:
    """Predicted against true times of held-out runs, one panel per model."""
    figure = Figure(figsize=(12.5, 4), layout="constrained")
    ends = [float(f(results["time"].sel(clamp="none"))) for f in (np.min, np.max)]
    span = (ends[0] / 1.3, ends[1] * 1.3)
    shown = {model: words for model, words in MODELS.items() if model != "nothing"}
    for axes, (model, words) in zip(figure.subplots(1, 3), shown.items(), strict=True):
        found = held_out(results, model)
        for late, fill in ((0, "#0072B2"), (1, "none")):
            some = found.isel(run=(found["late"] == late).values)
            axes.plot(
                np.exp(some["y"]),
                np.exp(some["mean"]),
                "o",
                ms=4,
                mec="#0072B2",
                mfc=fill,
                alpha=0.6,
                mew=0.7,
            )
        axes.plot(span, span, color=FAINT, lw=0.8, zorder=0)
        axes.set(xscale="log", yscale="log", xlim=span, ylim=span)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(short)
            axis.set_minor_formatter(short)
        axes.tick_params(which="both", labelsize=8)
        axes.set(xlabel="sequences to learn (open: not by then)")
        tidy(axes, f"from {words}")
    figure.axes[0].set_ylabel("predicted, network and setting held out")
    return figure


experiment = Experiment(
    name="predict",
    title="Do the parts predict the whole?",
    paper="beyond Singh et al. 2024, section 6",
    summary="Time to learn without a clamp, across numbers of classes and labels, Zipf exponents "
    "of classes and seeds, predicted from the times with clamps that leave only B, only C or both "
    "to be learned, against a baseline that knows the data setting only.",
    measure=measure,
    claims=CLAIMS,
    draw=draw,
    tables=tables,
    trainings=(PREDICTED,),
    seconds=lambda options: 6.0,
)
