"""Which data are learnt in context and which in weights: classes, burstiness, noise, Zipf exponent.

Paper: Reddy 2024, section 3, fig. 2. Command: ih-jax run reddy-phase-diagram. On 2 CPU cores: about
2 minutes for two seeds (8 networks a seed, 20,000 sequences each).
Expected: in context with 512 classes, in weights with 8; twice the burst, more noise: more in
context; classes by Zipf's law: both at once.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ih_jax.claims import Claim, in_most, more_than, of_networks
from ih_jax.experiments.base import Experiment, Found, Options, Table
from ih_jax.experiments.drawing import FAINT, tidy
from ih_jax.experiments.reddy2024.progress import progress
from ih_jax.experiments.reddy2024.trainings import (
    BETWEEN,
    BURSTS,
    CLASSES,
    GRID,
    MANY,
    NOISY,
    SKEWED,
)
from ih_jax.measures.probes import of_sets
from ih_jax.tasks.gaussian import SETS

SEQUENCES = 1000  # of each evaluation set
FEW = CLASSES[0]
VARIED = ("base", "noisy", "skewed")


def measure(options: Options, found: Found) -> xr.Dataset:
    """Accuracies at the end: accuracy [init, classes, burst, asked], varied [init, data, asked]."""
    probe = of_sets(tuple(SETS), SEQUENCES)

    def at_end(name: str) -> xr.DataArray:
        trained = found[name]
        last = [max(trained.steps(0))]
        seen = trained.measure(progress, probe, steps=last)
        return seen["accuracy"].isel(clamp=0, sequences=0, drop=True)

    accuracy = at_end("reddy_grid")
    base = accuracy.sel(classes=BETWEEN, burst=1, drop=True)
    others = [at_end("reddy_noisy"), at_end("reddy_skewed")]
    varied = xr.concat([base, *others], xr.DataArray(list(VARIED), dims="data", name="data"))
    return xr.Dataset({"accuracy": accuracy, "varied": varied.transpose("init", ...)})


def more(of: str, high: dict[str, int], low: dict[str, int]) -> Callable[[xr.Dataset], float]:
    """Accuracy of a set in one cell of the grid less that in another."""

    def of_one(one: xr.Dataset) -> float:
        accuracy = one["accuracy"].sel(asked=of)
        return float(accuracy.sel(high) - accuracy.sel(low))

    return of_one


def than_base(of: str, data: str) -> Callable[[xr.Dataset], float]:
    """Accuracy of a set with varied data less that of 64 classes, noise 0.1, exponent 0."""
    return lambda one: float(
        one["varied"].sel(asked=of, data=data) - one["varied"].sel(asked=of, data="base")
    )


def both(one: xr.Dataset) -> float:
    """The lower of both accuracies with Zipf's law, less that without."""
    lower = one["varied"].sel(asked=["icl", "iwl"]).min("asked")
    return float(lower.sel(data="skewed") - lower.sel(data="base"))


SOURCE = "section 3, fig. 2"
CLAIMS = (
    Claim(
        "many classes: in context",
        "With more classes in-context learning is favoured.",
        in_most(
            "accuracy on new classes, more",
            of_networks(more("icl", {"classes": MANY, "burst": 1}, {"classes": FEW, "burst": 1})),
            more_than(0),
        ),
        source=SOURCE,
        estimand=f"accuracy on classes never seen, {MANY} classes less {FEW}, within a seed",
    ),
    Claim(
        "few classes: in weights",
        "With fewer classes in-weights learning is favoured.",
        in_most(
            "accuracy without the class in context, more",
            of_networks(more("iwl", {"classes": FEW, "burst": 1}, {"classes": MANY, "burst": 1})),
            more_than(0),
        ),
        source=SOURCE,
        estimand="accuracy where the query's class is not in the context, "
        f"{FEW} classes less {MANY}, within a seed",
    ),
    Claim(
        "burstiness: in context",
        "Burstier sequences favour in-context learning.",
        in_most(
            "accuracy on new classes, more",
            of_networks(
                more("icl", {"classes": BETWEEN, "burst": 2}, {"classes": BETWEEN, "burst": 1})
            ),
            more_than(0),
        ),
        source=SOURCE,
        estimand=f"accuracy on classes never seen, each of {BETWEEN} classes twice in the context "
        "less once, both measured on sequences as trained on",
    ),
    Claim(
        "noise: in context",
        "Greater variation within classes favours in-context learning.",
        in_most("accuracy, more", of_networks(than_base("icl", "noisy")), more_than(0)),
        source=SOURCE,
        estimand=f"accuracy on classes never seen, noise 1 less noise 0.1, {BETWEEN} classes",
        primary=False,
    ),
    Claim(
        "noise: not in weights",
        "Greater variation within classes makes in-weights learning harder.",
        in_most(
            "accuracy, less",
            of_networks(lambda one: -than_base("iwl", "noisy")(one)),
            more_than(0),
        ),
        source=SOURCE,
        estimand="accuracy where the query's class is not in the context, noise 0.1 less noise 1",
        primary=False,
    ),
    Claim(
        "Zipf's law: both",
        "With frequencies of classes by Zipf's law (exponent about 1) a network learns both ways.",
        in_most("lower of both, more", of_networks(both), more_than(0)),
        source=SOURCE,
        estimand="the lower of the two accuracies, exponent 1 less exponent 0, in-weights queries "
        f"drawn by the frequencies of training, {BETWEEN} classes",
    ),
)


def tables(results: xr.Dataset) -> list[Table]:
    """Median accuracies of every cell."""
    rows = []
    for classes in CLASSES:
        for burst in BURSTS:
            cell = results["accuracy"].sel(classes=classes, burst=burst).median("init")
            rows.append((str(classes), str(burst), "0.1", "0", *_shares(cell)))
    for data, noise, zipf in (("noisy", "1", "0"), ("skewed", "0.1", "1")):
        cell = results["varied"].sel(data=data).median("init")
        rows.append((str(BETWEEN), "1", noise, zipf, *_shares(cell)))
    header = ("classes", "burst", "noise", "Zipf exponent", *SETS)
    return [Table("Accuracy at the end of training, median over networks", header, rows)]


def _shares(cell: xr.DataArray) -> list[str]:
    return [f"{float(cell.sel(asked=name)):.2f}" for name in SETS]


def draw(results: xr.Dataset) -> Figure:
    """Two phase diagrams, classes x burst, and the cells with noise and Zipf's law."""
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    panels = figure.subplots(1, 3, width_ratios=(1, 1, 1.2))
    titles = {"icl": "In context: new classes", "iwl": "In weights: class not in context"}
    for axes, (name, title) in zip(panels, titles.items(), strict=False):
        cells = results["accuracy"].sel(asked=name).median("init").transpose("burst", "classes")
        image = axes.imshow(cells.values, vmin=0, vmax=1, cmap="viridis", aspect="auto")
        for (row, column), value in np.ndenumerate(cells.values):
            colour = "white" if value < 0.6 else "black"
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour)
        axes.set_xticks(range(len(CLASSES)), [str(n) for n in CLASSES])
        axes.set_yticks(range(len(BURSTS)), [str(n) for n in BURSTS])
        axes.set(xlabel="classes", ylabel="times a class is in the context")
        axes.set_title(title, loc="left", fontsize=10.5)
        figure.colorbar(image, ax=axes, label="accuracy")
    axes = panels[2]
    place = np.arange(len(VARIED))
    colours = {"icl": "#0072B2", "iwl": "#D55E00"}
    for shift, (name, colour) in zip((-0.12, 0.12), colours.items(), strict=True):
        shares = results["varied"].sel(asked=name).transpose("init", "data").values
        spread = np.broadcast_to(place + shift, shares.shape)
        axes.plot(spread.ravel(), shares.ravel(), "o", ms=4, color=colour, alpha=0.6)
        axes.plot(place + shift, np.median(shares, axis=0), "_", ms=16, color=colour, label=name)
    axes.axhline(1 / 8, ls="--", lw=0.8, color=FAINT)
    axes.set_xticks(place, [f"{BETWEEN} classes", "noise 1", "Zipf exponent 1"])
    axes.set(ylim=(0, 1.03), ylabel="accuracy", xlim=(-0.5, len(VARIED) - 0.5))
    axes.legend(frameon=False, loc="lower right")
    tidy(axes, "What else decides; dashed: chance")
    return figure


experiment = Experiment(
    name="reddy-phase-diagram",
    title="Data decide between learning in context and in weights",
    paper="Reddy 2024, section 3, fig. 2",
    summary="Every class is a Gaussian cloud with one label for good, so a network can learn the "
    "labels, or learn to find the class in the context and copy. Which of the two it does is "
    "asked with classes it never saw, and with contexts that lack the query's class.",
    trainings=(GRID, NOISY, SKEWED),
    measure=measure,
    claims=CLAIMS,
    draw=draw,
    tables=tables,
    differs="A smaller setting (16 dimensions, 8 labels, 4 pairs), Adam, an embedding that is "
    "learned, and an MLP in either layer in the place of a classifier of three layers. A class of "
    "the in-weights set is never in its context; in the paper it is there as often as chance has "
    "it.",
    seconds=lambda options: 20.0,
)
