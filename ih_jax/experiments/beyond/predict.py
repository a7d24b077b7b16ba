"""Can the time to learn be predicted from how its parts form by themselves?

Beyond the paper: Singh et al. 2024 ends with the promise to "predict learning dynamics from
subcircuit formation". Command: ih-jax run predict. On 2 CPU cores: about 2 minutes per seed (19
million sequences). Expected, if the parts make the whole: the times that B, C and both take, each
alone, predict the time without a clamp better than knowing classes, labels and Zipf exponent.

Every seed is held out once; models are fitted to the others. The logarithm of the time has a mean
that is linear in what a model knows, and normal noise; runs that had not learned by the end enter
the likelihood as later than that (a censored, or Tobit, regression).
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import optimize, stats

from ih_jax.claims import Claim, Networks, pooled, time_of
from ih_jax.claims.networks import Measure, networks_of
from ih_jax.experiments.base import Experiment, Found, Options, Table
from ih_jax.experiments.beyond.trainings import PREDICTED
from ih_jax.experiments.drawing import FAINT, short, tidy

Floats = NDArray[np.float64]
PARTS = {"layer1+copy": "B", "match": "C", "layer1": "B and C"}
MODELS = {
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
    """One row per (seed, setting): seed, log time, censored, setting, log times of the parts."""
    seeds = results["init"].values.tolist()
    settings = list(itertools.product(*(results[axis].values.tolist() for axis in AXES)))
    none = results.sel(clamp="none")
    found: dict[str, list[object]] = {k: [] for k in ("seed", "y", "late", "setting", "parts")}
    for seed in seeds:
        for setting in settings:
            where = {"init": seed, **dict(zip(AXES, setting, strict=True))}
            found["seed"].append(seed)
            found["y"].append(math.log(float(none["time"].sel(where))))
            found["late"].append(bool(none["censored"].sel(where)))
            found["setting"].append(
                [scale(value) for scale, value in zip(SCALES, setting, strict=True)]
            )
            found["parts"].append(
                [math.log(float(results["time"].sel(clamp=part, **where))) for part in PARTS]
            )
    return {name: np.asarray(values, float) for name, values in found.items()}


def columns(data: dict[str, Floats], model: str) -> Floats:
    """[N, K] what a model knows, standardised."""
    chosen = {"setting": ["setting"], "parts": ["parts"], "both": ["setting", "parts"]}[model]
    x = np.concatenate([data[name] for name in chosen], axis=1)
    return np.asarray((x - x.mean(0)) / np.maximum(x.std(0), 1e-9))


def log_density(y: Floats, late: Floats, mean: Floats, noise: float) -> Floats:
    """Log density of the log time where it is known, of its being later where it is not."""
    z = (y - mean) / noise
    return np.where(late > 0, stats.norm.logsf(z), stats.norm.logpdf(z) - math.log(noise))


def fit(x: Floats, y: Floats, late: Floats) -> tuple[Floats, float]:
    """Weights [K + 1] (the constant last) and noise of the most likely censored regression."""
    whole = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    middle = float(np.median(y))

    def cost(theta: Floats) -> float:
        noise = LEAST_NOISE + math.exp(min(theta[-1], 5.0))
        mean = middle + whole @ theta[:-1]
        penalty = PENALTY * float(np.sum(theta[:-2] ** 2)) * len(x)
        return -float(log_density(y, late, mean, noise).sum()) + penalty

    first = np.zeros(whole.shape[1] + 1)
    first[-1] = math.log(max(float(y.std()), 0.05))
    found = optimize.minimize(cost, first, method="L-BFGS-B")
    weights = found.x[:-1].copy()
    weights[-1] += middle
    return weights, LEAST_NOISE + math.exp(min(found.x[-1], 5.0))


def held_out(results: xr.Dataset, model: str) -> xr.Dataset:
    """[run] every seed predicted from the others: mean, score (log density), y, late, seed."""
    data = rows(results)
    x, y, late, seed = columns(data, model), data["y"], data["late"], data["seed"]
    mean, score = np.full(len(y), np.nan), np.full(len(y), np.nan)
    for each in np.unique(seed):
        test = seed == each
        if test.all():
            continue  # with one seed nothing is left to learn from
        weights, noise = fit(x[~test], y[~test], late[~test])
        mean[test] = x[test] @ weights[:-1] + weights[-1]
        score[test] = log_density(y[test], late[test], mean[test], noise)
    values = {"mean": mean, "score": score, "y": y, "late": late, "seed": seed}
    return xr.Dataset({name: ("run", value) for name, value in values.items()})


def gain(model: str, than: str) -> Measure:
    """A measure of claims: [setting, 1] score of one model less that of another, held out."""

    def measure(results: xr.Dataset) -> Networks:
        found = held_out(results, model)
        more = found["score"].values - held_out(results, than)["score"].values
        return _by_network(found, more)

    return measure


def errors(model: str) -> Measure:
    """A measure of claims: [setting, 1] size of the error of the log time, of runs that learned."""

    def measure(results: xr.Dataset) -> Networks:
        found = held_out(results, model)
        off = np.abs(found["mean"].values - found["y"].values)
        return _by_network(found, np.where(found["late"].values > 0, np.nan, off))

    return measure


def _by_network(found: xr.Dataset, values: Floats) -> Networks:
    seeds = found["seed"].values
    rows = {int(seed): values[seeds == seed][:, None] for seed in np.unique(seeds)}
    return networks_of({seed: own for seed, own in rows.items() if np.isfinite(own).any()})


def _mean(samples: list[Floats]) -> float:
    return float(np.concatenate(samples).mean())


def _factor(samples: list[Floats]) -> float:
    """Median factor between prediction and truth."""
    return float(np.exp(np.median(np.concatenate(samples))))


def _error(results: xr.Dataset, model: str) -> float:
    """Median factor between prediction and truth, over held-out runs that learned."""
    own = list(errors(model)(results).values.values())
    return _factor([np.asarray(each) for each in own]) if own else math.nan


SCORE = "log likelihood of the time of a run, its network held out: mean over runs"
CLAIMS = (
    Claim(
        "parts predict better than the setting",
        "Times to learn are better predicted from those of the parts than from classes, labels and "
        "Zipf exponent.",
        pooled("nats per run", gain("parts", "setting"), _mean),
        paper="promised",
        source="ours, after section 6",
        estimand=f"{SCORE}; given the parts less given the setting, networks resampled",
        kind="hypothesis",
    ),
    Claim(
        "parts add to the setting",
        "They are better predicted from both than from the setting alone.",
        pooled("nats per run", gain("both", "setting"), _mean),
        paper="promised",
        source="ours, after section 6",
        estimand=f"{SCORE}; given both less given the setting",
        kind="hypothesis",
        primary=False,
    ),
    Claim(
        "within a quarter",
        "From the parts, half of the times are predicted within a factor of 1.25.",
        pooled("factor", errors("parts"), _factor, 1.25, more=False),
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
            "Held-out seeds",
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
    """Predicted against true times of held-out seeds, one panel per model."""
    figure = Figure(figsize=(12.5, 4), layout="constrained")
    ends = [float(f(results["time"].sel(clamp="none"))) for f in (np.min, np.max)]
    span = (ends[0] / 1.3, ends[1] * 1.3)
    for axes, (model, words) in zip(figure.subplots(1, 3), MODELS.items(), strict=True):
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
    figure.axes[0].set_ylabel("predicted, this seed held out")
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
