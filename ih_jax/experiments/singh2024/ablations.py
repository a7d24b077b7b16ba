"""Heads of layer 1 ablated after training, and heads trained alone: what several figures read.

Figures 4, 11, 13, 16, 18 and table 2 of Singh et al. 2024 share these.
"""

from __future__ import annotations

import math

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from ih_jax.claims import Bounds, time_of
from ih_jax.clamps.clamp import Clamp
from ih_jax.experiments.base import Found, Options
from ih_jax.experiments.drawing import HEAD_COLOURS, QUIET
from ih_jax.experiments.looking import HEADS, at_end, config, probe
from ih_jax.measures.heads import induction_strength
from ih_jax.measures.performance import ablate_one, leave_one, under


def measure_ablations(options: Options, found: Found) -> xr.Dataset:
    """Strength [init, head]; loss and accuracy [init], only_... and without_... [init, head]."""
    main = found["main"]
    batch = probe(options)
    clamps = {"whole": Clamp(), **leave_one(HEADS), **ablate_one(HEADS)}
    scores = at_end(main, under(clamps, config(main)), batch)
    strength = at_end(main, induction_strength, batch)
    results = strength.rename(induction_strength="strength")
    for metric in ("loss", "accuracy"):
        results[metric] = scores[metric].sel(held="whole", drop=True)
        for name, group in (("only", leave_one(HEADS)), ("without", ablate_one(HEADS))):
            part = scores[metric].sel(held=list(group)).rename(held="head")
            results[f"{name}_{metric}"] = part.assign_coords(head=range(HEADS))
    return results


def measure_with_heads_alone(options: Options, found: Found) -> xr.Dataset:
    """Ablations, and curves of every head alone, [init, head, sequences]."""
    results = measure_ablations(options, found)
    alone = found["single_heads"].results["loss"].rename(clamp="head", sequences="alone_sequences")
    results["alone_loss"] = alone.assign_coords(head=range(HEADS)).transpose("init", "head", ...)
    results["loss_of_all"] = found["main"].results["loss"].sel(clamp="none", drop=True)
    return results.sel(init=options.inits)


def strongest(seed: xr.Dataset) -> int:
    """The head with the greatest strength."""
    return int(np.argmax(seed["strength"].values))


def others(seed: xr.Dataset, name: str) -> np.ndarray:
    """Values of the other heads."""
    return np.delete(seed[name].values, strongest(seed))


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's, of finite pairs; NaN for fewer than three."""
    good = np.isfinite(a) & np.isfinite(b)
    return float(np.corrcoef(a[good], b[good])[0, 1]) if good.sum() > 2 else math.nan


def alone_times(seed: xr.Dataset) -> dict[int, Bounds]:
    """When each head alone has learned."""
    curves = seed["alone_loss"].rename(alone_sequences="sequences")
    return {h: time_of(curves.sel(head=h)) for h in seed["head"].values.tolist()}


def draw_ablations(axes: Axes, results: xr.Dataset, metric: str) -> None:
    """Circles: a head alone; triangles: all but it; against its strength."""
    many = results.sizes["init"] > 1
    for seed in results["init"].values.tolist():
        mine = results.sel(init=seed)
        first = seed == results["init"].values[0]
        for head in mine["head"].values.tolist():
            place = float(mine["strength"].sel(head=head))
            for name, mark in (("only", "o"), ("without", "^")):
                axes.plot(
                    place,
                    float(mine[f"{name}_{metric}"].sel(head=head)),
                    mark,
                    ms=6,
                    color=HEAD_COLOURS[head],
                    mew=0 if first else 1.0,
                    mfc=HEAD_COLOURS[head] if first else "none",
                    alpha=1 if first else 0.6,
                    clip_on=False,
                )
    axes.axhline(float(results[metric].median("init")), ls="--", lw=0.8, color=QUIET)
    axes.set(xlabel="induction strength at the end of training")
    marks = [
        Line2D([], [], ls="", marker="o", color=QUIET, label="only that head of layer 1"),
        Line2D([], [], ls="", marker="^", color=QUIET, label="all but that head"),
        Line2D([], [], ls="--", lw=0.8, color=QUIET, label="all heads"),
    ]
    if many:
        first = results["init"].values[0]
        marks.append(
            Line2D(
                [],
                [],
                ls="",
                marker="o",
                color=QUIET,
                mfc="none",
                label=f"other seeds (filled: init {first})",
            )
        )
    axes.legend(handles=marks, frameon=False, fontsize=8.5)
