"""What argument 1 of Olsson et al. 2022 is told by: numbers of one network, or yes and no."""

from __future__ import annotations

import numpy as np
import xarray as xr

from ih_jax.claims import (
    Bounds,
    known,
)
from ih_jax.claims import phase_change as changes
from ih_jax.experiments.olsson2022 import models
from ih_jax.experiments.olsson2022.models import deep, shallow

FEW = 15  # snapshots that the paper kept of its large models
FAR = 40  # index from which on the derivative along the context is looked at
TURN = 45.0  # degrees


def in_a_fifth(scores: xr.DataArray) -> bool:
    """Whether 75% of the final score, and 0.15 nats, are got within a fifth of training."""
    nats, share = changes.largest_fall(scores.values, scores[scores.dims[0]].values)
    return nats >= changes.LEAST and share >= changes.SHARE


def snapshots(results: xr.Dataset) -> np.ndarray:
    """Fifteen of the checkpoints, evenly in the logarithm of tokens, as the paper kept them."""
    seen = results["checkpoint"].values
    wanted = np.geomspace(seen[1], seen[-1], FEW)
    return np.unique([int(np.abs(seen - each).argmin()) for each in wanted])


def sparse(seed: xr.Dataset, name: str) -> xr.DataArray:
    return seed["score_at"].isel(pair=0, checkpoint=snapshots(seed)).sel(model=name)


def _final(seed: xr.Dataset, name: str) -> float:
    return float(seed["score"].sel(model=name).isel(tokens=slice(-20, None)).median("tokens"))


def of_two_layers(seed: xr.Dataset, name: str) -> float:
    """Final score of a one-layer model over that of the two-layer model of its kind."""
    return _final(seed, name) / models.enough(_final(seed, _two_layers(name)))


def _two_layers(name: str) -> str:
    return name.replace("1L", "2L")


def move_after(seed: xr.Dataset, name: str) -> float:
    """Largest change of a model's score after its window, over its final value."""
    window, score = models.window_of(seed, name), seed["score"].sel(model=name)
    if window is None:
        return float("nan")
    after = score.where(score["tokens"] >= window.end, drop=True)
    smooth = after.rolling(tokens=5, center=True).mean().dropna("tokens")
    return float((smooth.max() - smooth.min()) / abs(score[-10:].median()))


def spread_of_sizes(seed: xr.Dataset) -> float:
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


def bump_in_window(seed: xr.Dataset, name: str) -> bool:
    """Whether the loss curve is least convex within the window, or as long before as it lasts."""
    window, loss = models.window_of(seed, name), seed["loss"].sel(model=name)
    at = changes.bump(loss.values, loss["tokens"].values).tokens
    return window is not None and 2 * window.start - window.end <= at <= window.end


def bump_over_two_layers(seed: xr.Dataset, name: str) -> float:
    """Height of a one-layer model's bump over that of two layers; NaN where these have none."""
    own, other = (
        changes.bump(loss.values, loss["tokens"].values).height
        for loss in (seed["loss"].sel(model=each) for each in (name, _two_layers(name)))
    )
    return own / other if other else float("nan")


def slope(seed: xr.Dataset, name: str, last: bool) -> float:
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


def steeper(seed: xr.Dataset, name: str) -> float:
    """Slope at the end less that before the window; NaN without one."""
    if models.window_of(seed, name) is None:
        return float("nan")
    return slope(seed, name, last=True) - slope(seed, name, last=False)


def turn(seed: xr.Dataset, name: str, at: str | None = None) -> float:
    """Degrees by which the path of per-token losses turns in the window (of model `at`)."""
    window = models.window_of(seed, at or name)
    if window is None:
        return float("nan")
    path = seed["path"].sel(model=name)
    return changes.turning_angle(path.values, path["checkpoint"].values, window)


def turn_of_one_layer(seed: xr.Dataset, name: str) -> float:
    """0 where it has come to rest by then, NaN where the two-layer model has no window."""
    other = _two_layers(name)
    if models.window_of(seed, other) is None:
        return float("nan")
    angle = turn(seed, name, at=other)
    return 0.0 if np.isnan(angle) else angle


def pairs_apart(seed: xr.Dataset, name: str) -> Bounds:
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


def gained_before(seed: xr.Dataset, name: str) -> float:
    """Loss below the one-layer model's: the gap before the window over the gap at the end."""
    gap = seed["loss"].sel(model=name.replace(name[:2], "1L")) - seed["loss"].sel(model=name)
    window = models.window_of(seed, name)
    if window is None:
        return float("nan")
    before = gap.where(gap["tokens"] <= window.start, drop=True)[-5:]
    return float(before.median() / gap[-5:].median())


def forms_with_few(seed: xr.Dataset, name: str) -> float | bool:
    """As `forms_in_window`, from fifteen snapshots; NaN where there are too few even of these."""
    few = seed.isel(checkpoint=snapshots(seed))
    if few.sizes["checkpoint"] < changes.FEWEST:
        return float("nan")
    scores, best = sparse(seed, name), few["prefix_matching"].sel(model=name)
    window = changes.phase_change(scores.values, scores["checkpoint"].values)
    half = best["checkpoint"].values[int(np.argmax(best.values >= best.values[-1] / 2))]
    return window is not None and bool(window.start <= half <= window.end)


def best_at_end(seed: xr.Dataset, name: str) -> float:
    return float(seed["prefix_matching"].sel(model=name).isel(checkpoint=-1))


def two_layer_kinds(results: xr.Dataset) -> list[str]:
    """Deep models of whose kind there is a one-layer model too."""
    return [name for name in deep(results) if name.replace(name[:2], "1L") in shallow(results)]
