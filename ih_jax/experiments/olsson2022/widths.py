"""Width: does the order in which the loss falls, by size, invert at the change?

Paper: Olsson et al. 2022, "Loss derivative order inversion". Command: ih-jax run olsson-widths,
three core minutes a seed. Expected, if it is as in the paper: before the window the loss of narrow
networks falls faster in ln(tokens), after it that of wide ones. (olsson-scaling asks the same of
depth.)
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ih_jax.claims import Claim, Networks, below, in_most, more_than, networks_of, of_networks, yes
from ih_jax.claims import phase_change as changes
from ih_jax.experiments.base import Experiment, Found, Options, Table
from ih_jax.experiments.drawing import FAINT, curves, over_sequences, tidy
from ih_jax.experiments.olsson2022 import falls, models
from ih_jax.experiments.olsson2022.trainings import WIDTHS_TRAINED

COLOURS = ("#56B4E9", "#0072B2", "#0B2F5B", "#E69F00", "#D55E00")  # from narrow to wide


def measure(options: Options, found: Found) -> xr.Dataset:
    """Loss and score over training, and the best head scores, [width, init, ...]."""
    trained = found[WIDTHS_TRAINED.name]
    probe = models.sample(trained, models.LOOKED_AT)
    seen = trained.measure(models.head_scores, probe)
    assert isinstance(seen, xr.Dataset)
    best = seen.max(("layer", "head")).rename(tokens="checkpoint")
    own = trained.results[["loss", "in_context_score"]].rename(in_context_score="score")
    results = own.merge(best).rename(d_model="width")
    extra = [d for d in results.dims if d not in ("width", "init", "tokens", "checkpoint")]
    return results.squeeze(extra, drop=True).transpose("width", "init", ...)


def order(seed: xr.Dataset, after: bool) -> float:
    """Rank correlation of width with how fast the loss falls (`falls.order`)."""
    between = falls.span(falls.windows(seed["score"], "width"), float(seed["tokens"][-1]), after)
    sizes = {width: float(width) for width in seed["width"].values.tolist()}
    return falls.order(seed["loss"], sizes, between, "width")


def _inversion(seed: xr.Dataset) -> float:
    return order(seed, after=True) - order(seed, after=False)


def _every(results: xr.Dataset) -> Networks:
    """Whether each network (a width and a seed) has a window, and an induction head at the end."""
    made: dict[str, bool | float] = {}
    for init in results["init"].values.tolist():
        for width in results["width"].values.tolist():
            own = results.sel(init=init, width=width)
            few = own.sizes["tokens"] < changes.FEWEST
            head = float(own["prefix_matching"].isel(checkpoint=-1)) >= models.INDUCTION
            so = falls.window_of(own["score"]) is not None and head
            made[f"d_model {width}, init {init}"] = float("nan") if few else so
    return networks_of(made)


SOURCE = "model analysis table: loss derivative by size"
CLAIMS = (
    Claim(
        "every width changes",
        "Networks of every width change, with induction heads.",
        in_most("so", _every, yes),
        paper="all sizes",
        source="argument 1",
        estimand="whether a network (a width and a seed) has a window, and at the end a head of "
        f"prefix matching of {models.INDUCTION} or more",
        primary=False,
        grade="strong",
    ),
    Claim(
        "the order inverts",
        "The order of the sizes, by how fast their loss falls, turns at the change in favour of "
        "large networks.",
        in_most("change", of_networks(_inversion), more_than(0)),
        paper="inverts",
        source=SOURCE,
        estimand="rank correlation, over the widths of a seed, of width with the fall of the loss "
        "per ln(tokens): that from the end of the last window to the end of training, less that "
        "over the half of ln(tokens) before the first window",
        grade="weak",
    ),
    Claim(
        "before: narrow ones fall faster",
        "Before the window the loss of narrow networks falls faster than that of wide ones.",
        in_most("correlation", of_networks(lambda s: order(s, False)), below(0)),
        paper="small models first",
        source=SOURCE,
        estimand="the rank correlation before the first window, below 0",
        primary=False,
        grade="weak",
    ),
    Claim(
        "after: wide ones",
        "After it that of wide networks falls faster.",
        in_most("correlation", of_networks(lambda s: order(s, True)), more_than(0)),
        paper="large models after",
        source=SOURCE,
        estimand="the rank correlation after the last window, above 0",
        primary=False,
        grade="weak",
    ),
)


def tables(results: xr.Dataset) -> list[Table]:
    """Per width, medians over seeds: window, final loss, falls before and after."""
    rows = []
    for width in results["width"].values.tolist():
        known: list[changes.Window] = []
        early: list[float] = []
        late: list[float] = []
        for init in results["init"].values.tolist():
            seed = results.sel(init=init)
            own = falls.window_of(seed["score"].sel(width=width))
            if own is not None:
                known.append(own)
            both = falls.windows(seed["score"], "width")
            last = float(seed["tokens"][-1])
            for made, after in ((early, False), (late, True)):
                between = falls.span(both, last, after)
                if between is not None:
                    made.append(falls.fall(seed["loss"].sel(width=width), *between))
        ends = (
            f"{np.median([w.start for w in known]) / 1e6:.2f}M to "
            f"{np.median([w.end for w in known]) / 1e6:.2f}M"
            if known
            else "none"
        )
        every = results.sel(width=width)
        rows.append(
            (
                f"{width}",
                f"{len(known)} of {results.sizes['init']}",
                ends,
                f"{float(every['loss'].isel(tokens=slice(-5, None)).median()):.3f}",
                f"{float(every['prefix_matching'].isel(checkpoint=-1).median()):.2f}",
                _number(early),
                _number(late),
            )
        )
    header = (
        "d_model",
        "changes",
        "window",
        "final loss",
        "best prefix matching",
        "before: fall per ln(tokens)",
        "after",
    )
    return [Table("By width, medians over seeds", header, rows)]


def _number(values: list[float]) -> str:
    return f"{np.median(values):.3f}" if values else "no such time"


def draw(results: xr.Dataset) -> Figure:
    """Loss, its derivative, score and best prefix matching by width; windows of the first seed."""
    figure = Figure(figsize=(15, 3.9), layout="constrained")
    every = figure.subplots(1, 4)
    tokens = results["tokens"].values
    slope = xr.apply_ufunc(
        lambda each: changes.derivative_by_log_tokens(each, tokens),
        results["loss"],
        input_core_dims=[["tokens"]],
        output_core_dims=[["tokens"]],
    )
    for colour, width in zip(COLOURS, results["width"].values.tolist(), strict=False):
        drawn: tuple[xr.DataArray, ...] = (
            results["loss"],
            slope,
            results["score"],
            results["prefix_matching"],
        )
        for axes, values in zip(every, drawn, strict=True):
            curves(axes, values.sel(width=width), colour, f"{width}")
    found: Any = falls.windows(results.isel(init=0)["score"], "width")
    titles = (
        "Loss (nats)",
        "d loss / d ln(tokens)",
        "In-context learning score",
        "Best prefix matching",
    )
    for axes, title in zip(every, titles, strict=True):
        tidy(axes, title)
        over_sequences(axes, "tokens seen")
        if found is not None:
            axes.axvspan(*found, color="0.93", zorder=0)
    every[1].axhline(0, color=FAINT, lw=0.8, zorder=0)
    every[1].set(ylim=(-1.2, 0.1))
    every[3].set(ylim=(0, 1))
    figure.legend(
        *every[3].get_legend_handles_labels(),
        frameon=False,
        loc="outside right upper",
        title="d_model",
    )
    return figure


experiment = Experiment(
    name="olsson-widths",
    title="Width, and the order in which the loss falls",
    paper="Olsson et al. 2022, loss derivative order inversion",
    summary="Attention-only networks of three layers and 32, 48 or 64 dimensions (a factor of "
    "four in weights, four heads a layer) read bigrams with exceptions. The shaded span reaches "
    "from the start of the first window to the end of the last one, of the first seed.",
    trainings=(WIDTHS_TRAINED,),
    measure=measure,
    claims=CLAIMS,
    draw=draw,
    tables=tables,
    seconds=lambda options: 30.0 + 3.0 * options.seeds,
)
