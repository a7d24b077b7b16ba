"""Figure 17: two induction heads trained together: are two quicker than one?

Paper: Singh et al. 2024, appendix, fig. 17. Command: ih-jax run fig17. On 2 CPU cores: about 2
minutes per seed (the networks of fig. 3 and 4 too).
Expected: with a second head learning is mostly quicker than with head 3 alone, by how much depends
on the second head; the best pair is about as quick as all eight.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import xarray as xr
from matplotlib.figure import Figure

from ih_jax.claims import (
    Bounds,
    Claim,
    Finding,
    in_every_seed,
    over_seeds,
    ratio,
    thousands,
    time_of,
)
from ih_jax.experiments.base import Experiment, Found, Options, Table
from ih_jax.experiments.drawing import HEAD_COLOURS, chance, curves, over_sequences, tidy
from ih_jax.experiments.singh2024.trainings import HEAD, MAIN, PAIRS, SINGLE_HEADS


def measure(options: Options, found: Found) -> xr.Dataset:
    """Training loss: pairs [clamp, init, sequences], head 3 alone and all heads."""
    pairs = found["pairs"].results["loss"]
    results = xr.Dataset({"loss": pairs})
    alone = found["single_heads"].results["loss"].sel(clamp=f"only h{HEAD}", drop=True)
    results["alone"] = alone.rename(sequences="alone_sequences")
    whole = found["main"].results["loss"].sel(clamp="none", init=pairs["init"], drop=True)
    results["all"] = whole.rename(sequences="all_sequences")
    return results


def _time(seed: xr.Dataset, name: str) -> Bounds:
    if name in ("alone", "all"):
        return time_of(seed[name].rename({f"{name}_sequences": "sequences"}))
    return time_of(seed["loss"].sel(clamp=name))


def _best_pair(seed: xr.Dataset) -> Bounds:
    return min((_time(seed, name) for name in seed["clamp"].values.tolist()), key=lambda t: t.low)


def _best_against(name: str) -> Callable[[xr.Dataset], Bounds]:
    return lambda seed: ratio(_best_pair(seed), _time(seed, name))


def _mostly_quicker(results: xr.Dataset) -> Finding:
    verdicts: dict[int, bool | None] = {}
    for seed in results["init"].values.tolist():
        mine = results.sel(init=seed)
        alone = _time(mine, "alone")
        pairs = [_time(mine, name) for name in mine["clamp"].values.tolist()]
        quicker = sum(
            pair.high < alone.low or (pair.high < math.inf and alone.high == math.inf)
            for pair in pairs
        )
        verdicts[seed] = quicker > len(pairs) / 2
    return over_seeds(verdicts)


def _less(value: Bounds) -> bool | None:
    reached = value.at_least(1)
    return None if reached is None else not reached


CLAIMS = (
    Claim(
        "mostly quicker",
        "More than half of the pairs learn sooner than head 3 alone.",
        paper="6 of 7 (seed 5)",
        decide=_mostly_quicker,
    ),
    Claim(
        "the best pair and one head",
        "The quickest pair learns sooner than head 3 alone.",
        paper="247k and 310k: .80",
        decide=in_every_seed("quotient", _best_against("alone"), _less),
    ),
    Claim(
        "the best pair and all",
        "The quickest pair takes at most 1.2 times as long as all eight heads.",
        paper="247k and 272k: .91",
        decide=in_every_seed("quotient", _best_against("all"), lambda v: v.within(0, 1.2)),
    ),
)


def tables(results: xr.Dataset) -> list[Table]:
    """Times of every seed."""
    names = ["alone", *results["clamp"].values.tolist(), "all"]
    rows = [
        [str(seed), *(thousands(_time(results.sel(init=seed), name)) for name in names)]
        for seed in results["init"].values.tolist()
    ]
    return [Table("Sequences to learn", ("init", f"head {HEAD} alone", *names[1:]), rows)]


def draw(results: xr.Dataset) -> Figure:
    """Median learning curves."""
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    for name in results["clamp"].values.tolist():
        head = int(name.split("+")[1])
        curves(
            axes, results["loss"].sel(clamp=name, drop=True), HEAD_COLOURS[head], name, every=False
        )
    for name, style in (("alone", ":"), ("all", "--")):
        line = results[name].rename({f"{name}_sequences": "sequences"})
        label = f"head {HEAD} alone" if name == "alone" else "all heads"
        curves(axes, line, "0.4", label, every=False, ls=style)
    chance(axes)
    axes.set(xlim=(0, float(results["sequences"][-1])), ylim=(0, 2.1))
    axes.set_ylabel("training loss (nats)")
    over_sequences(axes)
    axes.legend(frameon=False, title="heads of layer 1", alignment="left", fontsize=9)
    tidy(axes, "Medians over seeds")
    return figure


experiment = Experiment(
    name="fig17",
    title="Are two induction heads quicker than one?",
    paper="Singh et al. 2024, appendix, fig. 17",
    summary="Networks are trained with head 3 of layer 1 and one other; all others are ablated.",
    measure=measure,
    claims=CLAIMS,
    draw=draw,
    tables=tables,
    trainings=(MAIN, SINGLE_HEADS, PAIRS),
    seconds=lambda options: 3.0,
)
