"""What ablations of heads are told by: shares of the score that go with heads, by type."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr

from ih_jax.experiments.olsson2022 import models
from ih_jax.experiments.olsson2022.models import INDUCTION

MATTERS = 0.1  # share of the score from which on a head matters
PREVIOUS = 0.5  # attention to the previous token from which on a head is called one for it


def names_of(results: xr.Dataset, mlp: bool) -> list[str]:
    """Models of two layers or more, with or without MLPs, without smeared keys."""
    every = [str(name) for name in results["model"].values]
    deep = [n for n in every if not n.startswith("1L") and "smeared" not in n]
    return [n for n in deep if ("MLP" in n) is mlp]


def _end(seed: xr.Dataset, name: str) -> tuple[np.ndarray, ...]:
    """Of every head at the end: score and projection, prefix matching, previous token."""
    own = seed.sel(model=name).isel(checkpoint=-1)
    flat = [
        own[each].values.ravel()
        for each in ("score", "projection", "prefix_matching", "previous_token")
    ]
    there = np.isfinite(flat[2])
    return tuple(each[there] for each in flat)


def _whole(seed: xr.Dataset, name: str) -> float:
    return float(seed["whole"].sel(model=name))


def removed_together(kind: str) -> Callable[[xr.Dataset, str], float]:
    """Share of a network's score that goes with all induction heads."""

    def value(seed: xr.Dataset, name: str) -> float:
        return float(seed[f"joint_{kind}"].sel(model=name)) / -models.enough(_whole(seed, name))

    return value


def _shares(seed: xr.Dataset, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of every head at the end: share of the score lost with it, and both its scores."""
    score, _, prefix, previous = _end(seed, name)
    return score / -models.enough(_whole(seed, name)), prefix, previous


def matching_and_share(seed: xr.Dataset, name: str) -> np.ndarray:
    share, prefix, _ = _shares(seed, name)
    return np.stack([prefix, share], axis=1)


def stand_out(seed: xr.Dataset, name: str) -> float:
    """Largest share lost with an induction head, less that with a head of neither kind."""
    share, prefix, previous = _shares(seed, name)
    others = (prefix < INDUCTION) & (previous < PREVIOUS)
    if not (prefix >= INDUCTION).any() or not others.any():
        return float("nan")
    return float(share[prefix >= INDUCTION].max() - share[others].max())


def mean_projection(seed: xr.Dataset, name: str) -> float:
    """Mean projection of the induction heads, nats."""
    _, projection, prefix, _ = _end(seed, name)
    found = projection[(prefix >= INDUCTION) & np.isfinite(projection)]
    return float(found.mean()) if found.size else float("nan")


def furthest(seed: xr.Dataset, name: str) -> float:
    """Prefix matching of the head whose removal goes furthest back."""
    _, projection, prefix, _ = _end(seed, name)
    known = np.isfinite(projection).all()
    return float(prefix[int(np.argmin(projection))]) if known else float("nan")


def strengthened(seed: xr.Dataset, name: str) -> float:
    """Share of the heads of neither kind whose removal strengthens the score."""
    share, prefix, previous = _shares(seed, name)
    found = share[(prefix < INDUCTION) & (previous < PREVIOUS)]
    return float(np.mean(found < 0)) if np.isfinite(found).any() else float("nan")


def before_the_window(seed: xr.Dataset, name: str) -> float:
    """Largest effect of a head before the window, over the largest at the end."""
    window = models.window_of(seed, name, "curve")
    if window is None:
        return float("nan")
    score = abs(seed["score"].sel(model=name))
    before = score.where(score["checkpoint"] <= window.start, drop=True)
    return float(before.max() / score.isel(checkpoint=-1).max())


def peak(seed: xr.Dataset, name: str) -> float:
    """The largest effect on the score, over the sum of all that serve it."""
    score = _end(seed, name)[0]
    served = score[score > 0]
    return float(served.max() / served.sum()) if served.size else float("nan")


def matters(seed: xr.Dataset, name: str) -> int:
    """Heads that take a tenth of the score with them and are not induction heads."""
    score, _, prefix, _ = _end(seed, name)
    share = score / -_whole(seed, name)
    return int(((share >= MATTERS) & (prefix < INDUCTION)).sum())


def by_type(seed: xr.Dataset, name: str, full: bool = False) -> dict[str, np.ndarray]:
    """Shares of the score lost with each head, by type; one that is both is an induction head."""
    share, prefix, previous = _shares(seed, name)
    if full:
        own = seed["full_score"].sel(model=name).values.ravel()
        share = own[np.isfinite(own)] / -models.enough(_whole(seed, name))
    induction = prefix >= INDUCTION
    back = (previous >= PREVIOUS) & ~induction
    return {
        "induction": share[induction],
        "previous": share[back],
        "neither": share[~induction & ~back],
    }


def mean_share(shares: np.ndarray) -> float:
    return float(shares.mean()) if shares.size else float("nan")


def more_than_neither(seed: xr.Dataset, name: str) -> float:
    """Mean share of induction heads, less that of heads of neither type."""
    shares = by_type(seed, name)
    return mean_share(shares["induction"]) - mean_share(shares["neither"])


def with_a_previous_token_head(seed: xr.Dataset, name: str) -> float:
    """Mean share of previous-token heads."""
    return mean_share(by_type(seed, name)["previous"])


def more_recomputed(seed: xr.Dataset, name: str) -> float:
    """Mean share of previous-token heads with all recomputed, less that with patterns kept."""
    return mean_share(by_type(seed, name, full=True)["previous"]) - with_a_previous_token_head(
        seed, name
    )


def matters_most(seed: xr.Dataset, name: str) -> float:
    """The largest share of a head of neither type."""
    found = by_type(seed, name)["neither"]
    return float(found.max()) if found.size else float("nan")


def most_opposite(seed: xr.Dataset, name: str) -> float:
    """The lowest share of an induction head: below 0, its removal strengthens the score."""
    found = by_type(seed, name)["induction"]
    return float(found.min()) if found.size else float("nan")


def peaked(seed: xr.Dataset, name: str) -> float:
    """How peaked effects are, less the mean of other models of two layers or more with MLPs."""
    others = [peak(seed, other) for other in names_of(seed, mlp=True) if other != name]
    if not others or not np.isfinite(models.enough(_whole(seed, name))):
        return float("nan")
    return peak(seed, name) - float(np.mean(others))


def alone(name: str) -> Callable[[xr.Dataset], list[str]]:
    """This model alone, if it is there."""
    return lambda results: [each for each in of_both_kinds(results) if each == name]


def attention_only(results: xr.Dataset) -> list[str]:
    return names_of(results, mlp=False)


def with_mlps(results: xr.Dataset) -> list[str]:
    return names_of(results, mlp=True)


def of_both_kinds(results: xr.Dataset) -> list[str]:
    return [*names_of(results, mlp=False), *names_of(results, mlp=True)]
