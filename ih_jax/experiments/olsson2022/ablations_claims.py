"""What is claimed of removing heads, and what the claims read."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr

from ih_jax.claims import (
    Claim,
    below,
    correlation,
    in_most,
    more_than,
    pooled,
)
from ih_jax.experiments.olsson2022 import models
from ih_jax.experiments.olsson2022.models import INDUCTION, of_models

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


def _removed(kind: str) -> Callable[[xr.Dataset, str], float]:
    """Share of a network's score that goes with all induction heads."""

    def value(seed: xr.Dataset, name: str) -> float:
        return float(seed[f"joint_{kind}"].sel(model=name)) / -models.enough(_whole(seed, name))

    return value


def _shares(seed: xr.Dataset, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of every head at the end: share of the score lost with it, and both its scores."""
    score, _, prefix, previous = _end(seed, name)
    return score / -models.enough(_whole(seed, name)), prefix, previous


def _matching_and_share(seed: xr.Dataset, name: str) -> np.ndarray:
    share, prefix, _ = _shares(seed, name)
    return np.stack([prefix, share], axis=1)


def _stand_out(seed: xr.Dataset, name: str) -> float:
    """Largest share lost with an induction head, less that with a head of neither kind."""
    share, prefix, previous = _shares(seed, name)
    others = (prefix < INDUCTION) & (previous < PREVIOUS)
    if not (prefix >= INDUCTION).any() or not others.any():
        return float("nan")
    return float(share[prefix >= INDUCTION].max() - share[others].max())


def _back(seed: xr.Dataset, name: str) -> float:
    """Mean projection of the induction heads, nats."""
    _, projection, prefix, _ = _end(seed, name)
    found = projection[(prefix >= INDUCTION) & np.isfinite(projection)]
    return float(found.mean()) if found.size else float("nan")


def _furthest(seed: xr.Dataset, name: str) -> float:
    """Prefix matching of the head whose removal goes furthest back."""
    _, projection, prefix, _ = _end(seed, name)
    known = np.isfinite(projection).all()
    return float(prefix[int(np.argmin(projection))]) if known else float("nan")


def _strengthened(seed: xr.Dataset, name: str) -> float:
    """Share of the heads of neither kind whose removal strengthens the score."""
    share, prefix, previous = _shares(seed, name)
    found = share[(prefix < INDUCTION) & (previous < PREVIOUS)]
    return float(np.mean(found < 0)) if np.isfinite(found).any() else float("nan")


def _before(seed: xr.Dataset, name: str) -> float:
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
    return int(((share >= 0.1) & (prefix < INDUCTION)).sum())


def _attention_only(results: xr.Dataset) -> list[str]:
    return names_of(results, mlp=False)


def _with_mlps(results: xr.Dataset) -> list[str]:
    return names_of(results, mlp=True)


def _all(results: xr.Dataset) -> list[str]:
    return [*names_of(results, mlp=False), *names_of(results, mlp=True)]


SOURCE = "argument 3 (direct ablation)"
CLAIMS = (
    Claim(
        "induction heads carry it: attention only",
        "In small attention-only models induction heads account for most of in-context learning.",
        in_most("share", of_models(_attention_only, _removed("patterns")), more_than(0.5)),
        paper="almost all of it",
        source=SOURCE,
        estimand="share of a network's score that is lost with all heads of prefix matching above "
        "0.5, patterns preserved, above one half; over networks (model and seed)",
        grade="strong",
    ),
    Claim(
        "the same, all recomputed",
        "So with full removal.",
        in_most("share", of_models(_attention_only, _removed("full")), more_than(0.5)),
        paper="almost all of it",
        source=SOURCE,
        estimand="the same, with everything after the heads computed anew",
        primary=False,
        grade="strong",
    ),
    Claim(
        "induction heads carry it: with MLPs",
        "In small models with MLPs they account for the majority of it.",
        in_most("share", of_models(_with_mlps, _removed("patterns")), more_than(0.5)),
        paper="the majority",
        source=SOURCE,
        estimand="the same share, of models with MLPs",
        grade="medium",
    ),
    Claim(
        "the more it matches, the more it carries",
        "It is the heads that match prefixes whose removal costs in-context learning.",
        pooled(
            "rank correlation",
            of_models(_attention_only, _matching_and_share),
            correlation(ranks=True),
        ),
        paper="induction heads stand out",
        source=SOURCE,
        estimand="rank correlation of prefix matching with the share of the score lost with a "
        "head, over all heads of attention-only networks",
        primary=False,
        grade="strong",
    ),
    Claim(
        "others do not",
        "No other head costs as much as an induction head.",
        in_most("difference", of_models(_attention_only, _stand_out), more_than(0)),
        paper="about 0",
        source=SOURCE,
        estimand="largest share of the score lost with a head of prefix matching above 0.5, less "
        "the largest with one that has neither that nor previous-token attention above 0.5",
        grade="strong",
    ),
    Claim(
        "back along the change",
        "Removing an induction head undoes the change of per-token losses in the window.",
        in_most("nats", of_models(_all, _back), below(0)),
        paper="strongly negative",
        source=f"{SOURCE}: before-and-after vector",
        estimand="mean projection, over a network's induction heads, of what removal does to "
        "per-token losses on the direction of the change",
        grade="strong",
    ),
    Claim(
        "furthest back",
        "The head whose removal goes furthest back is an induction head.",
        in_most("prefix matching", of_models(_all, _furthest), more_than(0.5)),
        paper="induction heads stand out",
        source=f"{SOURCE}: before-and-after vector",
        estimand="prefix matching of the head of most negative projection, above 0.5",
        primary=False,
        grade="strong",
    ),
    Claim(
        "the opposite sign",
        "Removing one of most other heads strengthens in-context learning a little.",
        in_most("share of other heads", of_models(_all, _strengthened), more_than(0.5)),
        paper="most other heads slightly",
        source=SOURCE,
        estimand="share, of a network's heads of neither kind, of those whose removal makes the "
        "score more negative, above one half",
        grade="medium",
    ),
    Claim(
        "not before the window",
        "Heads come to matter in the window.",
        in_most("before / end", of_models(_all, _before), below(0.5)),
        paper="effects appear in the window",
        source=SOURCE,
        estimand="largest effect of a head on a network's score before its window, over the "
        "largest at the end, below one half",
        primary=False,
        grade="strong",
    ),
)
