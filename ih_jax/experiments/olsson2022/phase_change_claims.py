"""What Olsson et al. 2022, argument 1, say of the phase change, and what decides it."""

from __future__ import annotations

import numpy as np
import xarray as xr

from ih_jax.claims import (
    Bounds,
    Claim,
    Reported,
    below,
    in_most,
    known,
    more_than,
    no_difference,
    of_networks,
    yes,
)
from ih_jax.claims import phase_change as changes
from ih_jax.experiments.olsson2022 import models
from ih_jax.experiments.olsson2022.models import deep, of_models, shallow

FEW = 15  # snapshots that the paper kept of its large models
FAR = 40  # index from which on the derivative along the context is looked at
TURN = 45.0  # degrees


def _in_a_fifth(scores: xr.DataArray) -> bool:
    """Whether 75% of the final score, and 0.15 nats, are got within a fifth of training."""
    nats, share = changes.largest_fall(scores.values, scores[scores.dims[0]].values)
    return nats >= changes.LEAST and share >= changes.SHARE


def snapshots(results: xr.Dataset) -> np.ndarray:
    """Fifteen of the checkpoints, evenly in the logarithm of tokens, as the paper kept them."""
    seen = results["checkpoint"].values
    wanted = np.geomspace(seen[1], seen[-1], FEW)
    return np.unique([int(np.abs(seen - each).argmin()) for each in wanted])


def _sparse(seed: xr.Dataset, name: str) -> xr.DataArray:
    return seed["score_at"].isel(pair=0, checkpoint=snapshots(seed)).sel(model=name)


def _final(seed: xr.Dataset, name: str) -> float:
    return float(seed["score"].sel(model=name).isel(tokens=slice(-20, None)).median("tokens"))


def _of_two_layers(seed: xr.Dataset, name: str) -> float:
    """Final score of a one-layer model over that of the two-layer model of its kind."""
    return _final(seed, name) / models.enough(_final(seed, _two_layers(name)))


def _two_layers(name: str) -> str:
    return name.replace("1L", "2L")


def _move_after(seed: xr.Dataset, name: str) -> float:
    """Largest change of a model's score after its window, over its final value."""
    window, score = models.window_of(seed, name), seed["score"].sel(model=name)
    if window is None:
        return float("nan")
    after = score.where(score["tokens"] >= window.end, drop=True)
    smooth = after.rolling(tokens=5, center=True).mean().dropna("tokens")
    return float((smooth.max() - smooth.min()) / abs(score[-10:].median()))


def _spread_of_sizes(seed: xr.Dataset) -> float:
    """Largest relative distance of a deep model's final score from the median of all."""
    final = np.array([_final(seed, name) for name in deep(seed)])
    return float(abs(final / models.enough(float(np.median(final))) - 1).max())


def forms_in_window(seed: xr.Dataset, name: str) -> bool:
    """Whether the best prefix matching passes half its final value in the window.

    A checkpoint's width is allowed at both ends. False without a window.
    """
    window = models.window_of(seed, name)
    best = seed["prefix_matching"].sel(model=name)
    over = best["checkpoint"].values
    half = over[int(np.argmax(best.values >= best.values[-1] / 2))]
    width = over[1] - over[0]
    return window is not None and window.start - width <= half <= window.end + width


def _bump_in_window(seed: xr.Dataset, name: str) -> bool:
    """Whether the loss curve is least convex within the window, or as long before as it lasts."""
    window, loss = models.window_of(seed, name), seed["loss"].sel(model=name)
    at = changes.bump(loss.values, loss["tokens"].values).tokens
    return window is not None and 2 * window.start - window.end <= at <= window.end


def _bump_over_two_layers(seed: xr.Dataset, name: str) -> float:
    """Height of a one-layer model's bump over that of two layers; NaN where these have none."""
    own, other = (
        changes.bump(loss.values, loss["tokens"].values).height
        for loss in (seed["loss"].sel(model=each) for each in (name, _two_layers(name)))
    )
    return own / other if other else float("nan")


def _slope(seed: xr.Dataset, name: str, last: bool) -> float:
    """Slope of loss over ln(index) beyond FAR, at the end or before the window (first seed).

    NaN for another seed: losses by index are kept for the first only.
    """
    if int(seed["init"]) != int(seed["first_init"]):
        return float("nan")
    losses = seed["index_loss"].sel(model=name)
    window = models.window_of(seed, name)
    end = np.inf if last or window is None else window.start
    some = losses.where(losses["snapshot"] <= end, drop=True)[-3:].mean("snapshot").values
    index = np.arange(1, len(some) + 1)
    return float(np.polyfit(np.log(index[FAR - 1 :]), some[FAR - 1 :], 1)[0])


def _steeper(seed: xr.Dataset, name: str) -> float:
    """Slope at the end less that before the window; NaN without one."""
    if models.window_of(seed, name) is None:
        return float("nan")
    return _slope(seed, name, last=True) - _slope(seed, name, last=False)


def turn(seed: xr.Dataset, name: str, at: str | None = None) -> float:
    """Degrees by which the path of per-token losses turns in the window (of model `at`)."""
    window = models.window_of(seed, at or name)
    if window is None:
        return float("nan")
    path = seed["path"].sel(model=name)
    return changes.turning_angle(path.values, path["checkpoint"].values, window)


def _turn_of_one_layer(seed: xr.Dataset, name: str) -> float:
    """0 where it has come to rest by then, NaN where the two-layer model has no window."""
    other = _two_layers(name)
    if models.window_of(seed, other) is None:
        return float("nan")
    angle = turn(seed, name, at=other)
    return 0.0 if np.isnan(angle) else angle


def _pairs_apart(seed: xr.Dataset, name: str) -> Bounds:
    """Largest distance between windows' middles by pair of positions, as a share of training.

    Where some pairs show a change and others do not: at least 1. NaN where none do.
    """
    middles = []
    for pair in range(seed.sizes["pair"]):
        scores = seed["score_at"].sel(model=name).isel(pair=pair)
        window = changes.phase_change(scores.values, scores["checkpoint"].values, least=0.05)
        middles.append(np.nan if window is None else window.middle)
    if np.isnan(middles).all():
        return known(np.nan)
    if np.isnan(middles).any():
        return Bounds(1.0, np.inf)
    return known((max(middles) - min(middles)) / float(seed["checkpoint"][-1]))


def _gained_before(seed: xr.Dataset, name: str) -> float:
    """Loss below the one-layer model's: the gap before the window over the gap at the end."""
    gap = seed["loss"].sel(model=name.replace(name[:2], "1L")) - seed["loss"].sel(model=name)
    window = models.window_of(seed, name)
    if window is None:
        return float("nan")
    before = gap.where(gap["tokens"] <= window.start, drop=True)[-5:]
    return float(before.median() / gap[-5:].median())


def _forms_with_few(seed: xr.Dataset, name: str) -> float | bool:
    """As `forms_in_window`, from fifteen snapshots; NaN where there are too few even of these."""
    few = seed.isel(checkpoint=snapshots(seed))
    if few.sizes["checkpoint"] < changes.FEWEST:
        return float("nan")
    scores, best = _sparse(seed, name), few["prefix_matching"].sel(model=name)
    window = changes.phase_change(scores.values, scores["checkpoint"].values)
    half = best["checkpoint"].values[int(np.argmax(best.values >= best.values[-1] / 2))]
    return window is not None and bool(window.start <= half <= window.end)


def _best_at_end(seed: xr.Dataset, name: str) -> float:
    return float(seed["prefix_matching"].sel(model=name).isel(checkpoint=-1))


def _two_layer_kinds(results: xr.Dataset) -> list[str]:
    """Deep models of whose kind there is a one-layer model too."""
    return [name for name in deep(results) if name.replace(name[:2], "1L") in shallow(results)]


MACRO = "argument 1 (macroscopic co-occurrence)"
CLAIMS = (
    Claim(
        "a window",
        "Models of two layers or more get more than 75% of their in-context learning score in a "
        "narrow window of training.",
        in_most("so", of_models(deep, lambda s, n: _in_a_fifth(s["score"].sel(model=n))), yes),
        paper="all models of two layers or more",
        source=f"{MACRO}: in-context learning score",
        estimand="whether a network gets 75% of its final score, and 0.15 nats (below which the "
        "paper sees no change), within a fifth of training; over networks (model and seed). The "
        "fifth is ours: the paper's window is 2.5 of 10 billion tokens",
        grade="strong",
    ),
    Claim(
        "one layer does not change",
        "One-layer models do not: their in-context learning score stays small.",
        in_most("one layer / two", of_models(shallow, _of_two_layers), below(0.5)),
        paper="-.1 against -.4",
        reported=Reported((0.25,)),
        source=f"{MACRO}: in-context learning score",
        estimand="final score of a one-layer model over that of the two-layer model of its kind "
        "and seed, below one half (most of the score needs the second layer)",
        grade="strong",
    ),
    Claim(
        "they form in the window",
        "Induction heads form in the window in which in-context learning improves.",
        in_most("so", of_models(deep, forms_in_window), yes),
        paper="all models",
        source=f"{MACRO}: prefix matching",
        estimand="whether a network's best prefix matching passes half its final value between "
        "start and end of its window, which is told from the score alone",
        grade="strong",
    ),
    Claim(
        "induction heads appear",
        "At the end models of two layers or more have heads with high prefix matching.",
        in_most(
            "best",
            of_models(deep, _best_at_end),
            more_than(0.5),
        ),
        paper=".6 to .95",
        source=f"{MACRO}: prefix matching",
        estimand="the highest prefix matching of a network's heads, above 0.5: more attention to "
        "what followed earlier than to all else together",
        primary=False,
        grade="strong",
    ),
    Claim(
        "constant after the change",
        "After the window the in-context learning score is about constant.",
        no_difference("move", of_models(deep, _move_after), 0, 1 - changes.SHARE),
        paper="constant",
        source=f"{MACRO}: in-context learning score",
        estimand="the largest move of a network's score after its window, over its final value, "
        "within 0 to .25: no more than what the window, with its 75%, leaves",
        grade="strong",
    ),
    Claim(
        "the same for all sizes",
        "The final score is about the same for all models of two layers or more.",
        no_difference("largest distance", of_networks(_spread_of_sizes), 0, 0.25),
        paper="about -.4 from 2 layers to 13 billion parameters",
        source=f"{MACRO}: in-context learning score",
        estimand="largest distance of a model's final score from the median of those of its seed, "
        "as a share of it, within a quarter, as in the paper's figure (-.3 to -.5)",
        grade="strong",
    ),
    Claim(
        "a bump in the loss",
        "The window is where the loss curve is not convex.",
        in_most("so", of_models(deep, _bump_in_window), yes),
        paper="the only place that is not convex",
        source=f"{MACRO}: loss curves",
        estimand="whether a network's loss curve is highest above its convex hull within its "
        "window, or as long before it as it lasts",
        grade="strong",
    ),
    Claim(
        "no bump with one layer",
        "A one-layer model's loss curve has no such bump.",
        in_most("one layer / two", of_models(shallow, _bump_over_two_layers), below(0.5)),
        paper="none",
        source=f"{MACRO}: loss curves",
        estimand="height of a one-layer model's largest bump over that of the two-layer model of "
        "its kind and seed, below one half",
        primary=False,
        grade="strong",
    ),
    Claim(
        "where the curves part",
        "Before the window loss curves lie on that of one layer; there they part from it.",
        in_most("before / end", of_models(_two_layer_kinds, _gained_before), below(0.5)),
        paper="the loss diverges there",
        source=f"{MACRO}: loss curves",
        estimand="what a network gains on the one-layer model of its kind and seed by the start of "
        "its window, over what it gains by the end, below one half",
        primary=False,
        grade="strong",
    ),
    Claim(
        "later tokens become easier",
        "After the change, unlike before, the loss falls along the whole context.",
        in_most("change of the slope", of_models(deep, _steeper), below(0)),
        paper="about 0 before, -.1 to -.3 after",
        source=f"{MACRO}: loss by token index",
        estimand=f"slope of the loss over ln(index) beyond index {FAR}, at the end less that "
        "before the window; over the models of the first seed, of which losses by index are kept",
        grade="strong",
    ),
    Claim(
        "not before",
        "Before the window, and in one-layer models throughout, it is flat there.",
        no_difference(
            "slope",
            of_models(
                lambda results: [*deep(results), *shallow(results)],
                lambda s, n: _slope(s, n, last=n in shallow(s)),
            ),
            -0.05,
            0.05,
        ),
        paper="about 0",
        source=f"{MACRO}: loss by token index",
        estimand="that slope before the window (one layer: at the end), within 0.05: half of the "
        "least that the paper shows after the change",
        primary=False,
        grade="strong",
    ),
    Claim(
        "the path turns",
        "The path of per-token losses turns sharply in the window.",
        in_most("degrees", of_models(deep, turn), more_than(TURN)),
        paper="about 90 degrees",
        source=f"{MACRO}: per-token losses",
        estimand="angle between the ways before and from the window's start on, in the first two "
        f"components of 2,000 per-token losses, above {TURN:.0f}: nearer to a right angle than to "
        "straight on",
        grade="strong",
    ),
    Claim(
        "one layer goes straight",
        "A one-layer model's path does not turn there.",
        in_most("degrees", of_models(shallow, _turn_of_one_layer), below(TURN)),
        paper="no turn",
        source=f"{MACRO}: per-token losses",
        estimand="that angle of a one-layer model in the window of the two-layer model of its kind "
        "and seed (0: it has come to rest by then)",
        primary=False,
        grade="strong",
    ),
    Claim(
        "any pair of positions",
        "The choice of the two positions that define the score does not matter.",
        no_difference("distance", of_models(deep, _pairs_apart), 0, 0.1),
        paper="the choice does not matter",
        source=f"{MACRO}: in-context learning score, a note",
        estimand="largest distance between the middles of a network's windows by five pairs of "
        "positions, as a share of training, within a tenth: half of the window's fifth",
        primary=False,
        grade="strong",
    ),
    Claim(
        "few snapshots: a window",
        f"The window is still seen with {FEW} snapshots, as of the paper's large models.",
        in_most("so", of_models(deep, lambda s, n: _in_a_fifth(_sparse(s, n))), yes),
        paper="14 or 15 snapshots of large models",
        source=f"{MACRO}: large models",
        estimand="the first claim, with so many snapshots only",
        primary=False,
        grade="medium",
    ),
    Claim(
        "few snapshots: heads in it",
        f"With {FEW} snapshots only, heads are still seen to form within the window.",
        in_most("so", of_models(deep, _forms_with_few), yes),
        paper="14 or 15 snapshots of large models",
        source=f"{MACRO}: large models",
        estimand="the third claim, with so many snapshots only",
        primary=False,
        grade="medium",
    ),
)
