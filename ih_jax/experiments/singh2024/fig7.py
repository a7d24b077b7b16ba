"""Figure 7: layer 0 grafted from a trained network: is its circuit all that was missing?

Paper: Singh et al. 2024, section 5 and fig. 7. Command: ih-jax run fig7. On 2 CPU cores: about a
minute per seed (3.4 million sequences).
Expected: with the layer 0 that its own initialisation led to, learning is quick; with another
network's it has no plateau but is slow: the layers have grown to fit each other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import xarray as xr
from matplotlib.figure import Figure

from ih_jax.claims import (
    Bounds,
    Claim,
    Finding,
    at_most,
    effect,
    every,
    in_every_seed,
    median,
    over_seeds,
    plateaus,
    ratio,
    thousands,
    time_of,
    within,
)
from ih_jax.experiments.base import Experiment, Found, Options, Table
from ih_jax.experiments.drawing import chance, curves, over_sequences, tidy
from ih_jax.experiments.singh2024.trainings import GRAFTS, MAIN

FOREIGN = ("foreign 1", "foreign 2")
COLOURS = {
    "standard": "#000000",
    "same seed": "#D55E00",
    "foreign 1": "#009E73",
    "foreign 2": "#0072B2",
}


def measure(options: Options, found: Found) -> xr.Dataset:
    """Training loss, [clamp, init, sequences] of grafts; `standard` without, [init, ...]."""
    grafts = found["grafts"].results["loss"]
    standard = found["main"].results["loss"].sel(clamp="none", drop=True)
    results = xr.Dataset({"loss": grafts})
    results["standard"] = standard.sel(init=grafts["init"]).rename(sequences="whole_sequences")
    return results


def _time(seed: xr.Dataset, name: str) -> Bounds:
    if name == "standard":
        return time_of(seed["standard"].rename(whole_sequences="sequences"))
    return time_of(seed["loss"].sel(clamp=name))


def against_standard(name: str) -> Callable[[xr.Dataset], Bounds]:
    """Its time over the time without a graft."""
    return lambda seed: ratio(_time(seed, name), _time(seed, "standard"))


def _foreign_times(results: xr.Dataset) -> Finding:
    """Both foreign grafts of every seed."""
    pairs = {
        seed: [against_standard(name)(results.sel(init=seed)) for name in FOREIGN]
        for seed in results["init"].values.tolist()
    }
    found = over_seeds({seed: every(map(within(0.5, 1.1), pair)) for seed, pair in pairs.items()})
    each = [value for pair in pairs.values() for value in pair]
    detail = f"each: {', '.join(value.show() for value in each)}"
    return replace(
        found,
        ours=f"{found.ours}; quotient {median(each).show()}",
        effects={
            f"{name} / standard": effect([pair[k] for pair in pairs.values()])
            for k, name in enumerate(FOREIGN)
        },
        detail="; ".join(filter(None, (found.detail, detail))),
    )


def _no_plateau(names: tuple[str, ...]) -> Callable[[xr.Dataset], Finding]:
    def decide(results: xr.Dataset) -> Finding:
        shapes = plateaus(results["loss"].sel(clamp=list(names)))
        verdicts: dict[int, bool | None] = {}
        for seed in results["init"].values.tolist():
            mine = shapes.sel(init=seed)
            known = bool(mine["decided"].all())
            verdicts[seed] = False if mine["present"].any() else True if known else None
        return over_seeds(verdicts)

    return decide


CLAIMS = (
    Claim(
        "same seed: quick",
        "With layer 0 of the network trained from the same initialisation, the time to learn is "
        "at most a fifth of that without a graft.",
        paper="27k of 273k: .10",
        decide=in_every_seed("quotient", against_standard("same seed"), at_most(0.2)),
    ),
    Claim(
        "foreign: slow",
        "With layer 0 of a network trained from another initialisation it is .5 to 1.1 times that "
        "without, for both.",
        paper=".89 and .78",
        decide=_foreign_times,
    ),
    Claim(
        "same seed: no plateau",
        "With the same seed's layer 0 there is no plateau.",
        paper="absent",
        decide=_no_plateau(("same seed",)),
    ),
    Claim(
        "foreign: no plateau",
        "With a foreign layer 0 there is no plateau either.",
        paper="absent",
        decide=_no_plateau(FOREIGN),
    ),
)


def tables(results: xr.Dataset) -> list[Table]:
    """Times of every seed."""
    rows = [
        [str(seed), *(thousands(_time(results.sel(init=seed), name)) for name in COLOURS)]
        for seed in results["init"].values.tolist()
    ]
    return [Table("Sequences to learn", ("init", *COLOURS), rows)]


def draw(results: xr.Dataset) -> Figure:
    """Learning curves."""
    figure = Figure(figsize=(6.2, 4), layout="constrained")
    axes = figure.subplots()
    standard = results["standard"].rename(whole_sequences="sequences")
    curves(axes, standard, COLOURS["standard"], "no graft")
    for name in results["clamp"].values.tolist():
        label = "same seed" if name == "same seed" else name.replace("foreign", "other seed,")
        curves(axes, results["loss"].sel(clamp=name, drop=True), COLOURS[name], label)
    chance(axes)
    axes.set(xlim=(0, 600_000), ylim=(0, 2.1), ylabel="training loss (nats)")
    over_sequences(axes)
    axes.legend(frameon=False, title="layer 0 and embeddings from", alignment="left", fontsize=9)
    tidy(axes)
    return figure


experiment = Experiment(
    name="fig7",
    title="A trained layer 0, grafted: is that all that was missing?",
    paper="Singh et al. 2024, section 5, fig. 7",
    summary="Embeddings and layer 0 of a network trained for a million sequences are put, frozen, "
    "under a layer 1 that starts to learn: one trained from the same initialisation, or from the "
    "next two. All heads are free. Every seed thin, medians bold.",
    differs="Foreign layers 0 do better here than in the paper: about .56 of the time without a "
    "graft instead of .8 to .9. There is no plateau with either, and the same seed's is ten times "
    "as quick, as in the paper. Its two numbers come from one seed, ours from ten grafts.",
    measure=measure,
    claims=CLAIMS,
    draw=draw,
    tables=tables,
    trainings=(MAIN, GRAFTS),
    seconds=lambda options: 3.0,
)
