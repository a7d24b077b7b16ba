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

MATTERS, NOISE = 0.1, 0.01  # shares of the score: of a head that matters; that say nothing
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


def _more_than_neither(seed: xr.Dataset, name: str) -> float:
    """Mean share of induction heads, less that of heads of neither type."""
    shares = by_type(seed, name)
    return mean_share(shares["induction"]) - mean_share(shares["neither"])


def _previous(seed: xr.Dataset, name: str) -> float:
    """Mean share of previous-token heads."""
    return mean_share(by_type(seed, name)["previous"])


def _previous_recomputed(seed: xr.Dataset, name: str) -> float:
    """Mean share of previous-token heads with all recomputed, less that with patterns kept."""
    return mean_share(by_type(seed, name, full=True)["previous"]) - _previous(seed, name)


def _matters_most(seed: xr.Dataset, name: str) -> float:
    """The largest share of a head of neither type."""
    found = by_type(seed, name)["neither"]
    return float(found.max()) if found.size else float("nan")


def _most_opposite(seed: xr.Dataset, name: str) -> float:
    """The lowest share of an induction head: below 0, its removal strengthens the score."""
    found = by_type(seed, name)["induction"]
    return float(found.min()) if found.size else float("nan")


def _peaked(seed: xr.Dataset, name: str) -> float:
    """How peaked effects are, less the mean of other models of two layers or more with MLPs."""
    others = [peak(seed, other) for other in names_of(seed, mlp=True) if other != name]
    if not others or not np.isfinite(models.enough(_whole(seed, name))):
        return float("nan")
    return peak(seed, name) - float(np.mean(others))


def _one(name: str) -> Callable[[xr.Dataset], list[str]]:
    """This model alone, if it is there."""
    return lambda results: [each for each in _all(results) if each == name]


def _attention_only(results: xr.Dataset) -> list[str]:
    return names_of(results, mlp=False)


def _with_mlps(results: xr.Dataset) -> list[str]:
    return names_of(results, mlp=True)


def _all(results: xr.Dataset) -> list[str]:
    return [*names_of(results, mlp=False), *names_of(results, mlp=True)]


SOURCE = "argument 3 (direct ablation)"
CURIOSITIES = "unexplained curiosities"
AFTER = " (Stated after init seeds 5 to 9 had been seen.)"
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
    Claim(
        "by type: induction heads",
        "An induction head costs more than a head that is neither that nor a previous-token head."
        + AFTER,
        in_most("difference", of_models(_all, _more_than_neither), more_than(0)),
        paper="induction heads stand out",
        source=SOURCE,
        estimand="mean share of the score lost with one of a network's induction heads, less that "
        "with one of its heads of neither type, patterns preserved",
        primary=False,
        grade="strong",
    ),
    Claim(
        "by type: previous-token heads",
        "A previous-token head costs little while the patterns that rest on it are kept." + AFTER,
        in_most("share", of_models(_all, _previous), below(MATTERS)),
        paper="about 0",
        source=SOURCE,
        estimand="mean share of the score lost with one of a network's previous-token heads, "
        "patterns preserved, below a tenth",
        primary=False,
        grade="strong",
    ),
    Claim(
        "by type: previous-token heads, recomputed",
        "A previous-token head costs more when patterns are computed anew." + AFTER,
        in_most("difference", of_models(_all, _previous_recomputed), more_than(0)),
        paper="not shown",
        estimand="the same share with everything after the head computed anew, less that with "
        "patterns preserved",
        kind="hypothesis",
        primary=False,
    ),
    Claim(
        "curiosity: six layers",
        "In the six-layer attention-only model a head matters that is no induction head." + AFTER,
        in_most("share", of_models(_one("6L"), _matters_most), more_than(MATTERS)),
        paper="one such head (n = 1)",
        source=CURIOSITIES,
        estimand="largest share of the score lost with a head of neither type, above a tenth",
        primary=False,
        grade="weak",
    ),
    Claim(
        "curiosity: four layers with MLPs",
        "In the four-layer model with MLPs no heads stand out as in other models." + AFTER,
        in_most("difference", of_models(_one("4L MLP"), _peaked), below(0)),
        paper="not peaked (n = 1)",
        source=CURIOSITIES,
        estimand="largest effect on the score over the sum of all that serve it, less the mean of "
        "that over other models of two layers or more with MLPs of the same seed",
        primary=False,
        grade="weak",
    ),
    Claim(
        "curiosity: six layers with MLPs",
        "In the six-layer model with MLPs an induction head has the opposite effect." + AFTER,
        in_most("lowest share", of_models(_one("6L MLP"), _most_opposite), below(-NOISE)),
        paper="one such head (n = 1)",
        source=CURIOSITIES,
        estimand="lowest share of the score lost with an induction head, below -.01: its removal "
        "strengthens the score by more than rounding and chance",
        primary=False,
        grade="weak",
    ),
)
