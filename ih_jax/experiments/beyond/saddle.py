"""Is the plateau a saddle point? Gradient and curvature of the loss along training.

Paper: Singh et al. 2024, section 3 ("the plateau may be indicative of a saddle point"). Command:
ih-jax run saddle (the networks of fig5b). Expected, if it is one: on the plateau the gradient is
small and the loss has directions of negative curvature, of less size than the highest curvature;
both grow where the network leaves it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ih_jax.claims import LEARNED, Claim, below, in_most, more_than, of_networks
from ih_jax.experiments.base import Experiment, Found, Options, Table
from ih_jax.experiments.drawing import FAINT, curves, over_sequences, tidy
from ih_jax.experiments.looking import along
from ih_jax.experiments.singh2024.trainings import CLAMPED, PLATEAU
from ih_jax.measures.probes import exhaustive, subset
from ih_jax.measures.saddle import curvature

EVERY, QUICK_EVERY = 49, 147  # of all sequences: 1,600 and 534 are looked at


def measure(options: Options, found: Found) -> xr.Dataset:
    """`measures.saddle.curvature` of the unclamped runs (head 3 alone), [init, checkpoint]."""
    trained = found["clamps"]
    every = QUICK_EVERY if options.quick else EVERY
    steps = trained.steps(trained.run(clamp="none", init=options.inits[0]))
    some = steps[:: 2 if options.quick else 1]
    return along(trained, curvature(), lambda task: subset(exhaustive(task), every), steps=some)


def plateau(seed: xr.Dataset) -> xr.Dataset:
    """Checkpoints on the plateau: with a loss in PLATEAU, before it is first below."""
    loss = seed["loss"].values
    left = int(np.argmax(loss < PLATEAU[0])) if (loss < PLATEAU[0]).any() else len(loss)
    inside = np.flatnonzero((loss >= PLATEAU[0]) & (loss <= PLATEAU[1]))
    return seed.isel(checkpoint=inside[inside < left])


def leaving(seed: xr.Dataset) -> xr.Dataset:
    """Checkpoints in the fall: from the end of the plateau until the task is learned."""
    n, loss = seed["checkpoint"], seed["loss"]
    on = plateau(seed)["checkpoint"]
    if not on.size:
        return seed.isel(checkpoint=slice(0, 0))
    return seed.isel(checkpoint=((n > on[-1]) & (loss > LEARNED)).values)


def _small_gradient(seed: xr.Dataset) -> float:
    """Median gradient norm on the plateau over the greatest one in the fall."""
    on, off = plateau(seed)["gradient_norm"], leaving(seed)["gradient_norm"]
    return float(on.median() / off.max()) if on.size and off.size else float("nan")


def _certainly_negative(seed: xr.Dataset) -> float:
    """Share of the plateau's checkpoints whose lowest eigenvalue is below 0 by its residual."""
    on = plateau(seed)
    below = on["lowest"] + on["lowest_residual"] < 0
    return float(below.mean()) if on.sizes["checkpoint"] else float("nan")


def _mostly_up(seed: xr.Dataset) -> float:
    """Median over the plateau of the size of the lowest over the highest eigenvalue."""
    on = plateau(seed)
    return float((-on["lowest"] / on["highest"]).median())


def _steeper_later(value: str) -> Callable[[xr.Dataset], float]:
    """Greatest size in the fall over the median size on the plateau."""

    def quotient(seed: xr.Dataset) -> float:
        on, off = abs(plateau(seed)[value]), abs(leaving(seed)[value])
        return float(off.max() / on.median()) if on.size and off.size else float("nan")

    return quotient


REMARK = "section 3 (a remark: the plateau may be a saddle point; not measured there)"
CLAIMS = (
    Claim(
        "a way down",
        "On the plateau the loss has a direction of negative curvature: it is a saddle, no valley.",
        in_most("share of checkpoints", of_networks(_certainly_negative), more_than(0.5)),
        paper="suggested, not measured",
        source=REMARK,
        estimand="share of the plateau's checkpoints whose lowest eigenvalue of the Hessian is "
        "below 0, beyond what Lanczos' method may be wrong by; more than half",
        kind="hypothesis",
    ),
    Claim(
        "a small gradient",
        "There the gradient is smaller than in the fall that follows.",
        in_most("quotient", of_networks(_small_gradient), below(1)),
        paper="suggested, not measured",
        source=REMARK,
        estimand="median norm on the plateau over the greatest in the fall",
        kind="hypothesis",
        primary=False,
    ),
    Claim(
        "mostly upwards",
        "There the loss curves down less than it curves up.",
        in_most("lowest / highest, sizes", of_networks(_mostly_up), below(1)),
        paper="suggested, not measured",
        source=REMARK,
        estimand="size of the lowest over the highest eigenvalue: median over the plateau",
        kind="hypothesis",
        primary=False,
    ),
    Claim(
        "steeper at the exit",
        "In the fall the loss curves down more than on the plateau.",
        in_most("quotient", of_networks(_steeper_later("lowest")), more_than(1)),
        paper="suggested, not measured",
        source=REMARK,
        estimand="greatest size of the lowest eigenvalue in the fall over its median on the "
        "plateau",
        kind="hypothesis",
        primary=False,
    ),
)


def tables(results: xr.Dataset) -> list[Table]:
    """Medians on the plateau and extremes in the fall: medians and quartiles over networks."""
    seeds = [results.sel(init=seed) for seed in results["init"].values.tolist()]
    parts = [(plateau(one), leaving(one)) for one in seeds]
    rows = []
    for name, extreme in (("gradient_norm", "max"), ("lowest", "min"), ("highest", "max")):
        on = [float(each[name].median()) for each, _ in parts if each.sizes["checkpoint"]]
        off = [float(getattr(e[name], extreme)()) for _, e in parts if e.sizes["checkpoint"]]
        cells = []
        for values in (on, off):
            low, middle, high = np.quantile(values or [np.nan], [0.25, 0.5, 0.75])
            cells.append(f"{middle:.3g} ({low:.3g} to {high:.3g})")
        rows.append([name.replace("_", " "), *cells])
    header = ["", "median on the plateau", "greatest size in the fall"]
    return [Table("Medians over networks (quartiles), nats by units of weight", header, rows)]


def draw(results: xr.Dataset) -> Figure:
    """Loss, gradient norm, and both ends of the spectrum."""
    figure = Figure(figsize=(12.5, 3.8), layout="constrained")
    a, b, c = figure.subplots(1, 3)
    curves(a, results["loss"], "#000000")
    a.axhspan(*PLATEAU, color="0.94", zorder=0)
    a.set(ylim=(0, 2.1), ylabel="loss (nats)")
    curves(b, results["gradient_norm"], "#0072B2")
    b.set(yscale="log", ylabel="norm of the gradient")
    curves(c, results["highest"], "#D55E00", "highest")
    curves(c, results["lowest"], "#009E73", "lowest")
    c.axhline(0, lw=0.8, color=FAINT)
    c.set_yscale("symlog", linthresh=10)
    c.set_ylabel("eigenvalues of the Hessian")
    c.legend(frameon=False)
    titles = ("Loss (grey: the plateau's band)", "Gradient", "Extreme curvatures")
    for axes, title in zip((a, b, c), titles, strict=True):
        axes.set_xlim(0, float(results["checkpoint"][-1]))
        over_sequences(axes)
        tidy(axes, title)
    return figure


experiment = Experiment(
    name="saddle",
    title="Is the plateau a saddle point?",
    paper="Singh et al. 2024, section 3 (a remark)",
    summary="Along the training of the unclamped networks of fig. 5b: the norm of the gradient of "
    "the training loss, and the lowest and highest eigenvalue of its Hessian with respect to all "
    "weights, by Lanczos' method. Every seed thin, medians bold.",
    measure=measure,
    claims=CLAIMS,
    draw=draw,
    tables=tables,
    trainings=(CLAMPED,),
    seconds=lambda options: (35.0 if options.quick else 300.0) * options.seeds,
)
