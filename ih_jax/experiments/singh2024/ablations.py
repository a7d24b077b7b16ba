"""Heads of layer 1 ablated after training, and heads trained alone: what several figures read.

Figures 4, 11, 13, 16, 18 and table 2 of Singh et al. 2024 share these.
"""

from __future__ import annotations

import math

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from ih_jax.claims import Bounds
from ih_jax.clamps.clamp import Clamp
from ih_jax.experiments.base import Found, Options
from ih_jax.experiments.drawing import QUIET
from ih_jax.experiments.looking import HEADS, at_end, config, probe
from ih_jax.experiments.singh2024.known import STRENGTH, time_in
from ih_jax.measures.heads import induction_strength
from ih_jax.measures.performance import ablate_one, leave_one, under


def measure_ablations(options: Options, found: Found) -> xr.Dataset:
    """Strength [init, head]; loss and accuracy [init], only_... and without_... [init, head]."""
    main = found["main"]
    batch = probe(options)
    clamps = {"whole": Clamp(), **leave_one(HEADS), **ablate_one(HEADS)}
    scores = at_end(main, under(clamps, config(main)), batch, inits=options.inits)
    strength = at_end(main, induction_strength, batch, inits=options.inits)
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


def strongest(one: xr.Dataset) -> int:
    """The head of layer 1 with the greatest strength, of one network."""
    return int(np.argmax(one["strength"].values))


def others(one: xr.Dataset, name: str) -> np.ndarray:
    """Values of the other heads."""
    return np.delete(one[name].values, strongest(one))


def kept(accuracy: float, whole: float) -> float:
    """The share that is left of what a network gains over picking a label of the context (.5)."""
    return (accuracy - 0.5) / (whole - 0.5) if whole > 0.5 else math.nan


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's, of finite pairs; NaN for fewer than three."""
    good = np.isfinite(a) & np.isfinite(b)
    return float(np.corrcoef(a[good], b[good])[0, 1]) if good.sum() > 2 else math.nan


def alone_times(one: xr.Dataset) -> dict[int, Bounds]:
    """When each head of layer 1 alone has learned, of one network."""
    heads = one["head"].values.tolist()
    return {h: time_in(one, "alone_loss", "alone_sequences", head=h) for h in heads}


def draw_ablations(
    axes: Axes, results: xr.Dataset, metric: str, paper: np.ndarray | None = None
) -> None:
    """A head alone, and all but it, against its strength; every head of every network.

    Args:
        axes: where to draw.
        results: of `measure_ablations`.
        metric: "accuracy" or "loss".
        paper: with a head alone, [network, head], of the paper's networks.
    """
    x = results["strength"].transpose("init", "head").values.ravel()
    for name, mark, colour in (("only", "o", "#0072B2"), ("without", "^", "#009E73")):
        y = results[f"{name}_{metric}"].transpose("init", "head").values.ravel()
        axes.plot(x, y, mark, ms=4, color=colour, alpha=0.5, mew=0, clip_on=False)
    if paper is not None:
        axes.plot(STRENGTH.ravel(), paper.ravel(), "D", ms=4.5, mfc="none", mec="#D55E00", mew=1)
    axes.axhline(float(results[metric].median("init")), ls="--", lw=0.8, color=QUIET)
    axes.set(xlabel="induction strength at the end of training")
    marks = [
        Line2D([], [], ls="", marker="o", color="#0072B2", label="only that head of layer 1"),
        Line2D([], [], ls="", marker="^", color="#009E73", label="all but that head"),
        Line2D([], [], ls="--", lw=0.8, color=QUIET, label="all heads, median"),
    ]
    if paper is not None:
        theirs = "paper, five networks: only that head"
        marks.append(Line2D([], [], ls="", marker="D", color="#D55E00", mfc="none", label=theirs))
    axes.legend(handles=marks, frameon=False, fontsize=8)
